/* A case under way: what is counted of it and what is said of it, and the memory whose borders are watched. */
#ifndef FFF_TESTS_SOAK_RUN_H
#define FFF_TESTS_SOAK_RUN_H

#include "tests/soak/cases.h"

#if defined __SANITIZE_ADDRESS__
#define FFF_UNDER_ASAN 1
#elif defined __has_feature
#define FFF_UNDER_ASAN __has_feature(address_sanitizer)
#else
#define FFF_UNDER_ASAN 0
#endif

/* ---- Counts and messages (run.c) ------------------------------------------------------------------ */

/* What an evaluation, a token in a call whose results were compared, was an evaluation of. */
enum soak_pass { SOAK_FORWARD, SOAK_BACKWARD, SOAK_GIVEN_ROWS, SOAK_PASSES };

struct soak_counts {
    uint64_t cases, layers, tokens, values, differing_bits, other_failures, open;
    uint64_t evaluations[SOAK_PASSES][FFF_ISA_COUNT];
};

uint64_t soak_evaluations(const struct soak_counts *counts, enum soak_pass pass);

struct soak_run {
    const struct soak_case *of;
    uint64_t seed;
    struct soak_counts *counts;
    fff_isa isa;       /* of the layer that is tried */
    const char *doing; /* the function that is tried */
    unsigned reported;
};

/* Something other than bits: a status, a byte beside the output, the caller's mode. */
void soak_fail(struct soak_run *run, const char *what);
void soak_expect(struct soak_run *run, fff_status status, fff_status expected);
/* After a call in a mode that mode_enter() entered: of its status, and of the mode, which is the usual one again. */
void soak_leave(struct soak_run *run, fff_status status, fff_status expected, uint64_t entered);
void soak_differ(struct soak_run *run, const char *what, size_t row, size_t column, uint32_t bits, double actual,
                 double expected);

/* ---- Comparisons (compare.c) ---------------------------------------------------------------------- */

/* `rows` rows of `width` elements: all bits but those of NaNs, which are like each other. Strides count elements. */
void soak_compare_floats(struct soak_run *run, const char *what, size_t rows, size_t width, const float *actual,
                         size_t stride, const float *expected, size_t expected_stride);
void soak_compare_indices(struct soak_run *run, const char *what, size_t rows, size_t width, const uint32_t *actual,
                          size_t stride, const uint32_t *expected);
/* Numbers of 16 bits, rounded once from float32 ones. */
void soak_compare_halves(struct soak_run *run, const char *what, fff_weight_type type, size_t rows, size_t width,
                         const uint16_t *actual, size_t stride, const float *expected);

/* ---- Memory that a call writes to (guard.c) -------------------------------------------------------- */

/* Rows with gaps between them, and a zone before and behind all, which nobody may write to. */
struct soak_rows {
    void *data;    /* the first row, at a random multiple of an element's size */
    size_t stride; /* in elements */
    size_t rows, row_bytes, stride_bytes;
    unsigned char *memory;
    size_t before, after; /* bytes of the zones */
};

/* Rows of `width` elements, which hold no numbers yet. */
struct soak_rows soak_make_rows(size_t rows, size_t width, size_t element_size, uint64_t *state);
/* A workspace of that many bytes. */
struct soak_rows soak_make_workspace(size_t size, uint64_t *state);
/* Copies `width` floats a row into the rows. */
void soak_fill_rows(struct soak_rows *rows, const float *from);
/* Fails the case if a gap or a zone was written to; frees the memory. */
void soak_free_rows(struct soak_run *run, const char *what, struct soak_rows *rows);

/* ---- Tasks (runner.c) ------------------------------------------------------------------------------ */

/* None half of the time (then `run` is NULL); else up to 8 tasks, one after the other from the last one on, or up to 7
 * threads. */
fff_runner soak_draw_runner(uint64_t *state);

/* ---- What is tried, each in a file of its name --------------------------------------------------------- */

/* What the reference says of a case, which its first layer's logits may decide (reference_route()). */
struct soak_forward {
    uint32_t *nodes;
    float *logits, *output;
    bool known;
};
struct soak_forward soak_begin_forward(const struct soak_case *of);
void soak_end_forward(struct soak_forward *forward);
/* The layer, by some ways of calling. */
void soak_try_forward(struct soak_run *run, struct soak_forward *forward, const fff_layer *layer, uint64_t *state);

/* Nodes and logits that a batch may be given, those of its paths or others, the gradient of its outputs, and what the
 * reference says of them. */
struct soak_backward {
    uint32_t *nodes;
    float *logits, *output_gradient;
    size_t node_stride, logit_stride, gradient_stride;
    float *output;                 /* tokens x output_width: fff_accumulate()'s */
    bool has_gradients;            /* the layer stores float32 */
    size_t some_first, some_count; /* a batch among the tokens */
    float *input_gradient;
    /* Of each part: what is there before; that and what all tokens add; what the batch alone comes to. */
    struct reference_gradients start[SOAK_MOST_PARTS], all[SOAK_MOST_PARTS], some[SOAK_MOST_PARTS];
    float *start_bias, *all_bias, *some_bias; /* of the output bias; the batch adds to the start */
};
/* (backward_expected.c) */
struct soak_backward soak_begin_backward(const struct soak_case *of, const struct soak_forward *forward,
                                         uint64_t *state);
void soak_end_backward(struct soak_backward *backward, const struct soak_case *of);
/* fff_backward(), if the layer has gradients. */
void soak_try_backward(struct soak_run *run, const struct soak_backward *backward, const fff_layer *layer,
                       uint64_t *state);
/* fff_accumulate() of these nodes, and fff_visited_rows(), if the layer has gradients. */
void soak_try_given_nodes(struct soak_run *run, const struct soak_backward *backward, const fff_layer *layer,
                          uint64_t *state);

/* fff_dot_rows() and fff_sum_rows(), of layers that have them. */
void soak_try_given_rows(struct soak_run *run, const fff_layer *layer, uint64_t *state);

/* What needs no layer: fff_activate(), fff_differentiate(), fff_adam_rows(). */
void soak_try_numbers(struct soak_run *run, uint64_t *state);

#endif
