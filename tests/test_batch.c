/* Batches against the same tokens one at a time, bit for bit, on every way that a batch can be cut.
 *
 * The plan depends on the size of L2. Layers here are small, so the size that they were planned for is set from 4 KB
 * (trees are large, blocks are few tokens, groups are one tree) to what the machine has. */
#include "layer/plan.h"
#include "layer/size.h"
#include "tests/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Layers and inputs ----------------------------------------------------------------------- */

enum routes {
    UNIFORM,
    ONE_PATH,
    ALL_LEAVES, /* each token to another leaf than the tokens before it */
    TIES,       /* every logit is zero */
    ROUTE_KINDS
};

struct shape {
    size_t input_width, output_width, depth, trees, tokens;
};

struct subject {
    fff_layer_desc desc;
    float *in, *biases, *out;
    size_t tokens, path;
    float *input;
    /* by the generic kernels, one token at a time */
    uint32_t *nodes;
    float *logits, *output;
};

/* Node `node` of level l asks for the sign of input l alone, so that an input's signs are its path. */
static void ask_for_signs(struct subject *s) {
    size_t nodes = fff_nodes_per_tree(s->desc.depth), width = s->desc.input_width;
    memset(s->in, 0, s->desc.trees * nodes * width * sizeof(float));
    for (size_t row = 0; row < s->desc.trees * nodes; row++) {
        size_t level = 0;
        for (size_t node = row % nodes; node > 0; node = (node - 1) / 2) {
            level++;
        }
        s->in[row * width + level] = 1.0f;
    }
    for (size_t t = 0; t < s->tokens; t++) {
        for (size_t level = 0; level <= s->desc.depth; level++) {
            s->input[t * width + level] = (t >> level & 1) != 0 ? 1.0f : -1.0f;
        }
    }
}

/* What a layer stores of its float32 weights. */
struct stored {
    fff_weight_choice input, output;
    fff_routes routes;
};

static const struct stored STORED[] = {
    {FFF_CHOOSE_F32, FFF_CHOOSE_F32, FFF_ROUTES_STORED}, {FFF_CHOOSE_BF16, FFF_CHOOSE_BF16, FFF_ROUTES_STORED},
    {FFF_CHOOSE_I8, FFF_CHOOSE_I8, FFF_ROUTES_STORED},   {FFF_CHOOSE_BF16, FFF_CHOOSE_I8, FFF_ROUTES_EXACT},
    {FFF_CHOOSE_F16, FFF_CHOOSE_F16, FFF_ROUTES_STORED}, {FFF_CHOOSE_I8, FFF_CHOOSE_BF16, FFF_ROUTES_EXACT},
    {FFF_CHOOSE_F16, FFF_CHOOSE_F32, FFF_ROUTES_EXACT},
};
enum { STORED_KINDS = sizeof STORED / sizeof *STORED };

static struct subject make_subject(struct shape shape, enum routes routes, struct stored stored, uint64_t *state) {
    size_t rows = shape.trees * fff_nodes_per_tree(shape.depth);
    struct subject s = {
        .in = test_allocate(rows * shape.input_width, sizeof(float)),
        .biases = test_allocate(rows, sizeof(float)),
        .out = test_allocate(rows * shape.output_width, sizeof(float)),
        .tokens = shape.tokens,
        .path = shape.trees * (shape.depth + 1),
        .input = test_allocate(shape.tokens * shape.input_width, sizeof(float)),
    };
    s.nodes = test_allocate(s.tokens * s.path, sizeof(uint32_t));
    s.logits = test_allocate(s.tokens * s.path, sizeof(float));
    s.output = test_allocate(s.tokens * shape.output_width, sizeof(float));
    fill_floats(FILL_NORMAL, s.in, rows * shape.input_width, state);
    fill_floats(FILL_NORMAL, s.out, rows * shape.output_width, state);
    fill_floats(FILL_NORMAL, s.input, s.tokens * shape.input_width, state);
    for (size_t row = 0; row < rows && routes == ONE_PATH; row++) {
        s.biases[row] = row % 3 == 0 ? -1e6f : 1e6f;
    }
    s.desc = (fff_layer_desc){
        .struct_size = sizeof(fff_layer_desc),
        .input_width = shape.input_width,
        .output_width = shape.output_width,
        .depth = shape.depth,
        .trees = shape.trees,
        .input_weights = {s.in, shape.input_width, 1},
        .biases = s.biases,
        .output_weights = {s.out, shape.output_width, 1},
        .store_input = stored.input,
        .store_output = stored.output,
        .routes = stored.routes,
    };
    if (routes == ALL_LEAVES) {
        ask_for_signs(&s);
    } else if (routes == TIES) {
        memset(s.input, 0, s.tokens * shape.input_width * sizeof(float));
    }

