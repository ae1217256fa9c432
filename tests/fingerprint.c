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
enum {
    STORED_KINDS = sizeof STORED / sizeof *STORED,
    FORESTS = FFF_ACTIVATION_COUNT + STORED_KINDS - 1, /* the first line of layers with a leaf part, too */
    LINES = FORESTS + STORED_KINDS,
};

/* What a line of the file is of. */
struct line {
    char name[32];
    fff_activation activation;
    const struct stored *stored;
    bool forest;
};

static struct line line_of(int index) {
    struct line line = {.activation = FFF_ACTIVATION_GELU, .stored = &STORED[0], .forest = index >= FORESTS};
    if (index < FFF_ACTIVATION_COUNT) {
        line.activation = (fff_activation)index;
    } else {
        line.stored = &STORED[line.forest ? index - FORESTS : index - FFF_ACTIVATION_COUNT + 1];
    }
    snprintf(line.name, sizeof line.name, "%s%s", line.forest ? "leaves-" : "",
             index < FFF_ACTIVATION_COUNT ? ACTIVATIONS[index] : line.stored->name);
    return line;
}

/* Everything that a layer and a call are given, for free(). */
struct arrays {
    float *all[16];
    size_t count;
    uint64_t state;
};

static float *filled(struct arrays *arrays, size_t count, bool wild) {
    float *values = malloc((count + 1) * sizeof *values);
    if (values == NULL) {
        fputs("fingerprint: out of memory\n", stderr);
        exit(1);
    }
    fill(values, count, wild, &arrays->state);
    arrays->all[arrays->count++] = values;
    return values;
}

enum { BATCH = 24, LEAF_WIDTH = 3 };
struct shape {
    size_t input_width, output_width, depth, trees;
};

static fff_layer_desc path_sum_desc(struct arrays *arrays, const struct shape *shape, const struct line *line,
                                    bool wild) {
    size_t rows = shape->trees * fff_nodes_per_tree(shape->depth);
    bool wild_weights = wild && line->stored == &STORED[0] && !line->forest; /* not all of which every type holds */
    float *in = filled(arrays, rows * shape->input_width, wild_weights);
    float *out = filled(arrays, rows * shape->output_width, wild_weights);
    return (fff_layer_desc){
        .struct_size = sizeof(fff_layer_desc),
        .input_width = shape->input_width,
        .output_width = shape->output_width,
        .depth = shape->depth,
        .trees = shape->trees,
        .activation = line->activation,
        .input_weights = {in, shape->input_width, 1},
        .biases = filled(arrays, rows, wild),
        .output_weights = {out, shape->output_width, 1},
        .store_input = line->stored->input,
        .store_output = line->stored->output,
        .routes = line->stored->routes,
    };
}

/* A leaf part of the same shape, with every option. */
static fff_layer_desc leaf_desc(struct arrays *arrays, const struct shape *shape, const struct line *line) {
    static const float factor = 0.7f;
    size_t leaves = shape->trees << shape->depth, nodes = leaves - shape->trees, neurons = leaves * LEAF_WIDTH;
    fff_layer_desc desc = path_sum_desc(arrays, shape, line, false);
    desc.routing = FFF_ROUTING_GREATER_EQUAL;
    desc.leaf_width = LEAF_WIDTH;
    desc.output_weights.data = filled(arrays, neurons * shape->output_width, false);
    desc.leaf_weights = (fff_weights){filled(arrays, neurons * shape->input_width, false), shape->input_width, 1};
    desc.leaf_biases = filled(arrays, neurons, false);
    desc.leaf_output_biases =
        (fff_weights){filled(arrays, leaves * shape->output_width, false), shape->output_width, 1};
    desc.thresholds = filled(arrays, nodes, false);
    desc.factor = &factor;
    return desc;
}

