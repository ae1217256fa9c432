/* What a program that embeds the library does, in C and in C++: makes a layer, runs it, and knows the answer. */
#include <fff/fff.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One tree of depth 1: x = (1, 2) goes right at the root (logit 1), and meets node 2 (logit 2). With the identity for
 * activation, y = 1 * out[0] + 2 * out[2]. */
int main(void) {
    static const float in[3 * 2] = {1, 0, 5, 5, 0, 1}, out[3 * 2] = {1, 10, 100, 100, 2, 20}, x[2] = {1, 2};
    float y[2] = {0, 0};
    fff_layer_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.struct_size = sizeof desc;
    desc.input_width = 2;
    desc.output_width = 2;
    desc.depth = 1;
    desc.trees = 1;
    desc.activation = FFF_ACTIVATION_IDENTITY;
    desc.input_weights.data = in;
    desc.input_weights.node_stride = 2;
    desc.input_weights.column_stride = 1;
    desc.output_weights.data = out;
    desc.output_weights.node_stride = 2;
    desc.output_weights.column_stride = 1;
    fff_layer *layer = NULL;
    size_t size = 0;
    if (fff_layer_create(&desc, &layer) != FFF_OK || fff_workspace_size(layer, 1, 1, &size) != FFF_OK) {
        return 1;
    }
    void *workspace = malloc(size);
    fff_status status = fff_forward(layer, 1, x, 2, y, 2, workspace, size, NULL);
    printf("fff %s on %s: %s, y = (%g, %g)\n", fff_version(), fff_isa_name(fff_layer_isa(layer)),
           fff_status_text(status), (double)y[0], (double)y[1]);
    free(workspace);
    fff_layer_destroy(layer);
    return status == FFF_OK && y[0] == 5 && y[1] == 50 ? 0 : 1;
}
