/* libfff with a fff_forward() that computes everything four times, for bench/paired.py to notice: a library that comes
 * before the real one, which has all other functions. */
#include <dlfcn.h>
#include <fff/fff.h>
#include <string.h>

__attribute__((visibility("default"))) fff_status fff_forward(const fff_layer *layer, size_t batch, const float *input,
                                                              size_t input_stride, float *output, size_t output_stride,
                                                              void *workspace, size_t workspace_size,
                                                              const fff_runner *runner) {
    __typeof__(fff_forward) *forward;
    void *found = dlsym(RTLD_NEXT, "fff_forward");
    memcpy(&forward, &found, sizeof forward);
    fff_status status = FFF_OK;
    for (int i = 0; i < 4 && status == FFF_OK; i++) {
        status = forward(layer, batch, input, input_stride, output, output_stride, workspace, workspace_size, runner);
    }
    return status;
}
