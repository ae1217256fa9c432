// How rows of each type lie in memory: the library's own toolbox, which is C.
#ifndef FFF_BENCH_ROWS_H
#define FFF_BENCH_ROWS_H

#include "kernels/half.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic" // compound literals
#include "kernels/toolbox.h"
#pragma GCC diagnostic pop

#endif
