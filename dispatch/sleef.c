/* Which SLEEF was loaded, and whether its bits are the recorded ones.
 *
 * SLEEF's deterministic functions are deterministic within a version. Another libsleef.so.3 may round exp or tanh
 * otherwise, and a layer whose activation uses them would have other results than elsewhere, without a word. So the
 * activations themselves are probed, by the very kernels that the layer will use: a difference that no activation shows
 * is none.
 */
#include "dispatch/dispatch.h"
#include "dispatch/fp_environment.h"

#include <dlfcn.h>
#include <sleef.h>
#include <string.h>

struct probe {
    float logit, activation;
};

/* Recorded with SLEEF 3.5.1, with which 3.6.1 and 3.9.0 agree. Each is the logit of some range at which SLEEF's result
 * is farthest from the exact value, so that another algorithm most likely differs there, among those whose activation
 * changes if that result moves by one bit either way. */
static const struct probe GELU_TANH[] = {
    {-0x1.48ead8p-2f, -0x1.ec1bb6p-4f}, {-0x1.b69c2ap-2f, -0x1.25310ep-3f}, {-0x1.1d6da8p-1f, -0x1.498d2ap-3f},
    {0x1.5cb8d6p-1f, 0x1.063f0ap-1f},   {-0x1.353d82p-1f, -0x1.51ab3cp-3f}, {0x1.faa86ep-1f, 0x1.a8e96ep-1f},
    {-0x1.fb9428p-1f, -0x1.46affap-3f}, {0x1.1ecb4p+0f, 0x1.f22e1p-1f},     {-0x1.1a8a5ep+0f, -0x1.313a4cp-3f},
    {0x1.6098eep+0f, 0x1.42d8e8p+0f},   {-0x1.526d7ap+0f, -0x1.f9008ep-4f}, {0x1.c9004cp+0f, 0x1.b804ccp+0f},
    {-0x1.c6a47cp+0f, -0x1.13d2e4p-4f}, {0x1.2c9944p+1f, 0x1.29cff4p+1f},   {-0x1.2abb1ep+1f, -0x1.70e9dcp-6f},
    {0x1.613dbep+1f, 0x1.60479p+1f},    {-0x1.68fb9cp+1f, -0x1.9d42c4p-8f},
};
static const struct probe SILU[] = {
    {-0x1.3d9ea8p+6f, -0x1.afbf98p-109f}, {-0x1.199e4ap+6f, -0x1.7aca9ep-96f}, {-0x1.0e8f18p+6f, -0x1.691b58p-92f},
    {-0x1.da75bep+5f, -0x1.413e14p-80f},  {-0x1.925c82p+5f, -0x1.10cf82p-67f}, {-0x1.818a48p+5f, -0x1.0b8b0ap-64f},
    {-0x1.33f238p+5f, -0x1.a957d6p-51f},  {-0x1.291c5cp+5f, -0x1.8d8114p-49f}, {-0x1.aafdcep+4f, -0x1.2db016p-34f},
    {-0x1.9fe872p+4f, -0x1.25bad8p-33f},  {-0x1.f46ap+3f, -0x1.533fbep-19f},   {-0x1.b0eb84p+3f, -0x1.2e5aa2p-16f},
    {-0x1.d400f8p+2f, -0x1.3f7d2p-8f},    {-0x1.a7a472p+2f, -0x1.21032p-7f},   {-0x1.7c0706p+2f, -0x1.ffd628p-7f},
    {-0x1.4fd1dcp+2f, -0x1.c2084ep-6f},   {-0x1.23dcbcp+2f, -0x1.82aa6ep-5f},  {-0x1.ed1048p+1f, -0x1.481826p-4f},
    {-0x1.93059ep+1f, -0x1.09531ep-3f},   {-0x1.c1b016p+0f, -0x1.08cecap-2f},  {-0x1.0a4702p+0f, -0x1.161f94p-2f},
    {-0x1.66a714p-2f, -0x1.287a7ep-3f},   {0x1.4de41p-2f, 0x1.83d94ap-3f},
};

enum { MOST_PROBES = 32 };

/* Of the activations that are computed with SLEEF; the one place that knows which. */
static const struct {
    const struct probe *probes;
    size_t count;
} PROBES[FFF_ACTIVATION_COUNT] = {
    [FFF_ACTIVATION_GELU_TANH] = {GELU_TANH, sizeof GELU_TANH / sizeof *GELU_TANH},
    [FFF_ACTIVATION_SILU] = {SILU, sizeof SILU / sizeof *SILU},
};

static bool as_recorded(const struct fff_kernels *kernels, fff_activation activation) {
    const struct probe *probes = PROBES[activation].probes;
    size_t count = PROBES[activation].count;
    float logits[MOST_PROBES], found[MOST_PROBES];
    for (size_t i = 0; i < count; i++) {
        logits[i] = probes[i].logit;
    }
    kernels->activate(activation, count, logits, found);
    bool same = true;
    for (size_t i = 0; i < count; i++) { /* none is a zero or NaN, so equal values have equal bits */
        same &= found[i] == probes[i].activation;
    }
    return same;
}

_Static_assert(sizeof GELU_TANH / sizeof *GELU_TANH <= MOST_PROBES && sizeof SILU / sizeof *SILU <= MOST_PROBES,
               "more probes than as_recorded() has room for");

int fff_activation_uses_sleef(fff_activation activation) {
    return (unsigned)activation < FFF_ACTIVATION_COUNT && PROBES[activation].count > 0;
}

fff_status fff_sleef_check_activation(fff_isa isa, fff_activation activation) {
    if (!fff_activation_uses_sleef(activation)) {
        return FFF_OK;
    }
    fff_fp_environment callers = fff_fp_enter();
    bool right = as_recorded(fff_kernels_of(isa), activation);
    fff_fp_leave(callers);
    return right ? FFF_OK : FFF_ERROR_SLEEF;
}

fff_status fff_sleef_check(fff_isa isa) {
    fff_status status = fff_isa_choose(isa, &isa);
    for (int activation = 0; activation < FFF_ACTIVATION_COUNT && status == FFF_OK; activation++) {
        status = fff_sleef_check_activation(isa, (fff_activation)activation);
    }
    return status;
}

const char *fff_sleef_path(void) {
    __typeof__(&Sleef_cinz_expf1_u10purec) function = Sleef_cinz_expf1_u10purec;
    void *address;
    Dl_info found;
    memcpy(&address, &function, sizeof address); /* ISO C has no cast from a function's address */
    return dladdr(address, &found) != 0 ? found.dli_fname : NULL;
}