    fff_layer *generic = test_create_layer(&s.desc, FFF_ISA_GENERIC);
    size_t size = 0;
    assert_int_equal(fff_workspace_size(generic, 1, 1, &size), FFF_OK);
    void *workspace = test_allocate(size, 1);
    for (size_t t = 0; t < s.tokens; t++) {
        const float *input = s.input + t * shape.input_width;
        assert_int_equal(fff_forward(generic, 1, input, shape.input_width, s.output + t * shape.output_width,
                                     shape.output_width, workspace, size, NULL),
                         FFF_OK);
        assert_int_equal(fff_route(generic, 1, input, shape.input_width, s.nodes + t * s.path, s.path,
                                   s.logits + t * s.path, s.path, workspace, size, NULL),
                         FFF_OK);
    }
    free(workspace);
    fff_layer_destroy(generic);
    if (routes == ALL_LEAVES && shape.depth > 0 && s.tokens > 1) { /* else this would test nothing */
        assert_int_not_equal(s.nodes[shape.depth], s.nodes[s.path + shape.depth]);
    }
    return s;
}

static void free_subject(struct subject *s) {
    free(s->in);
    free(s->biases);
    free(s->out);
    free(s->input);
    free(s->nodes);
    free(s->logits);
    free(s->output);
}

/* ---- One batch ------------------------------------------------------------------------------- */

/* The first `batch` tokens, with strides, canaries between the rows, and a workspace of the very size asked for. */
static void check_batch(const struct subject *s, const fff_layer *layer, size_t batch, size_t threads) {
    size_t in = s->desc.input_width, out = s->desc.output_width, path = s->path;
    size_t in_stride = in + batch % 3, out_stride = batch % 2 == 0 ? (out + 15) / 16 * 16 : out + 1;
    size_t size = 0;
    fff_runner runner = {test_run_on_threads, NULL, threads};
    assert_int_equal(fff_workspace_size(layer, batch, threads, &size), FFF_OK);
    struct guarded workspace = guarded_allocate(size);
    struct guarded input = guarded_allocate(((batch - 1) * in_stride + in) * sizeof(float));
    float *output = test_allocate_aligned(64, batch * out_stride * sizeof(float)); /* streaming wants that */
    uint32_t *nodes = test_allocate(batch * path, sizeof *nodes);
    float *logits = test_allocate(batch * path, sizeof *logits);
    assert_non_null(output);
    for (size_t t = 0; t < batch; t++) {
        memcpy((float *)input.data + t * in_stride, s->input + t * in, in * sizeof(float));
    }
    memset(output, 0x5a, batch * out_stride * sizeof(float));
    assert_int_equal(
        fff_forward(layer, batch, input.data, in_stride, output, out_stride, workspace.data, workspace.size, &runner),
        FFF_OK);
    for (size_t t = 0; t < batch; t++) {
        assert_same_floats(output + t * out_stride, s->output + t * out, out, "forward");
        for (size_t gap = out; gap < out_stride; gap++) {
            uint32_t bits;
            memcpy(&bits, output + t * out_stride + gap, sizeof bits);
            assert_int_equal(bits, 0x5a5a5a5a);
        }
    }
    assert_int_equal(fff_route(layer, batch, input.data, in_stride, nodes, path, logits, path, workspace.data,
                               workspace.size, &runner),
                     FFF_OK);
    assert_memory_equal(nodes, s->nodes, batch * path * sizeof *nodes);
    assert_same_floats(logits, s->logits, batch * path, "logits");
    memset(output, 0x5a, batch * out_stride * sizeof(float));
    assert_int_equal(fff_accumulate(layer, batch, nodes, path, logits, path, output, out_stride, workspace.data,
                                    workspace.size, &runner),
                     FFF_OK);
    for (size_t t = 0; t < batch; t++) {
        assert_same_floats(output + t * out_stride, s->output + t * out, out, "accumulate");
    }
    free(logits);
    free(nodes);
    test_free_aligned(output);
    guarded_free(&input);
    guarded_free(&workspace);
}

