/* paired LIBRARY...: times several builds of libfff against each other in one process, each in a namespace of its own,
 * and prints a line for each library, shape, type and batch, parted by tabs:
 *
 *     place among the arguments, shape, type, batch, median µs a token, 1 if it has the bits of the first
 *
 * In each round every library is timed once, and each time another one begins, so that what the machine does meanwhile
 * meets them alike. bench/paired.py runs it in many processes, since where memory comes to lie is luck of a process.
 * $FFF_PAIRED_SHAPES, $FFF_PAIRED_TYPES and $FFF_PAIRED_BATCHES are lists, parted by commas, in place of the usual
 * ones. */
#include <dlfcn.h>
#include <fff/fff.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/random.h"

enum { WIDTH = 768, MOST_LIBRARIES = 8, ROUNDS = 15, LEAST_TOKENS = 512, MOST_TOKENS = 16384 };

static void fail(const char *what, const char *why) {
    fprintf(stderr, "paired: %s: %s\n", what, why);
    exit(1);
}

static void *allocate(size_t count, size_t size) {
    void *memory = calloc(count + 1, size);
    if (memory == NULL) {
        fail("memory", "there is none");
    }
    return memory;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* ---- Libraries ----------------------------------------------------------------------------------- */

struct library {
    __typeof__(fff_layer_create) *create;
    __typeof__(fff_layer_destroy) *destroy;
    __typeof__(fff_workspace_size) *workspace_size;
    __typeof__(fff_forward) *forward;
    __typeof__(fff_status_text) *status_text;
    fff_layer *layer;
    float *output;
    double times[ROUNDS];
};

static void find(void *handle, const char *name, void *function) {
    void *found = dlsym(handle, name);
    if (found == NULL) {
        fail(name, "the library has no such function");
    }
    memcpy(function, &found, sizeof found);
}

static void open_library(const char *path, struct library *library) {
    void *handle = dlmopen(LM_ID_NEWLM, path, RTLD_NOW);
    if (handle == NULL) {
        fail(path, dlerror());
    }
    find(handle, "fff_layer_create", &library->create);
    find(handle, "fff_layer_destroy", &library->destroy);
    find(handle, "fff_workspace_size", &library->workspace_size);
    find(handle, "fff_forward", &library->forward);
    find(handle, "fff_status_text", &library->status_text);
    library->output = allocate((size_t)MOST_TOKENS * WIDTH, sizeof(float));
}

static void expect_ok(const struct library *library, const char *what, fff_status status) {
    if (status != FFF_OK) {
        fail(what, library->status_text(status));
    }
}

/* ---- Layers ------------------------------------------------------------------------------------- */

struct type {
    const char *name;
    fff_weight_choice input, output;
    fff_routes routes;
};

static const struct type TYPES[] = {
    {"f32", FFF_CHOOSE_F32, FFF_CHOOSE_F32, FFF_ROUTES_STORED},
    {"bf16", FFF_CHOOSE_BF16, FFF_CHOOSE_BF16, FFF_ROUTES_STORED},
    {"f16", FFF_CHOOSE_F16, FFF_CHOOSE_F16, FFF_ROUTES_STORED},
    {"i8", FFF_CHOOSE_I8, FFF_CHOOSE_I8, FFF_ROUTES_STORED},
    {"bf16+i8-exact", FFF_CHOOSE_BF16, FFF_CHOOSE_I8, FFF_ROUTES_EXACT},
};

static const struct type *type_by_name(const char *name) {
    for (size_t i = 0; i < sizeof TYPES / sizeof *TYPES; i++) {
        if (strcmp(TYPES[i].name, name) == 0) {
            return &TYPES[i];
        }
    }
    fail(name, "no such type: f32, bf16, f16, i8, bf16+i8-exact");
    return NULL;
}

/* "1x11" is trees x depth; "1x8w16" has leaves 16 wide. */
struct weights {
    size_t trees, depth, leaf_width, nodes, outputs;
    float *of_nodes, *of_neurons, *of_outputs;
};

static float *random_weights(size_t rows, uint64_t *state) {
    float *weights = allocate(rows * WIDTH, sizeof *weights);
    for (size_t i = 0; i < rows * WIDTH; i++) {
        weights[i] = random_normal(state) / 27.7f; /* the root of 768: logits are about 1 */
    }
    return weights;
}

static struct weights make_weights(const char *shape) {
    struct weights made = {.trees = 0};
    int end = 0, longer = 0;
    if (sscanf(shape, "%zux%zu%nw%zu%n", &made.trees, &made.depth, &end, &made.leaf_width, &longer) < 2 ||
        shape[longer > 0 ? longer : end] != '\0' || made.trees < 1 || made.trees > 1 << 16 || made.depth > 16 ||
        made.leaf_width > 1 << 10) {
        fail(shape, "a shape is like 1x11 or 1x8w16");
    }
    size_t leaves = made.trees << made.depth;
    made.nodes = made.leaf_width > 0 ? leaves - made.trees : 2 * leaves - made.trees;
    made.outputs = made.leaf_width > 0 ? leaves * made.leaf_width : made.nodes;
    uint64_t state = 1;
    made.of_nodes = random_weights(made.nodes, &state);
    made.of_neurons = made.leaf_width > 0 ? random_weights(made.outputs, &state) : NULL;
    made.of_outputs = random_weights(made.outputs, &state);
    return made;
}

static void free_weights(struct weights *weights) {
    free(weights->of_nodes);
    free(weights->of_neurons);
    free(weights->of_outputs);
}

static void make_layer(struct library *library, const struct weights *weights, const struct type *type) {
    fff_layer_desc desc = {
        .struct_size = sizeof desc,
        .input_width = WIDTH,
        .output_width = WIDTH,
        .depth = weights->depth,
        .trees = weights->trees,
        .input_weights = {weights->of_nodes, WIDTH, 1},
        .output_weights = {weights->of_outputs, WIDTH, 1},
        .store_input = type->input,
        .store_output = type->output,
        .routes = type->routes,
        .leaf_width = weights->leaf_width,
    };
    if (weights->leaf_width > 0) {
        desc.leaf_weights = (fff_weights){weights->of_neurons, WIDTH, 1};
    }
    expect_ok(library, "a layer", library->create(&desc, &library->layer));
}

/* ---- Times --------------------------------------------------------------------------------------- */

/* Some tokens, batch by batch; returns the microseconds a token. */
static double time_tokens(struct library *library, size_t batch, size_t tokens, const float *input) {
    size_t size = 0;
    expect_ok(library, "a workspace", library->workspace_size(library->layer, batch, 1, &size));
    void *workspace = allocate(size, 1);
    double start = 0.0;
    /* Half of them untimed first, which brings the library's rows back into the caches after the last one's. */
    for (size_t half = 0; half < 2; half++) {
        size_t count = half == 0 ? (tokens / 2 + batch - 1) / batch * batch : tokens;
        start = now();
        for (size_t t = 0; t < count; t += batch) {
            expect_ok(library, "forward",
                      library->forward(library->layer, batch, input + t * WIDTH, WIDTH, library->output + t * WIDTH,
                                       WIDTH, workspace, size, NULL));
        }
    }
    double taken = now() - start;
    free(workspace);
    return taken / (double)tokens * 1e6;
}

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_of(double *times) {
    qsort(times, ROUNDS, sizeof *times, compare_doubles);
    return times[ROUNDS / 2];
}

static void time_row(struct library *libraries, size_t count, const char *shape, const struct type *type, size_t batch,
                     const float *input) {
    size_t tokens = batch < LEAST_TOKENS ? LEAST_TOKENS / batch * batch : batch;
    for (size_t round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < count; i++) {
            struct library *library = &libraries[(i + round) % count];
            library->times[round] = time_tokens(library, batch, tokens, input);
        }
    }
    for (size_t i = 0; i < count; i++) {
        bool same = memcmp(libraries[i].output, libraries[0].output, tokens * WIDTH * sizeof(float)) == 0;
        printf("%zu\t%s\t%s\t%zu\t%.6f\t%d\n", i, shape, type->name, batch, median_of(libraries[i].times), same);
    }
    fflush(stdout);
}

