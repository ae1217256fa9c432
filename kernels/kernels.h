/* The contract between the library and its instruction sets.
 *
 * Each folder kernels/<isa>/ fills one struct fff_kernels and exports nothing else. The generic one
 * is the specification: every other must produce the same bits (NaN for NaN, whatever its sign and
 * payload) for every argument that this file allows. docs/numerics.md explains the arithmetic,
 * docs/adding-an-isa.md how to write a new folder.
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
#include <string.h>

#ifdef __FAST_MATH__
#error "libfff's results are defined to the bit: compile without -ffast-math"
#endif

/* A dot product is this many interleaved partial sums, on every instruction set. Never varies: it
 * decides the bits. */
#define FFF_PARTIAL_SUMS 32

/* The floats of a cache line: what one prefetch fetches. */
#define FFF_LINE_FLOATS 16

/* The beginning of a row, 4 lines, which is fetched of both children before it is known which one is next: so the wait
 * for memory begins early, and little is lost on the wrong child. */
#define FFF_FIRST_FLOATS (4 * FFF_LINE_FLOATS)

/* Before a loop over registers, of at most 16 rounds: it is to be unrolled whole, and early. Left to itself a compiler
 * may keep it, and the registers, which are an array then, in memory. */
#if defined(__clang__)
#define FFF_UNROLL _Pragma("clang loop unroll(full)")
#else
#define FFF_UNROLL _Pragma("GCC unroll 16")
#endif

/* A pointer that the compiler is to take as it stands here. Left to itself gcc takes addresses apart, finds the parts
 * outside the loops, and keeps those for which there is no general register in vector registers, from where they come
 * back behind the FMAs that wait there. */
#define FFF_AS_IT_STANDS(pointer) __asm__("" : "+r"(pointer))

/* Ask for `floats` floats, into L1 or no nearer than L2. Inlined by force: gcc takes a function that does nothing but
 * prefetch for one without effect, and leaves out calls. */
static inline __attribute__((always_inline)) void fff_fetch_l1(const float *from, size_t floats) {
    for (size_t i = 0; i < floats; i += FFF_LINE_FLOATS) {
        __builtin_prefetch(from + i, 0, 3);
    }
}

static inline __attribute__((always_inline)) void fff_fetch_l2(const float *from, size_t floats) {
    for (size_t i = 0; i < floats; i += FFF_LINE_FLOATS) {
        __builtin_prefetch(from + i, 0, 2);
    }
}

/* The weights of a layer as kernels see them. Row r = tree * nodes + node has its input weights at
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
    size_t trees;
    size_t levels;      /* depth + 1 */
    size_t nodes;       /* per tree: 2^levels - 1 */
    size_t near_levels; /* rows of so many uppermost levels stay in L2: a hint at what not to fetch ahead */
    float right_above;  /* a token goes right if its logit is above this: FFF_ABOVE_ZERO or FFF_FROM_ZERO */
};

/* The vector instruction sets' blocked dot products are in tiles of so many rows by so many tokens; roots_f32's last
 * one is incomplete if the number of trees is no multiple. */
enum { FFF_TILE_ROWS = 3, FFF_TILE_TOKENS = 4 };

/* How accumulate_f32 is to write. */
enum { FFF_CONTINUE = 1, FFF_STREAM = 2 };

struct fff_kernels {
    /* One token down all trees. Writes trees * levels entries, entry tree * levels + level: the node
     * visited and its logit. `input` has input_width floats, at any alignment.
     * `fetch_output` asks for the visited output rows, as far as that pays, to be prefetched for accumulate_f32. */
    void (*descend_f32)(const struct fff_trees_f32 *trees, const float *input, bool fetch_output, uint32_t *nodes,
                        float *logits);

    /* Several tokens against one row: logits[t * logit_stride] = the logit of row `row` for the token at
     * inputs + t * input_stride, for each t among the `count` entries of `tokens`. */
    void (*node_dot_f32)(const struct fff_trees_f32 *trees, size_t row, size_t count, const uint32_t *tokens,
                         const float *inputs, size_t input_stride, float *logits, size_t logit_stride);