/* ---- Tests ----------------------------------------------------------------------------------- */

/* A layer planned for an L2 of that size; 0 for the machine's own. */
static fff_layer *create_for_cache(const fff_layer_desc *desc, fff_isa isa, size_t l2_bytes) {
    fff_layer *layer = test_create_layer(desc, isa);
    for (size_t i = 0; i < layer->part_count && l2_bytes > 0; i++) {
        layer->parts[i].l2_bytes = l2_bytes;
        fff_plan_part(&layer->parts[i]);
    }
    return layer;
}

static const size_t CACHES[] = {4 << 10, 64 << 10, 0};

/* Every batch up to `batches` and some larger ones, on 1 to 8 threads in turn. */
static void check_shape(struct shape shape, size_t batches, const char *name) {
    uint64_t state = test_random(name);
    if (is_short()) {
        shape.tokens = shape.tokens / 8 + 1;
        batches /= 4;
    }
    /* float32 with every kind of routes, then one narrow type with each, another one for each shape */
    int kinds = is_short() ? ROUTE_KINDS + 1 : 2 * ROUTE_KINDS;
    for (int i = 0; i < kinds; i++) {
        bool narrow = i >= ROUTE_KINDS;
        size_t kind = !narrow ? 0 : 1 + (shape.input_width + (size_t)i) % (STORED_KINDS - 1);
        struct subject s = make_subject(shape, (enum routes)(i % ROUTE_KINDS), STORED[kind], &state);
        size_t step = (is_short() ? 39 : 3) * (narrow ? 4 : 1);
        for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
            if (fff_isa_usable((fff_isa)isa) != FFF_OK) {
                continue;
            }
            for (size_t c = 0; c < sizeof CACHES / sizeof *CACHES; c++) {
                fff_layer *layer = create_for_cache(&s.desc, (fff_isa)isa, CACHES[c]);
                /* Each batch on one cache's plan or another's; between the instruction sets, on all. */
                for (size_t batch = 1 + ((size_t)isa + c) % 3; batch <= batches; batch += step) {
                    size_t threads = random_below(&state, 2) == 0 ? 1 : 2 + random_below(&state, 7);
                    check_batch(&s, layer, batch, threads);
                }
                size_t either = random_below(&state, 2); /* in a short run: of one thread and several */
                if (!is_short() || either == 0) {
                    check_batch(&s, layer, 1, 1);
                    check_batch(&s, layer, s.tokens, 1);
                }
                if (!is_short() || either == 1) {
                    check_batch(&s, layer, s.tokens, 2 + random_below(&state, 7));
                }
                fff_layer_destroy(layer);
            }
        }
        free_subject(&s);
    }
}

static void test_one_deep_tree(void **unused) {
    (void)unused;
    check_shape((struct shape){17, 33, 8, 1, 1000}, 300, "one deep tree");
}

