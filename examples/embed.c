#include <fff/fff.h>
#include <stdio.h>
#include <stdlib.h>

int main(void) {
    enum { WIDTH = 768, DEPTH = 11, BATCH = 4 };
    size_t nodes = fff_nodes_per_tree(DEPTH), size = 0; /* 4095 */
    float *in = calloc(nodes * WIDTH, sizeof *in);      /* your linear_in.weight,  nodes x WIDTH */
    float *out = calloc(WIDTH * nodes, sizeof *out);    /* your linear_out.weight, WIDTH x nodes */
    static float x[BATCH][WIDTH], y[BATCH][WIDTH];
    fff_layer_desc desc = {.struct_size = sizeof desc, .input_width = WIDTH, .output_width = WIDTH, .depth = DEPTH,
                           .trees = 1, .input_weights = {in, WIDTH, 1}, .output_weights = {out, 1, nodes}};
    fff_layer *layer = NULL;
    fff_status status = fff_layer_create(&desc, &layer); /* copies and packs the weights */
    if (status == FFF_OK)
        status = fff_workspace_size(layer, BATCH, 1, &size);
    void *workspace = malloc(size);
    if (status == FFF_OK)
        status = fff_forward(layer, BATCH, x[0], WIDTH, y[0], WIDTH, workspace, size, NULL);
    printf("%s on %s\n", fff_status_text(status), fff_isa_name(fff_layer_isa(layer)));
    free(workspace), fff_layer_destroy(layer), free(in), free(out);
    return status != FFF_OK;
}
