/* The largest of many values: predictions. */
#ifndef FFF_TOOLS_MODELS_BEST_H
#define FFF_TOOLS_MODELS_BEST_H

#include <stddef.h>

enum { BEST = 5 };

/* The indices of the largest values, largest first, equal ones by index: BEST of them, or `count` if those are fewer.
 */
void best_of(const float *values, size_t count, size_t best[BEST]);
void best_of_f64(const double *values, size_t count, size_t best[BEST]);

#endif