static void test_odd_widths(void **unused) {
    (void)unused;
    check_shape((struct shape){67, 1, 5, 1, 301}, 100, "odd widths");
    check_shape((struct shape){11, 130, 10, 1, 700}, 40, "odd widths, deep");
    check_shape((struct shape){480, 544, 3, 1, 60}, 20, "rows that would be a page apart");
}

static void test_several_trees(void **unused) {
    (void)unused;
    check_shape((struct shape){33, 50, 4, 5, 400}, 100, "several trees");
    check_shape((struct shape){40, 31, 7, 3, 600}, 40, "several deep trees");
}

static void test_many_shallow_trees(void **unused) {
    (void)unused;
    check_shape((struct shape){48, 96, 0, 70, 300}, 100, "dense");
    check_shape((struct shape){37, 45, 0, 1, 40}, 20, "one neuron");
    check_shape((struct shape){35, 20, 2, 25, 300}, 60, "shallow");
    /* With 64 KB of L2 in groups of 10 trees, the rest of which is 5. */
    check_shape((struct shape){300, 20, 2, 25, 200}, 20, "groups of shallow trees");
}

static void test_large_batches(void **unused) {
    (void)unused;
    size_t most = is_short() ? 1000 : 16384; /* of which a part, if so */
    for (size_t tokens = 1000; tokens <= most; tokens = tokens == 1000 ? 4096 : 4 * tokens) {
        check_shape((struct shape){16, 16, 7, 1, tokens}, 0, "large batches");
    }
}

/* ---- The workspace's size -------------------------------------------------------------------- */

static size_t workspace_of(const fff_layer *layer, size_t batch, size_t concurrency) {
    size_t size = 0;
    assert_int_equal(fff_workspace_size(layer, batch, concurrency, &size), FFF_OK);
    return size;
}

/* What fff.h says: 32 KB, and for each token so many bytes. */
static size_t bound_of(const struct fff_part *part, size_t tokens) {
    size_t a_token = 512 + 32 * part->path_length;
    a_token += part->input_type == FFF_WEIGHT_I8 ? 512 + 2 * part->trees.input_width : 0;
    a_token += part->exact_routes ? 128 : 0;
    return (32 << 10) + tokens * a_token;
}

/* Likewise, of several parts or with an output bias: that for the largest part, or for each task that for 1024 tokens.
 */
static void check_bound(const fff_layer *layer, size_t batch, size_t concurrency) {
    size_t size = workspace_of(layer, batch, concurrency), bound = 0;
    for (size_t i = 0; i < layer->part_count; i++) {
        const struct fff_part *part = &layer->parts[i];
        size_t of_tasks = fff_is_one_part(layer) ? 0 : fff_min(concurrency, batch) * bound_of(part, 1024);
        bound = fff_max(bound, fff_max(bound_of(part, batch), of_tasks));
    }
    if (fff_is_one_part(layer)) {
        struct fff_plan plan;
        assert_int_equal(fff_plan_batch(&layer->parts[0], batch, concurrency, &plan), size);
        assert_true(plan.slices + plan.tasks * plan.slice + FFF_WORKSPACE_ALIGNMENT - 1 <= size); /* all that is used */
    }
    if (size > bound) {
        fail_msg("%zu bytes, not %zu, for %zu tokens of %zu entries and width %zu on %zu tasks", size, bound, batch,
                 fff_layer_path_length(layer), layer->input_width, concurrency);
    }
}

/* A number with as many bits as may be, up to `bits`. */
static size_t random_number(unsigned bits, uint64_t *state) {
    return 1 + random_below(state, (uint64_t)1 << random_below(state, bits + 1));
}