/* ---- Lists -------------------------------------------------------------------------------------- */

enum { MOST_NAMES = 32 };

struct names {
    char *text, *name[MOST_NAMES];
    size_t count;
};

static struct names read_names(const char *variable, const char *otherwise) {
    const char *given = getenv(variable);
    const char *list = given != NULL && *given != '\0' ? given : otherwise;
    struct names names = {.text = allocate(strlen(list), 1)};
    memcpy(names.text, list, strlen(list));
    for (char *rest = names.text, *name; (name = strtok_r(rest, ",", &rest)) != NULL;) {
        if (names.count == MOST_NAMES) {
            fail(variable, "too many");
        }
        names.name[names.count++] = name;
    }
    if (names.count == 0) {
        fail(variable, "names nothing");
    }
    return names;
}

static size_t read_batch(const char *text) {
    char *end = NULL;
    unsigned long batch = strtoul(text, &end, 10);
    if (*end != '\0' || batch < 1 || batch > MOST_TOKENS) {
        fail(text, "no batch");
    }
    return batch;
}

static void time_shape(struct library *libraries, size_t count, const char *shape, const struct names *types,
                       const struct names *batches, const float *input) {
    struct weights weights = make_weights(shape);
    for (size_t i = 0; i < types->count; i++) {
        const struct type *type = type_by_name(types->name[i]);
        for (size_t j = 0; j < count; j++) {
            make_layer(&libraries[j], &weights, type);
        }
        for (size_t j = 0; j < batches->count; j++) {
            time_row(libraries, count, shape, type, read_batch(batches->name[j]), input);
        }
        for (size_t j = 0; j < count; j++) {
            libraries[j].destroy(libraries[j].layer);
        }
    }
    free_weights(&weights);
}

int main(int argc, char **argv) {
    struct library libraries[MOST_LIBRARIES] = {{0}};
    size_t count = (size_t)argc - 1;
    if (argc < 2 || count > MOST_LIBRARIES) {
        fputs("usage: paired LIBRARY..., 8 at most\n", stderr);
        return 2;
    }
    struct names shapes = read_names("FFF_PAIRED_SHAPES", "1x11,3x7,1x8w16,64x0");
    struct names types = read_names("FFF_PAIRED_TYPES", "f32,bf16,i8,bf16+i8-exact");
    struct names batches = read_names("FFF_PAIRED_BATCHES", "1,8,64,512,4096");
    for (size_t i = 0; i < count; i++) {
        open_library(argv[i + 1], &libraries[i]);
    }
    uint64_t state = 2;
    float *input = allocate((size_t)MOST_TOKENS * WIDTH, sizeof *input);
    for (size_t i = 0; i < (size_t)MOST_TOKENS * WIDTH; i++) {
        input[i] = random_normal(&state);
    }
    for (size_t i = 0; i < shapes.count; i++) {
        time_shape(libraries, count, shapes.name[i], &types, &batches, input);
    }
    for (size_t i = 0; i < count; i++) {
        free(libraries[i].output);
    }
    free(input);
    free(shapes.text);
    free(types.text);
    free(batches.text);
    return 0;
}
