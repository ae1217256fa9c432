/* The library's bits, for good: hashes of what seeded layers compute, compared with those recorded in
 * tests/data/fingerprint.txt. Every instruction set, compiler, optimisation and machine must produce
 * them; a difference means that the arithmetic has changed, and with it every user's results.
 *
 *     fingerprint FILE     compare; exit status 1 if anything differs
 *     fingerprint --write  print a new file
 */
#include "tools/random.h"

#include <fff/fff.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *ACTIVATIONS[FFF_ACTIVATION_COUNT] = {"gelu", "gelu_tanh", "relu", "relu2", "silu", "identity"};

/* FNV-1a, over bit patterns; all NaNs count as one. */
static uint64_t hash_floats(uint64_t hash, const float *values, size_t count) {
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        if (isnan(values[i])) {
            bits = 0x7fc00000;
        }
        for (int byte = 0; byte < 4; byte++) {
            hash = (hash ^ (bits >> 8 * byte & 0xff)) * 0x100000001b3u;
        }
    }
    return hash;
}

/* Numbers of very different sizes, now and then a zero, an infinity or a NaN. */
static void fill(float *values, size_t count, bool wild, uint64_t *state) {
    for (size_t i = 0; i < count; i++) {
        values[i] = random_normal(state);
        if (wild) {
            uint64_t kind = random_below(state, 4000);
            values[i] = kind == 0   ? INFINITY
                        : kind == 1 ? NAN
                        : kind < 40 ? 0.0f
                                    : ldexpf(values[i], (int)random_below(state, 60) - 30);
        }
    }
}

/* What is stored of float32 weights: one line of the file each, with GELU, after those of the activations. */
static const struct stored {
    const char *name;
    fff_weight_choice input, output;
    fff_routes routes;
} STORED[] = {
    {"f32", FFF_CHOOSE_F32, FFF_CHOOSE_F32, FFF_ROUTES_STORED},
    {"bf16", FFF_CHOOSE_BF16, FFF_CHOOSE_BF16, FFF_ROUTES_STORED},
    {"f16", FFF_CHOOSE_F16, FFF_CHOOSE_F16, FFF_ROUTES_STORED},
    {"i8", FFF_CHOOSE_I8, FFF_CHOOSE_I8, FFF_ROUTES_STORED},
    {"bf16+i8-exact", FFF_CHOOSE_BF16, FFF_CHOOSE_I8, FFF_ROUTES_EXACT},
    {"f16+bf16-exact", FFF_CHOOSE_F16, FFF_CHOOSE_BF16, FFF_ROUTES_EXACT},
    {"i8-exact", FFF_CHOOSE_I8, FFF_CHOOSE_I8, FFF_ROUTES_EXACT},
};
enum { STORED_KINDS = sizeof STORED / sizeof *STORED, LINES = FFF_ACTIVATION_COUNT + STORED_KINDS - 1 };

static const char *line_name(int line) {
    return line < FFF_ACTIVATION_COUNT ? ACTIVATIONS[line] : STORED[line - FFF_ACTIVATION_COUNT + 1].name;
}

