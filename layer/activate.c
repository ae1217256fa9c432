#include "dispatch/dispatch.h"
#include "dispatch/fp_environment.h"
#include "layer/size.h"

fff_status fff_activate(fff_isa isa, fff_activation activation, fff_sleef sleef, size_t count, const float *logits,
                        float *activations) {
    if ((unsigned)activation >= FFF_ACTIVATION_COUNT || (unsigned)sleef > FFF_SLEEF_ANY) {
        return FFF_ERROR_OPTION;
    }
    fff_status status = fff_isa_choose(isa, &isa);
    if (status == FFF_OK && sleef == FFF_SLEEF_RECORDED) {
        status = fff_sleef_check_activation(isa, activation);
    }
    if (status != FFF_OK || count == 0) {
        return status;
    }
    if (logits == NULL || activations == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    uintptr_t from = (uintptr_t)logits, to = (uintptr_t)activations;
    if (from % sizeof(float) != 0 || to % sizeof(float) != 0) {
        return FFF_ERROR_ALIGNMENT;
    }
    size_t bytes, unused;
    if (!fff_size_multiply(count, sizeof(float), &bytes) || !fff_size_add(from, bytes, &unused) ||
        !fff_size_add(to, bytes, &unused)) {
        return FFF_ERROR_OVERFLOW;
    }
    if (from != to && from < to + bytes && to < from + bytes) {
        return FFF_ERROR_OVERLAP;
    }
    fff_fp_environment callers = fff_fp_enter();
    fff_kernels_of(isa)->activate(activation, count, logits, activations);
    fff_fp_leave(callers);
    return FFF_OK;
}
