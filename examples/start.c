/* A layer of random weights, held against its definition and against itself on every instruction set. docs/start.md tells more. */
#include <fff/fff.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 64, DEPTH = 5, NODES = 63, BATCH = 100 }; /* NODES is 2^(DEPTH + 1) - 1 */
static float in[NODES][WIDTH], biases[NODES], out[NODES][WIDTH], x[BATCH][WIDTH], y[BATCH][WIDTH], first[BATCH][WIDTH];

static void fill(float *values, size_t count) {
    for (size_t i = 0; i < count; i++) values[i] = (float)rand() / (float)RAND_MAX - 0.5f;
}

/* What fff.h says that a layer is, in float64. Returns the largest difference of the results. */
static double largest_difference(void) {
    double largest = 0;
    for (int token = 0; token < BATCH; token++) {
        double sum[WIDTH] = {0};
        for (int level = 0, node = 0; level <= DEPTH; level++) {
            double logit = biases[node];
            for (int i = 0; i < WIDTH; i++) logit += (double)x[token][i] * in[node][i];
            double gelu = logit / 2 * (1 + erf(logit / sqrt(2)));
            for (int i = 0; i < WIDTH; i++) sum[i] += gelu * out[node][i];
            node = 2 * node + 1 + (logit > 0);
        }
        for (int i = 0; i < WIDTH; i++) {
            double difference = fabs(sum[i] - y[token][i]);
            largest = isnan(difference) ? INFINITY : fmax(largest, difference);
        }
    }
    return largest;
}

static fff_status run(fff_isa isa) {
    fff_layer_desc desc = {.struct_size = sizeof desc, .input_width = WIDTH, .output_width = WIDTH, .depth = DEPTH,
                           .trees = 1, .isa = isa, .biases = biases, /* zero is the default of all other fields */
                           .input_weights = {in[0], WIDTH, 1}, .output_weights = {out[0], WIDTH, 1}};
    fff_layer *layer = NULL;
    size_t size = 0;
    fff_status status = fff_layer_create(&desc, &layer); /* packs a copy of the weights */
    if (status == FFF_OK) status = fff_workspace_size(layer, BATCH, 1, &size);
    void *workspace = malloc(size); /* scratch, which the call borrows */
    if (status == FFF_OK) status = fff_forward(layer, BATCH, x[0], WIDTH, y[0], WIDTH, workspace, size, NULL);
    free(workspace);
    fff_layer_destroy(layer);
    return status;
}

int main(void) {
    fill(in[0], NODES * WIDTH), fill(biases, NODES), fill(out[0], NODES * WIDTH), fill(x[0], BATCH * WIDTH);
    if (run(FFF_ISA_GENERIC) != FFF_OK) return 1;
    memcpy(first, y, sizeof y);
    double difference = largest_difference();
    printf("largest difference from the definition in float64: %.1e\n", difference);
    int good = difference < 1e-5;
    for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
        if (fff_isa_usable((fff_isa)isa) != FFF_OK) continue;
        fff_status status = run((fff_isa)isa);
        int same = status == FFF_OK && memcmp(first, y, sizeof y) == 0;
        printf("%-10s %s, %s bits\n", fff_isa_name((fff_isa)isa), fff_status_text(status), same ? "the same" : "OTHER");
        good = good && same;
    }
    return good ? 0 : 1;
}
