/* Any description of a layer: fff_layer_create() refuses it exactly if the header says so, never reads what the caller
 * did not describe, and gives back all memory. A layer that it makes computes a batch as it does each token. */
#include "tests/fuzz/create/description.h"
#include "tests/fuzz/fuzz.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_PARTS = 3, TOKENS = 3 };

static void print_weights(const char *name, const fff_weights *w) {
    fprintf(stderr, " %s %td+%zu,%zu", name, w->data == NULL ? -1 : (const unsigned char *)w->data - arena,
            w->node_stride, w->column_stride);
}

static void fail(const struct described *parts, size_t count, const char *what, fff_status status) {
    for (size_t i = 0; i < count; i++) {
        const fff_layer_desc *d = &parts[i].desc;
        fprintf(stderr,
                "struct %zu: %zu -> %zu, depth %zu, trees %zu, leaves of %zu, options %d %d %d %d %d, %d %d %d %d, %d;",
                d->struct_size, d->input_width, d->output_width, d->depth, d->trees, d->leaf_width, d->activation,
                d->routing, d->isa, d->sleef, d->weight_type, d->output_weight_type, d->store_input, d->store_output,
                d->routes, d->borrow);
        print_weights("in", &d->input_weights);
        print_weights("out", &d->output_weights);
        print_weights("leaf", &d->leaf_weights);
        print_weights("leaf biases", &d->leaf_output_biases);
        fprintf(stderr, " leaf stride %zu, scales %d %d %d, lists %d %d %d %d %d\n", d->leaf_stride,
                d->input_scales != NULL, d->output_scales != NULL, d->leaf_scales != NULL, d->biases != NULL,
                d->leaf_biases != NULL, d->thresholds != NULL, d->factor != NULL, d->output_bias != NULL);
    }
    fuzz_fail(what, status);
}

/* ---- Trying ------------------------------------------------------------------------------------ */

/* Memory that a layer holds; the allocation after `left` others fails. */
struct memory {
    size_t held, left;
};

static void *allocate(void *context, size_t size, size_t alignment) {
    struct memory *memory = context;
    void *pointer = NULL;
    if (memory->left-- == 0 || posix_memalign(&pointer, alignment, size) != 0) {
        return NULL;
    }
    memory->held += size;
    return pointer;
}

static void release(void *context, void *pointer, size_t size) {
    ((struct memory *)context)->held -= size;
    free(pointer);
}

static void *room_for(size_t count, size_t size) {
    void *memory = malloc(count * size > 0 ? count * size : 1);
    if (memory == NULL) {
        abort();
    }
    return memory;
}

static void forward(const fff_layer *layer, size_t batch, const float *input, size_t in, float *output, size_t out) {
    size_t size = 0;
    if (fff_workspace_size(layer, batch, 1, &size) != FFF_OK) {
        fuzz_fail("workspace of a layer that was made", 0);
    }
    void *workspace = room_for(size, 1);
    fff_status status = fff_forward(layer, batch, input, in, output, out, workspace, size, NULL);
    if (status != FFF_OK) {
        fuzz_fail("forward of a layer that was made", status);
    }
    free(workspace);
}

/* Some tokens at once and one at a time: the same bits; a NaN may be any. */
static void run(const fff_layer *layer, size_t in, size_t out) {
    float *input = room_for(TOKENS * in, sizeof *input), *together = room_for(TOKENS * out, sizeof *together),
          *alone = room_for(out, sizeof *alone);
    for (size_t i = 0; i < TOKENS * in; i++) {
        memcpy(&input[i], arena + i * sizeof *input % ARENA, sizeof *input);
    }
    forward(layer, TOKENS, input, in, together, out);
    for (size_t t = 0; t < TOKENS; t++) {
        forward(layer, 1, input + t * in, in, alone, out);
        for (size_t i = 0; i < out; i++) {
            const float *a = &alone[i], *b = &together[t * out + i];
            if (memcmp(a, b, sizeof *a) != 0 && !(isnan(*a) && isnan(*b))) {
                fuzz_fail("other bits in a batch", 0);
            }
        }
    }
    free(input);
    free(together);
    free(alone);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct choices choices = {data, size};
    static struct described parts[MOST_PARTS];
    struct memory memory = {0, choose(&choices, 32) == 1 ? choose(&choices, 2) : SIZE_MAX};
    const fff_allocator allocator = {allocate, release, &memory};
    fff_bad_weight bad = {-1, 0, 0};
    size_t count = 1 + choose(&choices, 8) / 3 % MOST_PARTS;
    arena_restore();
    for (size_t i = 0; i < count; i++) {
        choose_part(&choices, i > 0 ? &parts[0].desc : NULL, &parts[i]);
        parts[i].desc.bad_weight = &bad;
        parts[i].desc.next = i + 1 < count ? &parts[i + 1].desc : NULL;
    }
    parts[0].desc.allocator = &allocator;
    enum expectation expected = expect(parts, count);
    if (expected == A_LIE) {
        return 0;
    }
    fff_layer *layer = NULL;
    fff_status status = fff_layer_create(&parts[0].desc, &layer);
    bool no_memory = status == FFF_ERROR_OUT_OF_MEMORY && memory.left == SIZE_MAX;
    bool of_weights = status == FFF_ERROR_WEIGHT || status == FFF_ERROR_SCALE;
    if ((layer != NULL) != (status == FFF_OK)) {
        fail(parts, count, "a layer, or none", status);
    }
    if (expected == REFUSED ? status == FFF_OK
                            : status != FFF_OK && !no_memory && !(of_weights && expected == BY_WEIGHTS)) {
        fail(parts, count, expected == REFUSED ? "should be refused" : "should be allowed", status);
    }
    if (bad.of_output >= 0 && !of_weights) {
        fail(parts, count, "no bad weight", status);
    }
    if (layer != NULL) {
        if (memory.held != 0 && (fff_layer_memory(layer) > memory.held || fff_layer_path_length(layer) == 0)) {
            fail(parts, count, "memory that was not asked for", 0);
        }
        run(layer, parts[0].desc.input_width, parts[0].desc.output_width);
        fff_layer_destroy(layer);
    }
    if (memory.held != 0) {
        fail(parts, count, "memory is not given back", status);
    }
    return 0;
}