/* A workspace for more tokens and tasks serves for fewer; and there is an end to it. */
static void check_workspace(const fff_layer *layer, uint64_t *state) {
    for (size_t tasks = 1; tasks <= 9; tasks++) { /* every batch: rounding up makes for teeth */
        size_t before = 0;
        for (size_t batch = 1; batch < (is_short() ? 70 : 1500); batch++) {
            size_t size = workspace_of(layer, batch, tasks);
            assert_true(size >= before);
            assert_true(size >= workspace_of(layer, batch, tasks - 1));
            check_bound(layer, batch, tasks);
            before = size;
        }
    }
    for (int i = 0; i < (is_short() ? 50 : 20000); i++) {
        unsigned bits = sizeof(size_t) > 4 ? 20 : 12;
        size_t batch = random_number(bits, state), tasks = random_number(bits, state);
        size_t fewer = random_below(state, batch + 1), fewer_tasks = random_below(state, tasks + 1);
        size_t size = workspace_of(layer, batch, tasks);
        assert_true(size >= workspace_of(layer, fewer, fewer_tasks));
        assert_true(size >= workspace_of(layer, batch - 1, tasks));
        assert_true(size >= workspace_of(layer, batch, tasks - 1));
        check_bound(layer, batch, tasks);
        assert_int_equal(workspace_of(layer, batch, batch + tasks), workspace_of(layer, batch, SIZE_MAX));
        size_t enough = fff_max(1024 * tasks, 65536);
        assert_int_equal(workspace_of(layer, enough, tasks), workspace_of(layer, SIZE_MAX, tasks));
    }
}

static void test_workspace_size(void **unused) {
    (void)unused;
    uint64_t state = test_random("workspace");
    const struct shape shapes[] = {{64, 64, 8, 1, 1}, {16, 16, 3, 20, 1},   {8, 8, 0, 300, 1}, {8, 40, 9, 2, 1},
                                   {1, 1, 0, 1, 1},   {768, 3, 0, 1536, 1}, {1, 1, 13, 1, 1},  {300, 700, 2, 30, 1}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct subject s = make_subject(shapes[i], UNIFORM, STORED[i % STORED_KINDS], &state);
        for (size_t c = 0; c < sizeof CACHES / sizeof *CACHES; c++) {
            fff_layer *layer = create_for_cache(&s.desc, FFF_ISA_GENERIC, CACHES[c]);
            check_workspace(layer, &state);
            fff_layer_destroy(layer);
        }
        free_subject(&s);
    }
}

/* Adds another part, of zeros, to those of a layer whose widths are drawn: of few enough weights, stored as may be. */
static void draw_part(fff_layer_desc *desc, const float *zeros, size_t most_weights, uint64_t *state) {
    size_t in = desc->input_width, out = desc->output_width, most_rows = most_weights / fff_max(in, out);
    struct stored stored = STORED[random_below(state, STORED_KINDS)];
    desc->store_input = stored.input;
    desc->store_output = stored.output;
    desc->routes = stored.routes;
    desc->depth = random_below(state, 12);
    while (fff_nodes_per_tree(desc->depth) > most_rows) {
        desc->depth--;
    }
    size_t leaves = (size_t)1 << desc->depth, most_trees = most_rows / fff_nodes_per_tree(desc->depth);
    if (chance(state, 3)) {
        desc->leaf_width = 1 + random_below(state, most_rows / leaves);
        most_trees = most_rows / leaves / desc->leaf_width;
        desc->leaf_weights = (fff_weights){zeros, in, 1};
    }
    desc->trees = 1 + random_below(state, most_trees);
    desc->input_weights = (fff_weights){zeros, in, 1};
    desc->output_weights = (fff_weights){zeros, out, 1};
}