    /* The same for two levels: also logits[t * logit_stride + 1] = the logit of the child that the token goes to, whose
     * row is left_row or the next one. `fetch_inputs` tells that inputs come from beyond L2: the next tokens' may be
     * asked for while those before them are used. */
    void (*two_levels_f32)(const struct fff_trees_f32 *trees, size_t row, size_t left_row, size_t count,
                           const uint32_t *tokens, const float *inputs, size_t input_stride, bool fetch_inputs,
                           float *logits, size_t logit_stride);

    /* activations[i] = activation(logits[i]); the two may be the same memory. */
    void (*activate_f32)(fff_activation activation, size_t count, const float *logits, float *activations);

    /* The outputs of several tokens. The i-th of `count` has nodes[i * entries ...] and activations[i * entries ...],
     * entries being trees * levels, and its output y at output + tokens[i] * output_stride: y[j] = the fused chain over
     * trees, then levels, of activation (tree * levels + level) * output row (tree, node (tree * levels + level))
     * column j, from +0 or, if `how` has FFF_CONTINUE, from what y[j] is: so a layer's trees may come in several
     * calls. Writes output_width floats a token, at any alignment; they share no memory with the arguments.
     * FFF_STREAM tells that the output will not be read soon, and may go past the caches; it changes no bit.
     * Whoever asks for it calls fff_store_fence() before another thread may read. */
    void (*accumulate_f32)(const struct fff_trees_f32 *trees, size_t count, const uint32_t *tokens,
                           const uint32_t *nodes, const float *activations, unsigned how, float *output,
                           size_t output_stride);

    /* `count` tokens against the roots of all trees: logits[t * logit_stride + tree * levels] = the logit of tree's
     * root for the token at inputs + t * input_stride. `fetch_output` asks for the roots' output rows to be prefetched,
     * if they come from beyond L2. */
    void (*roots_f32)(const struct fff_trees_f32 *trees, size_t count, const float *inputs, size_t input_stride,
                      bool fetch_output, float *logits, size_t logit_stride);

    /* For trees of one level, which are all root: what accumulate_f32 writes for each of `count` tokens, token t's
     * activation of a tree being activations[t * activation_stride + tree]. FFF_STREAM is not for this. */
    void (*add_roots_f32)(const struct fff_trees_f32 *trees, size_t count, const float *activations,
                          size_t activation_stride, unsigned how, float *output, size_t output_stride);
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

/* The two routing rules as one comparison: no float lies between the largest negative one and -0, so
 * "above it" is ">= 0". */
#define FFF_ABOVE_ZERO 0.0f
#define FFF_FROM_ZERO (-0x1p-149f)

/* Whether a logit leads right: an index, 0 or 1, for there must be no branch to mispredict. NaN leads left. */
static inline __attribute__((always_inline)) uint32_t fff_goes_right(float logit, float right_above) {
    return logit > right_above;
}

static inline __attribute__((always_inline)) uint32_t fff_child(uint32_t node, float logit, float right_above) {
    return 2 * node + 1 + fff_goes_right(logit, right_above);
}

/* The shapes that the vector instruction sets share are made of such functions: the logit of one row for one token,
 * `tail` being fff_pad_tail() of the input. */
typedef float fff_logit_function(const struct fff_trees_f32 *trees, size_t row, const float *input, const float *tail);

/* The last, incomplete step of an input of `width` floats, completed with zeros. Empty, all zeros, if
 * width is a multiple of FFF_PARTIAL_SUMS. For instruction sets without masked loads. */
static inline __attribute__((always_inline)) void fff_pad_tail(const float *input, size_t width,
                                                               float tail[FFF_PARTIAL_SUMS]) {
    size_t whole = width / FFF_PARTIAL_SUMS * FFF_PARTIAL_SUMS;
    memset(tail, 0, FFF_PARTIAL_SUMS * sizeof *tail);
    if (whole < width) {
        memcpy(tail, input + whole, (width - whole) * sizeof *tail);
    }
}

/* Makes streamed output visible to other threads. */
static inline void fff_store_fence(void) {
#if defined(__x86_64__)
    __builtin_ia32_sfence();
#endif
}

/* The constants of the activations, so that all instruction sets round the same ones. */
#define FFF_INVERSE_SQRT_2 0.70710678118654752440f /* 1 / sqrt 2 */
#define FFF_SQRT_2_OVER_PI 0.79788456080286535588f /* sqrt(2 / pi) */
#define FFF_GELU_TANH_CUBIC 0.044715f

#endif
