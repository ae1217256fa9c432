#!/bin/bash
# scripts/ci_quick.sh: what to know of a change within five minutes on two cores: it compiles without warnings, the native tests in C
# pass with few sizes, the library exports what it should and has AVX only in its kernels, and formatting and documentation hold.
# `.ci/run` is the whole. Ends with a line "N passed, N failed"; fails if anything did.
set -u
CDPATH='' cd "$(dirname "$0")/.." || exit
. scripts/check.sh
export FFF_TEST_SHORT=1 FFF_TEST_SEED="${FFF_TEST_SEED:-$(date +%s)}"
echo "FFF_TEST_SEED=$FFF_TEST_SEED repeats this run"

check "clang-format" clang-format --dry-run --Werror $(git ls-files '*.c' '*.h' '*.cc')
[ -f build-quick/build.ninja ] || check "configure" meson setup build-quick -Dwerror=true -Dtests=enabled -Dbench=disabled
check "compile without warnings" ninja -C build-quick
check "tests" meson test -C build-quick --no-rebuild --print-errorlogs --no-suite script
check "a trained layer, verified" env FFF_ISA= build-quick/tools/fff verify models/fashion_mnist_4x4/model.safetensors
check "exports, and where AVX is" scripts/check_library.sh build-quick
check "header in C and C++, the README and its programs" scripts/check_header.sh build-quick
check "documentation: links, excerpts, commands" scripts/check_docs.sh build-quick
summary
