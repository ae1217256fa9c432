/* The contract between the library and its instruction sets.
 *
 * Each folder kernels/<isa>/ fills a struct fff_kernels, or one for each variant, and exports nothing else. The generic
 * one is the specification: every other must produce the same bits (NaN for NaN, whatever its sign and payload) for
 * every argument that this file allows. docs/numerics.md explains the arithmetic, docs/adding-an-isa.md how to write a
 * new folder, for which kernels/toolbox.h has the tools.
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

/* Flags that change what floating-point operations mean: -ffast-math; -ffinite-math-only; others of the kind, with
 * which gcc no longer claims to keep to IEC 60559 (clang does not tell of them); x87, whose results have more bits. */
#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__ > 0) ||                           \
    (defined(__GCC_IEC_559) && __GCC_IEC_559 == 0) ||                                                                  \
    (defined(__FLT_EVAL_METHOD__) &&                                                                                   \
     (__FLT_EVAL_METHOD__ < 0 || __FLT_EVAL_METHOD__ == 1 || __FLT_EVAL_METHOD__ == 2))
#error "libfff's results are defined to the bit: compile without -ffast-math, its parts, and x87"
#endif

/* A dot product is this many interleaved partial sums, on every instruction set. Never varies: it
 * decides the bits. */
#define FFF_PARTIAL_SUMS 32

/* The vector instruction sets' dot products are in tiles of so many rows by so many tokens; roots' last
 * one is incomplete if the number of trees is no multiple. */
enum { FFF_DOT_TILE_ROWS = 3, FFF_DOT_TILE_TOKENS = 4 };

/* The two routing rules as one comparison, logit > threshold: no float lies between the largest negative one and -0, so
 * "above it" is ">= 0". */
#define FFF_THRESHOLD_GREATER 0.0f
#define FFF_THRESHOLD_GREATER_EQUAL (-0x1p-149f)

/* How rows of each type lie in memory. Columns come in steps of FFF_ROW_STEP:
 *
 *     F32   column c is the float at 4 c
 *     F16   column c is the float16 at 2 c
 *     BF16  of each step, columns i and i + 16 lie side by side: column c is the bfloat16 at 2 fff_bf16_place(c), which
 *           makes 32-bit words that are widened by a shift and a mask
 *     I8    column c is the byte at c, and stands for that integer times the row's scale
 *
 * I8 output rows of trees of FFF_INTEGER_LEVELS levels or more (kernels/toolbox.h) have their columns in another order,
 * for integer sums: of each whole step of 64, columns i and i + 16 lie side by side, and so do i + 32 and i + 48, the
 * former of them plus 128, without sign. With i = 4 l + k, k from 0 to 3, they are the bytes 16 l + 2 k and on, and
 * 16 l + 8 + 2 k and on: where two rows' words are interleaved by unpacking, columns come out in order. What is left
 * behind the last whole step is as above. fff_integer_place() is this.
 */
enum { FFF_ROW_STEP = 32 };

/* The weights of a layer as kernels see them. Row r = tree * node_count + node has its input weights at
 * input_rows + r * row_stride and its output weights at output_rows + r * output_row_stride, each aligned for its
 * elements. In packed layers the two lie side by side: rows that fill more than a line begin with one (layer/pack.c),
 * narrower ones share it.
 * Kernels may read weights up to the next multiple of FFF_ROW_STEP columns from where a row's begin, of I8 input rows
 * of twice that, whatever it is that lies behind them; but it must not matter, were it NaN. Those of `exact_f32` read
 * nothing behind a row, nor do any of the caller's input and output. */
