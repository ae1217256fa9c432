// Integers of one scale, as fast as a dense layer in int8 needs them.
#ifndef FFF_BENCH_QUANTISE_H
#define FFF_BENCH_QUANTISE_H

#include <cstddef>
#include <cstdint>

namespace bench {

// Rounds all to integers of up to 127, of one scale, which is returned.
float quantise(const float *values, size_t count, int8_t *integers);

} // namespace bench

#endif
