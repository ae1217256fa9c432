/* Forward, route, accumulate and backward allocate nothing: malloc and its family are replaced by versions that
 * count. Sanitizers bring their own malloc; under them this test is skipped. */
#include "tests/support.h"

#include <errno.h>
#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

#if !defined(SANITIZED) && defined(__GLIBC__)

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *memory);

static size_t calls; /* atomic: SLEEF or libc may start none, but a runner's threads could */

static void count(void) {
    __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED);
}

void *malloc(size_t size) {
    count();
    return __libc_malloc(size);
}
void *calloc(size_t n, size_t size) {
    count();
    return __libc_calloc(n, size);
}
void *realloc(void *memory, size_t size) {
    count();
    return __libc_realloc(memory, size);
}
void *aligned_alloc(size_t alignment, size_t size) {
    count();
    return __libc_memalign(alignment, size);
}
int posix_memalign(void **memory, size_t alignment, size_t size) {
    count();
    *memory = __libc_memalign(alignment, size);
    return *memory != NULL ? 0 : ENOMEM;
}
void free(void *memory) {
    count();
    __libc_free(memory);
}

static void run_in_order(void *context, size_t tasks, void (*task)(void *argument, size_t index), void *argument) {
    (void)context;
    for (size_t i = 0; i < tasks; i++) {
        task(argument, i);
    }
}

static void test_nothing_is_allocated(void **unused) {
    (void)unused;
    enum { IN = 70, OUT = 50, DEPTH = 5, NODES = 63, TREES = 2, LEAF = 3, BATCH = 100 };
    enum { PATH = TREES * (DEPTH + 1) + TREES * (DEPTH - 1 + LEAF) }; /* of both parts */
    static float input_weights[TREES * NODES * IN], output_weights[TREES * NODES * OUT], input[BATCH * IN];
    static float output[BATCH * OUT], logits[BATCH * PATH], input_gradient[BATCH * IN];
    static float into[2][TREES * NODES * IN], out[2][TREES * NODES * OUT], biases[2][TREES * NODES];
    static uint32_t nodes[BATCH * PATH], rows[TREES * NODES];
    static unsigned char workspace[1 << 20];
    const fff_runner runner = {run_in_order, NULL, 3};
    uint64_t state = 1;
    fill_floats(FILL_NORMAL, input_weights, TREES * NODES * IN, &state);
    fill_floats(FILL_NORMAL, output_weights, TREES * NODES * OUT, &state);
    fill_floats(FILL_NORMAL, input, BATCH * IN, &state);
    for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
        for (int activation = 0; activation < FFF_ACTIVATION_COUNT; activation++) {
            if (fff_isa_usable((fff_isa)isa) != FFF_OK) {
                continue;
            }
            fff_layer_desc desc = {
                .struct_size = sizeof desc,
                .input_width = IN,
                .output_width = OUT,
                .depth = DEPTH,
                .trees = TREES,
                .activation = (fff_activation)activation,
                .isa = (fff_isa)isa,
                .input_weights = {input_weights, IN, 1},
                .output_weights = {output_weights, OUT, 1},
            };
            fff_layer_desc leaves = desc; /* half as many, of 3 neurons each */
            leaves.depth = DEPTH - 1;
            leaves.leaf_width = LEAF;
            leaves.leaf_weights = leaves.input_weights;
            desc.next = &leaves;
            fff_layer *layer;
            size_t before_create = calls;
            assert_int_equal(fff_layer_create(&desc, &layer), FFF_OK);
            assert_true(calls > before_create); /* the counting works */
            size_t before = calls;
            fff_status status = FFF_OK;
            for (size_t batch = 0; batch <= BATCH; batch += batch < 10 ? 1 : 30) {
                status |= fff_forward(layer, batch, input, IN, output, OUT, workspace, sizeof workspace, NULL);
                status |=
                    fff_route(layer, batch, input, IN, nodes, PATH, logits, PATH, workspace, sizeof workspace, NULL);
                status |= fff_accumulate(layer, batch, nodes, PATH, logits, PATH, output, OUT, workspace,
                                         sizeof workspace, NULL);
                status |= fff_forward(layer, batch, input, IN, output, OUT, workspace, sizeof workspace, &runner);
                fff_gradients second = {sizeof second, NULL, 0,    {into[1], IN}, biases[1],
                                        {out[1], OUT}, {0},  NULL, NULL};
                fff_gradients first = {sizeof first,  NULL, 0,    {into[0], IN}, biases[0],
                                       {out[0], OUT}, {0},  NULL, &second};
                status |= fff_backward(layer, batch, input, IN, nodes, PATH, logits, PATH, output, OUT, input_gradient,
                                       IN, &first, workspace, sizeof workspace, &runner);
                status |= fff_visited_rows(layer, 0, batch, nodes, PATH, rows, TREES * NODES, &first.row_count,
                                           workspace, sizeof workspace);
                first.rows = rows;
                status |= fff_backward(layer, batch, input, IN, nodes, PATH, logits, PATH, output, OUT, NULL, 0, &first,
                                       workspace, sizeof workspace, NULL);
            }
            size_t after = calls;
            assert_int_equal(status, FFF_OK);
            assert_int_equal(after, before);
            fff_layer_destroy(layer);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_nothing_is_allocated)};
    return cmocka_run_group_tests_name("no_allocation", tests, NULL, NULL);
}

#else

int main(void) {
    return 77; /* skipped */
}

#endif