struct fff_trees {
    const unsigned char *input_rows;
    const unsigned char *output_rows;
    const float *biases;       /* one a row */
    const float *input_scales; /* I8 input rows: one a row */
    const int64_t *input_sums; /* and the sum of its integers */
    size_t row_stride;         /* from input row to input row, in bytes */
    size_t output_row_stride;  /* from output row to output row */
    size_t input_bytes;        /* of an input row */
    size_t output_bytes;       /* of an output row */
    size_t input_width;
    size_t output_width;
    size_t tree_count;
    size_t level_count;      /* depth + 1 */
    size_t node_count;       /* of a tree: 2^level_count - 1 */
    size_t near_levels;      /* rows of so many uppermost levels stay in L2: a hint at what not to fetch ahead */
    float threshold;         /* a token goes right if its logit is above this: FFF_THRESHOLD_GREATER or _EQUAL */
    const float *thresholds; /* in its place, one a row; NULL: that one */
};

/* A token as input rows meet it, `inputs + t * input_stride` in what follows, the stride in bytes: for I8 rows what
 * `quantise` makes of its input, aligned to 64 bytes; for all others its input_width floats, at any alignment. */

/* Whether outputs are begun or continued, and how they are stored: any of these, or 0. */
enum {
    FFF_WRITE_CONTINUE = 1, /* add to what the output holds; else begin from +0 */
    FFF_WRITE_STREAM = 2, /* the output will not be read soon, and may go past the caches; changes no bit. Whoever asks
                             for it calls fff_store_fence() before another thread may read */
};

/* Several tokens against one row:
 *
 *     for t in tokens[0 .. count-1]:  logits[t * logit_stride] = logit of `row` for token t
 */
typedef void fff_node_dot_function(const struct fff_trees *trees, size_t row, size_t count, const uint32_t *tokens,
                                   const void *inputs, size_t input_stride, float *logits, size_t logit_stride);

/* One token down all trees, level by level:
 *
 *     nodes[tree * level_count + level] = node;  logits[tree * level_count + level] = its logit;  node = its child
 *
 * `fetch_output` asks for the visited output rows, as far as that pays, to be prefetched for `accumulate`. */
typedef void fff_descend_function(const struct fff_trees *trees, const void *input, bool fetch_output, uint32_t *nodes,
                                  float *logits);

/* node_dot for two levels: also
 *
 *     logits[t * logit_stride + 1] = logit of left_row, or of left_row + 1 if the first logit leads right
 *
 * `fetch_inputs` tells that inputs come from beyond L2: the next tokens' may be prefetched while those before them are
 * used. */
typedef void fff_two_levels_function(const struct fff_trees *trees, size_t row, size_t left_row, size_t count,
                                     const uint32_t *tokens, const void *inputs, size_t input_stride, bool fetch_inputs,
                                     float *logits, size_t logit_stride);

/* Several tokens against the roots of all trees:
 *
 *     for i in 0 .. count-1, for each tree:
 *         logits[i * logit_stride + tree * level_count] = logit of tree's root for token tokens[i]
 *
 * `fetch_output` asks for the roots' output rows to be prefetched, if they come from beyond L2. */
typedef void fff_roots_function(const struct fff_trees *trees, size_t count, const uint32_t *tokens, const void *inputs,
                                size_t input_stride, bool fetch_output, float *logits, size_t logit_stride);

/* The outputs of several tokens, with e = tree * level_count + level counting a token's entries, `entries` in all:
 *
 *     for i in 0 .. count-1, for each column j:  y = &output[tokens[i] * output_stride]
 *         y[j] = write & FFF_WRITE_CONTINUE ? y[j] : +0
 *         for each tree, for each level:
 *             y[j] = fma(factors[i * entries + e], output row (tree, nodes[i * entries + e])[j], y[j])
 *
 * A factor is the entry's activation; of I8 rows, times the row's scale. So a layer's trees may come in several calls.
 * Of I8 rows of trees with FFF_INTEGER_LEVELS levels or more, instead, for each tree:
 *
 *     m = the largest |factor| of the tree's entries
 *     unit, q[level] = the factors as integers of at most 32767 (docs/numerics.md: int8 output rows)
 *     y[j] = fma(the sum of q[level] * row[j] over levels, an exact integer, rounded to a float; unit; y[j])
 *
 * Writes output_width floats a token, at any alignment; they share no memory with the arguments. */
