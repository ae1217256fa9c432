/* libfff with a fff_forward() that is wrong by a bit for batches of FFF_WRONG_BATCH tokens, for `fff verify` and
 * `fff bench` to notice: a library that comes before the real one, which has all other functions. */
#include <dlfcn.h>
#include <fff/fff.h>
#include <stdlib.h>
#include <string.h>

__attribute__((visibility("default"))) fff_status fff_forward(const fff_layer *layer, size_t batch, const float *input,
                                                              size_t input_stride, float *output, size_t output_stride,
                                                              void *workspace, size_t workspace_size,
                                                              const fff_runner *runner) {
    __typeof__(fff_forward) *forward;
    void *found = dlsym(RTLD_NEXT, "fff_forward");
    memcpy(&forward, &found, sizeof forward);
    fff_status status =
        forward(layer, batch, input, input_stride, output, output_stride, workspace, workspace_size, runner);
    const char *wrong = getenv("FFF_WRONG_BATCH");
    if (status == FFF_OK && wrong != NULL && (size_t)atoi(wrong) == batch) {
        uint32_t bits;
        memcpy(&bits, output, sizeof bits);
        bits ^= 1;
        memcpy(output, &bits, sizeof bits);
    }
    return status;
}
