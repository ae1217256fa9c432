/* Which SLEEF was loaded, and whether its bits are the recorded ones.
 *
 * SLEEF's deterministic functions are deterministic within a version. Another libsleef.so.3 may round exp or tanh
 * otherwise, and a layer whose activation uses them would have other results than elsewhere, without a word. So the
 * activations themselves, and their derivatives, are probed, by the very kernels that the layer will use: a difference
 * that none of them shows is none.
 */
#include "dispatch/dispatch.h"
#include "dispatch/fp_environment.h"

#include <sleef.h>
#include <string.h>
#if !defined(_WIN32)
#include <dlfcn.h>
#endif

struct probe {
    float logit, result; /* the activation, or its derivative */
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

/* The same of derivatives, which use exp alone. */
static const struct probe GELU_SLOPE[] = {
    {-0x1.32e8d2p-1f, 0x1.31adc2p-4f},    {-0x1.a987d8p-1f, -0x1.0456b6p-5f},  {-0x1.6d4578p+0f, -0x1.07edb4p-3f},
    {-0x1.199316p+1f, -0x1.06cd6p-4f},    {-0x1.7e1cccp+1f, -0x1.96a9fep-7f},  {-0x1.b5adacp+1f, -0x1.dbd6fcp-9f},
    {-0x1.cfb47ep+1f, -0x1.f129eep-10f},  {-0x1.148796p+2f, -0x1.2ef50cp-13f}, {-0x1.54bcbcp+2f, -0x1.7ef18ep-20f},
    {-0x1.749318p+2f, -0x1.b4624p-24f},   {-0x1.83dc9ap+2f, -0x1.b7a5dap-26f}, {-0x1.c70172p+2f, -0x1.07e746p-35f},
    {-0x1.df8632p+2f, -0x1.0f684cp-39f},  {-0x1.f6a71ap+2f, -0x1.1c6252p-43f}, {-0x1.188886p+3f, -0x1.4a46e2p-54f},
    {-0x1.20164ep+3f, -0x1.4d2aeap-57f},  {-0x1.3e727p+3f, -0x1.778c86p-70f},  {-0x1.5832b4p+3f, -0x1.903538p-82f},
    {-0x1.5e67dp+3f, -0x1.8d033cp-85f},   {-0x1.7d54cp+3f, -0x1.c212e6p-101f}, {-0x1.81112cp+3f, -0x1.c127ccp-103f},
    {-0x1.98528ep+3f, -0x1.dd27eap-116f},
};
static const struct probe GELU_TANH_SLOPE[] = {
    {-0x1.39939cp-1f, 0x1.15933ap-4f},   {-0x1.b63548p+0f, -0x1.d6c86ep-4f},  {-0x1.420d12p+1f, -0x1.2cfe7ap-5f},
    {-0x1.60aee8p+1f, -0x1.631434p-6f},  {-0x1.1dc5c8p+2f, -0x1.2813bep-15f}, {-0x1.406dccp+2f, -0x1.8d9652p-20f},
    {-0x1.8f9672p+2f, -0x1.6add3p-34f},  {-0x1.9430d2p+2f, -0x1.6bc41ep-35f}, {-0x1.ce54ep+2f, -0x1.0d37aap-49f},
    {-0x1.14ab94p+3f, -0x1.be72b8p-80f}, {-0x1.37944cp+3f, -0x1.37bccp-110f}, {-0x1.3d9adcp+3f, -0x1.3d3ca8p-116f},
    {0x1.37edf2p-1f, 0x1.dc6ac8p-1f},    {0x1.630fd8p+0f, 0x1.20f808p+0f},    {0x1.022ddcp+1f, 0x1.159238p+0f},
    {0x1.23856cp+1f, 0x1.0ea704p+0f},
};
static const struct probe SILU_SLOPE[] = {
    {-0x1.7849d2p+2f, -0x1.bc56d4p-7f},   {-0x1.0ef656p+4f, -0x1.79e8cap-21f},  {-0x1.1aa126p+4f, -0x1.7d351cp-22f},
    {-0x1.b53f34p+4f, -0x1.39926ap-35f},  {-0x1.336aeep+5f, -0x1.b9ce38p-51f},  {-0x1.8c2082p+5f, -0x1.1ed5ecp-66f},
    {-0x1.df3cb2p+5f, -0x1.5f359ap-81f},  {-0x1.e4facp+5f, -0x1.5ad516p-82f},   {-0x1.1c01p+6f, -0x1.9ee0fcp-97f},
    {-0x1.4863e8p+6f, -0x1.dda8b2p-113f}, {-0x1.5bd9f8p+6f, -0x1.f3a4aap-120f}, {0x1.049796p+0f, 0x1.ddb808p-1f},
    {0x1.33aabp+1f, 0x1.198f02p+0f},      {0x1.e355ecp+1f, 0x1.0f6f0ap+0f},     {0x1.4990a8p+2f, 0x1.06159ap+0f},
};

enum { MOST_PROBES = 32 };

struct probes {
    const struct probe *probes;
    size_t count;
};

/* Of what is computed with SLEEF; the one place that knows which that is. */
static const struct probes ACTIVATIONS[FFF_ACTIVATION_COUNT] = {
    [FFF_ACTIVATION_GELU_TANH] = {GELU_TANH, sizeof GELU_TANH / sizeof *GELU_TANH},
    [FFF_ACTIVATION_SILU] = {SILU, sizeof SILU / sizeof *SILU},
};
static const struct probes DERIVATIVES[FFF_ACTIVATION_COUNT] = {
    [FFF_ACTIVATION_GELU] = {GELU_SLOPE, sizeof GELU_SLOPE / sizeof *GELU_SLOPE},
    [FFF_ACTIVATION_GELU_TANH] = {GELU_TANH_SLOPE, sizeof GELU_TANH_SLOPE / sizeof *GELU_TANH_SLOPE},
    [FFF_ACTIVATION_SILU] = {SILU_SLOPE, sizeof SILU_SLOPE / sizeof *SILU_SLOPE},
};

_Static_assert(sizeof GELU_TANH / sizeof *GELU_TANH <= MOST_PROBES && sizeof SILU / sizeof *SILU <= MOST_PROBES &&
                   sizeof GELU_SLOPE / sizeof *GELU_SLOPE <= MOST_PROBES &&
                   sizeof GELU_TANH_SLOPE / sizeof *GELU_TANH_SLOPE <= MOST_PROBES &&
                   sizeof SILU_SLOPE / sizeof *SILU_SLOPE <= MOST_PROBES,
               "more probes than check() has room for");

int fff_activation_uses_sleef(fff_activation activation) {
    return (unsigned)activation < FFF_ACTIVATION_COUNT && ACTIVATIONS[activation].count > 0;
}

static fff_status check(fff_isa isa, fff_activation activation, const struct probes *recorded, bool derivative) {
    if (recorded->count == 0) {
        return FFF_OK;
    }
    const struct fff_kernels *kernels = fff_kernels_of(isa);
    float logits[MOST_PROBES], found[MOST_PROBES];
    for (size_t i = 0; i < recorded->count; i++) {
        logits[i] = recorded->probes[i].logit;
        found[i] = 1.0f; /* the upstream gradient */
    }
    fff_fp_environment callers = fff_fp_enter();
    if (derivative) {
        kernels->differentiate(activation, recorded->count, logits, found, found);
    } else {
        kernels->activate(activation, recorded->count, logits, found);
    }
    fff_fp_leave(callers);
    bool same = true;
    for (size_t i = 0; i < recorded->count; i++) { /* none is a zero, denormal or NaN: equal values have equal bits */
        same &= found[i] == recorded->probes[i].result;
    }
    return same ? FFF_OK : FFF_ERROR_SLEEF;
}

fff_status fff_sleef_check_activation(fff_isa isa, fff_activation activation) {
    return check(isa, activation, &ACTIVATIONS[activation], false);
}

fff_status fff_sleef_check_derivative(fff_isa isa, fff_activation activation) {
    return check(isa, activation, &DERIVATIVES[activation], true);
}

fff_status fff_sleef_check(fff_isa isa) {
    fff_status status = fff_isa_choose(isa, &isa);
    for (int activation = 0; activation < FFF_ACTIVATION_COUNT && status == FFF_OK; activation++) {
        status = fff_sleef_check_activation(isa, (fff_activation)activation);
        status = status == FFF_OK ? fff_sleef_check_derivative(isa, (fff_activation)activation) : status;
    }
    return status;
}

#if defined(_WIN32)

const char *fff_sleef_path(void) {
    return NULL; /* Windows tells only into memory of the caller's, of which a constant string has none */
}

#else

const char *fff_sleef_path(void) {
    __typeof__(&Sleef_cinz_expf1_u10purec) function = Sleef_cinz_expf1_u10purec;
    void *address;
    Dl_info found;
    memcpy(&address, &function, sizeof address); /* ISO C has no cast from a function's address */
    return dladdr(address, &found) != 0 ? found.dli_fname : NULL;
}

#endif
