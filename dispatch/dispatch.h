/* From an instruction set to its kernel table. */
#ifndef FFF_DISPATCH_H
#define FFF_DISPATCH_H

#include "kernels/kernels.h"

#include <fff/fff.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The table of an instruction set, NULL if the library was built without it. Says nothing about
 * whether this CPU can run it: fff_isa_usable() does. */
const struct fff_kernels *fff_kernels_of(fff_isa isa);

/* Whether an activation calls SLEEF. */
static inline bool fff_uses_sleef(fff_activation activation) {
    return activation == FFF_ACTIVATION_GELU_TANH || activation == FFF_ACTIVATION_SILU;
}

#ifdef __cplusplus
}
#endif

#endif
