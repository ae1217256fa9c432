/* A program that was compiled with an older version's header, kept in tests/old/, works with this library: its
 * descriptor is shorter, and what it computes is what it was. OLD_HEADER and OLD_MINOR say which. */
#include OLD_HEADER

#include <stdio.h>
#include <string.h>

_Static_assert(FFF_VERSION_MAJOR == 0 && FFF_VERSION_MINOR == OLD_MINOR, "the old header, not the library's own");

int main(void) {
    static const float in[3 * 2] = {1, 0, 0, 1, 1, 1}, out[3 * 2] = {1, 2, 4, 8, 16, 32}, input[2] = {3, -1};
    struct {
        fff_layer_desc desc;
        unsigned char beyond[256]; /* what a newer library must not look at */
    } program = {.desc = {.struct_size = sizeof(fff_layer_desc),
                          .input_width = 2,
                          .output_width = 2,
                          .depth = 1,
                          .trees = 1,
                          .activation = FFF_ACTIVATION_IDENTITY,
                          .weight_type = FFF_WEIGHT_F32,
                          .input_weights = {in, 2, 1},
                          .output_weights = {out, 2, 1},
                          .sleef = FFF_SLEEF_RECORDED}};
    memset(program.beyond, 0x55, sizeof program.beyond);
#if OLD_MINOR == 2 /* what fills up the last word of its descriptor */
    memset((char *)&program.desc.sleef + sizeof program.desc.sleef, 0x55,
           sizeof program.desc - offsetof(fff_layer_desc, sleef) - sizeof program.desc.sleef);
#endif
    fff_layer *layer = NULL;
    unsigned char workspace[65536];
    float output[2];
    fff_status status = fff_layer_create(&program.desc, &layer);
    if (status == FFF_OK) {
        status = fff_forward(layer, 1, input, 2, output, 2, workspace, sizeof workspace, NULL);
    }
    fff_layer_destroy(layer);
    fff_cpu_feature features[2] = {{NULL, FFF_ISA_AUTO, 77}, {NULL, FFF_ISA_AUTO, 77}};
    (void)fff_cpu_features(features, 1);
    /* 3 * (1, 2), then right: (3 - 1) * (16, 32) */
    if (status != FFF_OK || output[0] != 35.0f || output[1] != 70.0f || features[1].present != 77) {
        fprintf(stderr, "status %d, output %g %g, %d\n", (int)status, (double)output[0], (double)output[1],
                features[1].present);
        return 1;
    }
    return 0;
}
