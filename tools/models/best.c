#include "tools/models/best.h"

/* For each type of values. */
#define DEFINE_BEST(name, type)                                                                                        \
    void name(const type *values, size_t count, size_t best[BEST]) {                                                   \
        size_t found = 0;                                                                                              \
        for (size_t i = 0; i < count; i++) {                                                                           \
            size_t at = found < BEST ? found++ : BEST;                                                                 \
            for (; at > 0 && values[best[at - 1]] < values[i]; at--) {                                                 \
                if (at < BEST) {                                                                                       \
                    best[at] = best[at - 1];                                                                           \
                }                                                                                                      \
            }                                                                                                          \
            if (at < BEST) {                                                                                           \
                best[at] = i;                                                                                          \
            }                                                                                                          \
        }                                                                                                              \
    }
DEFINE_BEST(best_of, float)
DEFINE_BEST(best_of_f64, double)