static uint64_t fingerprint(fff_isa isa, int line) {
    bool narrow = line >= FFF_ACTIVATION_COUNT;
    int activation = narrow ? FFF_ACTIVATION_GELU : line;
    const struct stored *stored = &STORED[narrow ? line - FFF_ACTIVATION_COUNT + 1 : 0];
    static const size_t shapes[][4] = {
        /* input width, output width, depth, trees */
        {1, 1, 2, 1}, {37, 53, 5, 2}, {64, 64, 7, 1}, {130, 31, 3, 4}, {768, 768, 5, 1}, {96, 200, 0, 40},
    };
    enum { BATCH = 24 };
    uint64_t hash = 0xcbf29ce484222325u, state = 5;
    for (size_t shape = 0; shape < 2 * sizeof shapes / sizeof *shapes; shape++) {
        const size_t *s = shapes[shape / 2];
        bool wild = shape % 2 != 0, wild_weights = wild && !narrow; /* not all of which every type holds */
        size_t rows = s[3] * fff_nodes_per_tree(s[2]), path = s[3] * (s[2] + 1), workspace_size;
        float *w_in = malloc(rows * s[0] * sizeof(float)), *w_out = malloc(rows * s[1] * sizeof(float));
        float *biases = malloc(rows * sizeof(float)), *input = malloc(BATCH * s[0] * sizeof(float));
        float *output = malloc(BATCH * s[1] * sizeof(float)), *logits = malloc(BATCH * path * sizeof(float));
        uint32_t *nodes = malloc(BATCH * path * sizeof(uint32_t));
        fill(w_in, rows * s[0], wild_weights, &state);
        fill(w_out, rows * s[1], wild_weights, &state);
        fill(biases, rows, wild, &state);
        fill(input, BATCH * s[0], wild, &state);
        fff_layer_desc desc = {
            .struct_size = sizeof desc,
            .input_width = s[0],
            .output_width = s[1],
            .depth = s[2],
            .trees = s[3],
            .activation = (fff_activation)activation,
            .isa = isa,
            .input_weights = {w_in, s[0], 1},
            .biases = biases,
            .output_weights = {w_out, s[1], 1},
            .store_input = stored->input,
            .store_output = stored->output,
            .routes = stored->routes,
        };
        fff_layer *layer = NULL;
        fff_status status = fff_layer_create(&desc, &layer);
        if (status == FFF_OK) {
            status = fff_workspace_size(layer, BATCH, 1, &workspace_size);
        }
        void *workspace = status == FFF_OK ? malloc(workspace_size) : NULL;
        if (status == FFF_OK) {
            status = fff_route(layer, BATCH, input, s[0], nodes, path, logits, path, workspace, workspace_size, NULL);
        }
        if (status == FFF_OK) {
            status = fff_forward(layer, BATCH, input, s[0], output, s[1], workspace, workspace_size, NULL);
        }
        if (status != FFF_OK) {
            fprintf(stderr, "fingerprint: %s\n", fff_status_text(status));
            exit(1);
        }
        hash = hash_floats(hash, logits, BATCH * path);
        hash = hash_floats(hash, output, BATCH * s[1]);
        free(workspace);
        fff_layer_destroy(layer);
        free(w_in), free(w_out), free(biases), free(input), free(output), free(logits), free(nodes);
    }
    return hash;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fputs("usage: fingerprint FILE | --write\n", stderr);
        return 2;
    }
    if (strcmp(argv[1], "--write") == 0) {
        for (int a = 0; a < LINES; a++) {
            printf("%s %016llx\n", line_name(a), (unsigned long long)fingerprint(FFF_ISA_GENERIC, a));
        }
        return 0;
    }
    FILE *file = fopen(argv[1], "r");
    if (file == NULL) {
        fprintf(stderr, "fingerprint: cannot read %s\n", argv[1]);
        return 2;
    }
    int differing = 0, compared = 0;
    for (int a = 0; a < LINES; a++) {
        char name[32];
        unsigned long long recorded;
        if (fscanf(file, "%31s %llx", name, &recorded) != 2 || strcmp(name, line_name(a)) != 0) {
            fprintf(stderr, "fingerprint: %s is damaged\n", argv[1]);
            return 2;
        }
        for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
            if (fff_isa_usable((fff_isa)isa) != FFF_OK) {
                continue;
            }
            uint64_t found = fingerprint((fff_isa)isa, a);
            printf("%-14s %-12s %016llx%s\n", line_name(a), fff_isa_name((fff_isa)isa), (unsigned long long)found,
                   found == recorded ? "" : "  DIFFERS");
            differing += found != recorded;
            compared++;
        }
    }
    fclose(file);
    printf("%d compared, %d differ\n", compared, differing);
    return differing == 0 && compared > 0 ? 0 : 1;
}
