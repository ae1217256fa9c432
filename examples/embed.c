#include <fff/fff.h>
#include <stdio.h>
#include <stdlib.h>

enum { WIDTH = 768, DEPTH = 11, NODES = 4095, BATCH = 4 };
static float in[NODES][WIDTH], out[WIDTH][NODES], x[BATCH][WIDTH], y[BATCH][WIDTH]; /* linear_in.weight, linear_out.weight */

int main(void) {
    fff_layer_desc desc = {.struct_size = sizeof desc, .input_width = WIDTH, .output_width = WIDTH, .depth = DEPTH,
                           .trees = 1, .input_weights = {in[0], WIDTH, 1}, .output_weights = {out[0], 1, NODES}};
    fff_layer *layer = NULL;
    size_t size = 0;
    fff_status status = fff_layer_create(&desc, &layer); /* copies and packs the weights */
    if (status == FFF_OK) status = fff_workspace_size(layer, BATCH, 1, &size);
    void *workspace = malloc(size);
    if (status == FFF_OK) status = fff_forward(layer, BATCH, x[0], WIDTH, y[0], WIDTH, workspace, size, NULL);
    printf("%s on %s\n", fff_status_text(status), fff_isa_name(fff_layer_isa(layer)));
    free(workspace), fff_layer_destroy(layer);
    return status != FFF_OK;
}
