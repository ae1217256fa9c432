#include "tools/machine/isas.h"

size_t usable_isas(fff_isa *isas) {
    size_t count = 0;
    for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
        if (fff_isa_usable((fff_isa)isa) == FFF_OK) {
            isas[count++] = (fff_isa)isa;
        }
    }
    return count;
}
