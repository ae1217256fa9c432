/* Fuzz targets: each file defines this one function (libFuzzer's, llvm.org/docs/LibFuzzer.html), which must return
 * whatever the bytes are. scripts/fuzz.sh runs them with new inputs, `make test` with those in corpus/. */
#ifndef FFF_TESTS_FUZZ_H
#define FFF_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
