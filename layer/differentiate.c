#include "dispatch/dispatch.h"
#include "dispatch/fp_environment.h"
#include "layer/rows.h"

fff_status fff_differentiate(fff_isa isa, fff_activation activation, fff_sleef sleef, size_t count, const float *logits,
                             const float *upstream, float *gradients) {
    if ((unsigned)activation >= FFF_ACTIVATION_COUNT || (unsigned)sleef > FFF_SLEEF_ANY) {
        return FFF_ERROR_OPTION;
    }
    fff_status status = fff_isa_choose(isa, &isa);
    if (status == FFF_OK && sleef == FFF_SLEEF_RECORDED) {
        status = fff_sleef_check_derivative(isa, activation);
    }
    if (status != FFF_OK || count == 0) {
        return status;
    }
    struct fff_rows read[2], written;
    status = fff_check_rows(logits, 1, count, count, &read[0]);
    status = status == FFF_OK ? fff_check_rows(upstream, 1, count, count, &read[1]) : status;
    status = status == FFF_OK ? fff_check_rows(gradients, 1, count, count, &written) : status;
    for (size_t i = 0; i < 2 && status == FFF_OK; i++) {
        if (read[i].start != written.start && fff_rows_overlap(&read[i], &written)) {
            status = FFF_ERROR_OVERLAP;
        }
    }
    if (status != FFF_OK) {
        return status;
    }
    fff_fp_environment callers = fff_fp_enter();
    fff_kernels_of(isa)->differentiate(activation, count, logits, upstream, gradients);
    fff_fp_leave(callers);
    return FFF_OK;
}
