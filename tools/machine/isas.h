/* The instruction sets of this machine. */
#ifndef FFF_TOOLS_MACHINE_ISAS_H
#define FFF_TOOLS_MACHINE_ISAS_H

#include <fff/fff.h>

/* Those usable here, in order; at most FFF_ISA_COUNT - 1. */
size_t usable_isas(fff_isa *isas);

#endif