/* The bound of layers of all kinds, few tokens a task among them, which make the most of rounding up. */
static void test_workspace_bound(void **unused) {
    (void)unused;
    enum { MOST_WEIGHTS = 1 << 17, PARTS = 3 };
    if (sizeof(size_t) == 4) {
        skip(); /* some would overflow */
    }
    uint64_t state = test_random("workspace bound");
    float *zeros = test_allocate(MOST_WEIGHTS, sizeof(float));
    for (int i = 0; i < (is_short() ? 20 : 1000); i++) {
        fff_layer_desc descs[PARTS];
        size_t parts = chance(&state, 2) ? 1 : 1 + random_below(&state, PARTS);
        size_t in = random_number(13, &state), out = random_number(chance(&state, 2) ? 13 : 3, &state);
        for (size_t part = 0; part < parts; part++) {
            descs[part] = (fff_layer_desc){.struct_size = sizeof *descs, .input_width = in, .output_width = out};
            descs[part].next = part + 1 < parts ? &descs[part + 1] : NULL;
            draw_part(&descs[part], zeros, MOST_WEIGHTS, &state);
        }
        descs[0].output_bias = chance(&state, 4) ? zeros : NULL;
        for (size_t c = 0; c < sizeof CACHES / sizeof *CACHES; c++) {
            fff_layer *layer = create_for_cache(&descs[0], FFF_ISA_GENERIC, CACHES[c]);
            for (int j = 0; j < 50; j++) {
                size_t batch = random_number(13, &state), tasks = random_number(13, &state);
                check_bound(layer, batch, tasks);
                check_bound(layer, batch, batch);
                check_bound(layer, batch, batch / 2 + 1);
            }
            fff_layer_destroy(layer);
        }
    }
    free(zeros);
}

/* So wide that a chunk's tokens, as int8 rows meet them, come to a multiple of what size_t holds, and a little. */
static void test_workspace_overflow(void **unused) {
    (void)unused;
    uint64_t state = test_random("workspace overflow");
    const struct stored integers = {FFF_CHOOSE_I8, FFF_CHOOSE_I8, FFF_ROUTES_STORED};
    struct subject s = make_subject((struct shape){16, 16, 8, 1, 1}, UNIFORM, integers, &state);
    for (size_t c = 0; c < 2; c++) { /* tokens walk together, or each task has its own */
        fff_layer *layer = create_for_cache(&s.desc, FFF_ISA_GENERIC, c == 0 ? 4 << 10 : 1 << 20);
        struct fff_part wide = layer->parts[0];
        struct fff_plan plan;
        enum { BATCH = 1 << 16 };
        assert_int_not_equal(fff_plan_batch(&wide, BATCH, 1, &plan), 0);
        assert_int_equal(plan.together, c == 0);
        for (size_t share = 1; share <= 4; share *= 2) {
            wide.trees.input_width = SIZE_MAX / plan.chunk / share + 1;
            struct fff_plan unused_plan;
            size_t size = fff_plan_batch(&wide, BATCH, 1, &unused_plan);
            assert_true(size == 0 || size / plan.chunk >= wide.trees.input_width);
            assert_true(share > 2 || size == 0); /* more than half of all memory */
        }
        fff_layer_destroy(layer);
    }
    free_subject(&s);
}

/* A wide dense layer on many threads: tasks share out the batch, and so do their slices. */
static void test_workspace_of_many_tasks(void **unused) {
    (void)unused;
    uint64_t state = test_random("many tasks");
    struct subject s = make_subject((struct shape){768, 768, 0, 1536, 1}, UNIFORM, STORED[0], &state);
    fff_layer *layer = create_for_cache(&s.desc, FFF_ISA_GENERIC, 1 << 20);
    assert_true(workspace_of(layer, 128, 128) < 1 << 20);
    assert_true(workspace_of(layer, 1024, 128) < 3 << 20);
    assert_true(workspace_of(layer, 16384, 128) < 16 << 20);
    fff_layer_destroy(layer);
    free_subject(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_deep_tree),           cmocka_unit_test(test_odd_widths),
        cmocka_unit_test(test_several_trees),           cmocka_unit_test(test_many_shallow_trees),
        cmocka_unit_test(test_large_batches),           cmocka_unit_test(test_workspace_size),
        cmocka_unit_test(test_workspace_bound),         cmocka_unit_test(test_workspace_overflow),
        cmocka_unit_test(test_workspace_of_many_tasks),
    };
    test_start("test_batch");
    return cmocka_run_group_tests_name("batch", tests, NULL, NULL);
}