typedef void fff_accumulate_function(const struct fff_trees *trees, size_t count, const uint32_t *tokens,
                                     const uint32_t *nodes, const float *factors, unsigned write, float *output,
                                     size_t output_stride);

/* For trees of one level, which are all root: what `accumulate` writes for the same tokens, the factor of tokens[i] and
 * a tree being factors[i * factor_stride + tree]. FFF_WRITE_STREAM is not for this. */
typedef void fff_add_roots_function(const struct fff_trees *trees, size_t count, const uint32_t *tokens,
                                    const float *factors, size_t factor_stride, unsigned write, float *output,
                                    size_t output_stride);

/* What there is for rows of one type: the first four for input rows, the others for output rows. */
struct fff_row_kernels {
    fff_descend_function *descend;
    fff_node_dot_function *node_dot;
    fff_two_levels_function *two_levels;
    fff_roots_function *roots;
    fff_accumulate_function *accumulate;
    fff_add_roots_function *add_roots;
};

/* activations[i] = activation(logits[i]); the two may be the same memory. */
typedef void fff_activate_function(fff_activation activation, size_t count, const float *logits, float *activations);

/* gradients[i] = upstream[i] * activation'(logits[i]); gradients may be the same memory as either of the others. */
typedef void fff_differentiate_function(fff_activation activation, size_t count, const float *logits,
                                        const float *upstream, float *gradients);

/* A step of AdamW for a row of weights, in place, with numbers that are the same for all of them (layer/adam.c):
 *
 *     for j in 0 .. width-1, g, w, m and v being the row's:
 *         m[j] = fma(keep_first, m[j], take_first * g[j])
 *         v[j] = fma(keep_second, v[j], take_second * (g[j] * g[j]))
 *         w[j] = fma(-rate, m[j] / fma(sqrt(v[j]), root_factor, epsilon), decay * w[j])
 *
 * The four share no memory. */
struct fff_adam_factors {
    float keep_first, take_first, keep_second, take_second, root_factor, epsilon, rate, decay;
};
typedef void fff_adam_function(const struct fff_adam_factors *factors, size_t width, const float *gradient,
                               float *weights, float *first_moment, float *second_moment);

/* A token for I8 rows: fff_quantised_bytes(width) bytes, aligned to 64, in the instruction set's own form, with `scale`
 * so that input[j] is about integer[j] * scale (docs/numerics.md). */
typedef void fff_quantise_function(size_t width, const float *input, unsigned char *quantised);

/* Inputs and outputs of BF16 or F16: widened exactly, or rounded to nearest, ties to even; `halves` is aligned to 2. */
typedef void fff_widen_function(fff_weight_type type, size_t count, const uint16_t *halves, float *floats);
typedef void fff_narrow_function(fff_weight_type type, size_t count, const float *floats, uint16_t *halves);

struct fff_kernels {
    const struct fff_row_kernels *rows[FFF_WEIGHT_TYPE_COUNT]; /* by fff_weight_type */
    const struct fff_row_kernels *exact_f32; /* of F32 rows in the caller's memory: they read what rows hold, no more */
    fff_activate_function *activate;
    fff_quantise_function *quantise;
    fff_widen_function *widen;
    fff_narrow_function *narrow;
    fff_differentiate_function *differentiate;
    fff_adam_function *adam;
};

#ifdef __cplusplus
extern "C" {
#endif
extern const struct fff_kernels fff_kernels_generic;
extern const struct fff_kernels fff_kernels_x86_avx2;
extern const struct fff_kernels fff_kernels_x86_avx2_vnni; /* with AVX-VNNI for I8 rows */
extern const struct fff_kernels fff_kernels_x86_avx512;
extern const struct fff_kernels fff_kernels_x86_avx512_vnni; /* with AVX-512 VNNI for them */
extern const struct fff_kernels fff_kernels_arm_neon;
extern const struct fff_kernels fff_kernels_arm_neon_dotprod; /* with the dot product extension for them */
#ifdef __cplusplus
}
#endif

#endif
