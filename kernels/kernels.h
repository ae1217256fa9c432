/* The contract between the library and its instruction sets.
 *
 * Each folder kernels/<isa>/ fills one struct fff_kernels and exports nothing else. The generic one
 * is the specification: every other must produce the same bits (NaN for NaN, whatever its sign and
 * payload) for every argument that this file allows. docs/numerics.md explains the arithmetic,
 * docs/adding-an-isa.md how to write a new folder, for which kernels/toolbox.h has the tools.
 *
 * Kernels run with round-to-nearest and without flush-to-zero; the caller of a kernel sees to that.
 * This header is compiled with each folder's own flags, so it defines no function with external
 * linkage: a copy made with AVX-512 must never be the one that an old CPU runs.
 */
#ifndef FFF_KERNELS_H
#define FFF_KERNELS_H

#include <fff/fff.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __FAST_MATH__
#error "libfff's results are defined to the bit: compile without -ffast-math"
#endif

/* A dot product is this many interleaved partial sums, on every instruction set. Never varies: it
 * decides the bits. */
#define FFF_PARTIAL_SUMS 32

/* The vector instruction sets' dot products are in tiles of so many rows by so many tokens; roots_f32's last
 * one is incomplete if the number of trees is no multiple. */
enum { FFF_DOT_TILE_ROWS = 3, FFF_DOT_TILE_TOKENS = 4 };

/* The two routing rules as one comparison, logit > threshold: no float lies between the largest negative one and -0, so
 * "above it" is ">= 0". */
#define FFF_THRESHOLD_GREATER 0.0f
#define FFF_THRESHOLD_GREATER_EQUAL (-0x1p-149f)

/* The weights of a layer as kernels see them. Row r = tree * node_count + node has its input weights at
 * input_rows + r * row_stride and, side by side with them, its output weights at output_rows + r * row_stride, each at
 * any alignment: rows that fill more than a line begin with one (layer/layer.c), narrower ones share it. Kernels may
 * read weights up to the next multiple of FFF_PARTIAL_SUMS floats from where a row's begin, whatever it is that lies
 * behind them; but it must not matter, were it NaN. Of the caller's input and output they read only what is there. */
struct fff_trees_f32 {
    const float *input_rows;
    const float *output_rows;
    const float *biases; /* one a row */
    size_t row_stride;
    size_t input_width;
    size_t output_width;
    size_t tree_count;
    size_t level_count; /* depth + 1 */
    size_t node_count;  /* of a tree: 2^level_count - 1 */
    size_t near_levels; /* rows of so many uppermost levels stay in L2: a hint at what not to fetch ahead */
    float threshold;    /* a token goes right if its logit is above this: FFF_THRESHOLD_GREATER or _EQUAL */
};

/* Whether outputs are begun or continued, and how they are stored: any of these, or 0. */
enum {
    FFF_WRITE_CONTINUE = 1, /* add to what the output holds; else begin from +0 */
    FFF_WRITE_STREAM = 2, /* the output will not be read soon, and may go past the caches; changes no bit. Whoever asks
                             for it calls fff_store_fence() before another thread may read */
};

/* One token down all trees, level by level:
 *
 *     nodes[tree * level_count + level] = node;  logits[tree * level_count + level] = the node's logit;  node = its
 * child
 *
 * `input` has input_width floats, at any alignment. `fetch_output` asks for the visited output rows, as far as that
 * pays, to be prefetched for accumulate_f32. */
typedef void fff_descend_f32_function(const struct fff_trees_f32 *trees, const float *input, bool fetch_output,
                                      uint32_t *nodes, float *logits);

/* Several tokens against one row:
 *
 *     for t in tokens[0 .. count-1]:  logits[t * logit_stride] = logit of `row` for the input at inputs + t *
 * input_stride
 */
typedef void fff_node_dot_f32_function(const struct fff_trees_f32 *trees, size_t row, size_t count,
                                       const uint32_t *tokens, const float *inputs, size_t input_stride, float *logits,
                                       size_t logit_stride);

/* The same for two levels: also
 *
 *     logits[t * logit_stride + 1] = logit of left_row, or of left_row + 1 if the first logit leads right
 *
 * `fetch_inputs` tells that inputs come from beyond L2: the next tokens' may be prefetched while those before them are
 * used. */
typedef void fff_two_levels_f32_function(const struct fff_trees_f32 *trees, size_t row, size_t left_row, size_t count,
                                         const uint32_t *tokens, const float *inputs, size_t input_stride,
                                         bool fetch_inputs, float *logits, size_t logit_stride);

/* activations[i] = activation(logits[i]); the two may be the same memory. */
typedef void fff_activate_f32_function(fff_activation activation, size_t count, const float *logits,
                                       float *activations);

/* The outputs of several tokens, with e = tree * level_count + level counting a token's entries, `entries` in all:
 *
 *     for i in 0 .. count-1, for each column j:  y = &output[tokens[i] * output_stride]
 *         y[j] = write & FFF_WRITE_CONTINUE ? y[j] : +0
 *         for each tree, for each level:
 *             y[j] = fma(activations[i * entries + e], output row (tree, nodes[i * entries + e])[j], y[j])
 *
 * So a layer's trees may come in several calls. Writes output_width floats a token, at any alignment; they share no
 * memory with the arguments. */
typedef void fff_accumulate_f32_function(const struct fff_trees_f32 *trees, size_t count, const uint32_t *tokens,
                                         const uint32_t *nodes, const float *activations, unsigned write, float *output,
                                         size_t output_stride);

/* Several tokens against the roots of all trees:
 *
 *     for t in 0 .. count-1, for each tree:
 *         logits[t * logit_stride + tree * level_count] = logit of tree's root for the input at inputs + t *
 * input_stride
 *
 * `fetch_output` asks for the roots' output rows to be prefetched, if they come from beyond L2. */
typedef void fff_roots_f32_function(const struct fff_trees_f32 *trees, size_t count, const float *inputs,
                                    size_t input_stride, bool fetch_output, float *logits, size_t logit_stride);

/* For trees of one level, which are all root: what accumulate_f32 writes for tokens 0 to count - 1, token t's
 * activation of a tree being activations[t * activation_stride + tree]. FFF_WRITE_STREAM is not for this. */
typedef void fff_add_roots_f32_function(const struct fff_trees_f32 *trees, size_t count, const float *activations,
                                        size_t activation_stride, unsigned write, float *output, size_t output_stride);

struct fff_kernels {
    fff_descend_f32_function *descend_f32;
    fff_node_dot_f32_function *node_dot_f32;
    fff_two_levels_f32_function *two_levels_f32;
    fff_activate_f32_function *activate_f32;
    fff_accumulate_f32_function *accumulate_f32;
    fff_roots_f32_function *roots_f32;
    fff_add_roots_f32_function *add_roots_f32;
};

#ifdef __cplusplus
extern "C" {
#endif
extern const struct fff_kernels fff_kernels_generic;
extern const struct fff_kernels fff_kernels_x86_avx2;
extern const struct fff_kernels fff_kernels_x86_avx512;
extern const struct fff_kernels fff_kernels_arm_neon;
#ifdef __cplusplus
}
#endif

#endif
