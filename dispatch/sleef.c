/* Which SLEEF was loaded, and whether its bits are the recorded ones. */
#include "dispatch/dispatch.h"

#include <dlfcn.h>
#include <sleef.h>
#include <string.h>

const char *fff_sleef_path(void) {
    float (*function)(float) = Sleef_cinz_expf1_u10purec;
    void *address;
    Dl_info found;
    memcpy(&address, &function, sizeof address); /* ISO C has no cast from a function's address */
    return dladdr(address, &found) != 0 ? found.dli_fname : NULL;
}

fff_status fff_sleef_check(fff_isa isa) {
    return fff_isa_choose(isa, &isa);
}