static uint64_t hash_layer(uint64_t hash, const fff_layer_desc *desc, const float *input) {
    size_t in = desc->input_width, out = desc->output_width, workspace_size = 0;
    fff_layer *layer = NULL;
    fff_status status = fff_layer_create(desc, &layer);
    if (status == FFF_OK) {
        status = fff_workspace_size(layer, BATCH, 1, &workspace_size);
    }
    size_t path = fff_layer_path_length(layer);
    void *workspace = malloc(workspace_size + 1);
    float *output = malloc(BATCH * out * sizeof(float)), *logits = malloc((BATCH * path + 1) * sizeof(float));
    uint32_t *nodes = malloc((BATCH * path + 1) * sizeof(uint32_t));
    if (status == FFF_OK) {
        status = fff_route(layer, BATCH, input, in, nodes, path, logits, path, workspace, workspace_size, NULL);
    }
    if (status == FFF_OK) {
        status = fff_forward(layer, BATCH, input, in, output, out, workspace, workspace_size, NULL);
    }
    if (status != FFF_OK) {
        fprintf(stderr, "fingerprint: %s\n", fff_status_text(status));
        exit(1);
    }
    hash = hash_floats(hash, logits, BATCH * path);
    hash = hash_floats(hash, output, BATCH * out);
    free(workspace);
    fff_layer_destroy(layer);
    free(output), free(logits), free(nodes);
    return hash;
}

/* A line on each of some instruction sets. The numbers that go in, which take most of the time, are made once. */
static void fingerprint(const struct line *line, const fff_isa *isas, size_t count, uint64_t *hashes) {
    static const struct shape shapes[] = {
        {1, 1, 2, 1}, {37, 53, 5, 2}, {64, 64, 7, 1}, {130, 31, 3, 4}, {768, 768, 5, 1}, {96, 200, 0, 40},
    };
    struct arrays arrays = {.state = 5};
    for (size_t i = 0; i < count; i++) {
        hashes[i] = 0xcbf29ce484222325u;
    }
    for (size_t i = 0; i < 2 * sizeof shapes / sizeof *shapes; i++) {
        const struct shape *shape = &shapes[i / 2];
        bool wild = i % 2 != 0;
        fff_layer_desc desc = path_sum_desc(&arrays, shape, line, wild), leaves;
        float *input = filled(&arrays, BATCH * shape->input_width, wild);
        if (line->forest) {
            leaves = leaf_desc(&arrays, shape, line);
            desc.next = &leaves;
            desc.output_bias = filled(&arrays, shape->output_width, false);
        }
        for (size_t k = 0; k < count; k++) {
            desc.isa = isas[k];
            hashes[k] = hash_layer(hashes[k], &desc, input);
        }
        while (arrays.count > 0) {
            free(arrays.all[--arrays.count]);
        }
    }
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fputs("usage: fingerprint FILE | --write\n", stderr);
        return 2;
    }
    if (strcmp(argv[1], "--write") == 0) {
        for (int a = 0; a < LINES; a++) {
            const struct line line = line_of(a);
            const fff_isa generic = FFF_ISA_GENERIC;
            uint64_t hash;
            fingerprint(&line, &generic, 1, &hash);
            printf("%s %016llx\n", line.name, (unsigned long long)hash);
        }
        return 0;
    }
    FILE *file = fopen(argv[1], "r");
    if (file == NULL) {
        fprintf(stderr, "fingerprint: cannot read %s\n", argv[1]);
        return 2;
    }
    int differing = 0, compared = 0;
    fff_isa isas[FFF_ISA_COUNT];
    size_t count = 0;
    for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
        if (fff_isa_usable((fff_isa)isa) == FFF_OK) {
            isas[count++] = (fff_isa)isa;
        }
    }
    for (int a = 0; a < LINES; a++) {
        char name[32];
        unsigned long long recorded;
        const struct line line = line_of(a);
        if (fscanf(file, "%31s %llx", name, &recorded) != 2 || strcmp(name, line.name) != 0) {
            fprintf(stderr, "fingerprint: %s is damaged\n", argv[1]);
            return 2;
        }
        uint64_t found[FFF_ISA_COUNT];
        fingerprint(&line, isas, count, found);
        for (size_t i = 0; i < count; i++) {
            printf("%-21s %-12s %016llx%s\n", line.name, fff_isa_name(isas[i]), (unsigned long long)found[i],
                   found[i] == recorded ? "" : "  DIFFERS");
            differing += found[i] != recorded;
            compared++;
        }
    }
    fclose(file);
    printf("%d compared, %d differ\n", compared, differing);
    return differing == 0 && compared > 0 ? 0 : 1;
}
