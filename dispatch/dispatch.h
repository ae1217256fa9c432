/* From an instruction set to its kernel table. */
#ifndef FFF_DISPATCH_H
#define FFF_DISPATCH_H

#include "kernels/kernels.h"

#include <fff/fff.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The table of an instruction set, of the variant that this CPU has; NULL if the library was built without it. Says
 * nothing about whether this CPU can run it: fff_isa_usable() does. */
const struct fff_kernels *fff_kernels_of(fff_isa isa);

/* FFF_OK, or FFF_ERROR_SLEEF if what an activation needs of SLEEF returns other bits than the recorded ones. The
 * instruction set is one that was chosen. */
fff_status fff_sleef_check_activation(fff_isa isa, fff_activation activation);

/* Likewise, if what its derivative needs does. */
fff_status fff_sleef_check_derivative(fff_isa isa, fff_activation activation);

/* The bytes of the second-level cache, if the CPU itself tells; else 0. */
size_t fff_cpu_l2_bytes(void);

#ifdef __cplusplus
}
#endif

#endif
