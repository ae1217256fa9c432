/* Tools that the instruction sets' folders share, and layer/ where it prefetches: compiler hints, prefetching, routing,
 * padding. Like kernels.h it is compiled with each folder's own flags and defines nothing with external linkage. */
#ifndef FFF_KERNELS_TOOLBOX_H
#define FFF_KERNELS_TOOLBOX_H

#include "kernels/kernels.h"

#include <float.h>
#include <string.h>

/* ---- Compilers ------------------------------------------------------------------------------- */

/* A function that is inlined wherever it is called: arguments that are constants there become constants in it, and no
 * copy is left for the linker to choose from. */
#define FFF_INLINE static inline __attribute__((always_inline))

/* Before a loop over registers, of at most 16 rounds: it is to be unrolled whole, and early. Left to itself a compiler
 * may keep it, and the registers, which are an array then, in memory. */
#if defined(__clang__)
#define FFF_UNROLL _Pragma("clang loop unroll(full)")
#else
#define FFF_UNROLL _Pragma("GCC unroll 16")
#endif

/* Makes the compiler take a pointer as it is here. Left to itself gcc takes addresses apart, finds the parts
 * outside the loops, and keeps those for which there is no general register in vector registers, from where they come
 * back behind the FMAs that wait there. */
#define FFF_OPAQUE(pointer) __asm__("" : "+r"(pointer))

/* ---- Memory ---------------------------------------------------------------------------------- */

/* A cache line: what one prefetch fetches. */
#define FFF_LINE_BYTES 64
#define FFF_LINE_FLOATS 16

/* The beginning of a row, which is fetched of both children before it is known which one is next: so the wait for
 * memory begins early, and little is lost on the wrong child. */
#define FFF_FIRST_BYTES (4 * FFF_LINE_BYTES)

/* Prefetch so many bytes, into L1 or no nearer than L2. Inlined by force: gcc takes a function that does nothing but
 * prefetch for one without effect, and leaves out calls. */
FFF_INLINE void fff_fetch_l1(const void *from, size_t bytes) {
    for (size_t i = 0; i < bytes; i += FFF_LINE_BYTES) {
        __builtin_prefetch((const char *)from + i, 0, 3);
    }
}

FFF_INLINE void fff_fetch_l2(const void *from, size_t bytes) {
    for (size_t i = 0; i < bytes; i += FFF_LINE_BYTES) {
        __builtin_prefetch((const char *)from + i, 0, 2);
    }
}

/* Makes streamed output visible to other threads. */
static inline void fff_store_fence(void) {
#if defined(__x86_64__)
    __builtin_ia32_sfence();
#endif
}

/* ---- Sizes ----------------------------------------------------------------------------------- */

FFF_INLINE size_t fff_min(size_t a, size_t b) {
    return a < b ? a : b;
}

/* ---- Rows ------------------------------------------------------------------------------------ */

/* Where the bfloat16 of a column is in its row. */
FFF_INLINE size_t fff_bf16_place(size_t column) {
    size_t in_step = column % FFF_ROW_STEP, half = FFF_ROW_STEP / 2;
    return column - in_step + 2 * (in_step % half) + in_step / half;
}

/* The bytes of a row that hold weights. */
FFF_INLINE size_t fff_row_bytes(fff_weight_type type, size_t width) {
    size_t in_step = width % FFF_ROW_STEP;
    switch (type) {
    case FFF_WEIGHT_BF16: return 2 * (width - in_step) + 4 * fff_min(in_step, FFF_ROW_STEP / 2);
    case FFF_WEIGHT_F16: return 2 * width;
    case FFF_WEIGHT_I8: return width;
    case FFF_WEIGHT_F32: break;
    }
    return 4 * width;
}

/* The last, incomplete step of an input of `width` floats, completed with zeros. Empty, all zeros, if
 * width is a multiple of FFF_PARTIAL_SUMS. For instruction sets without masked loads. */
FFF_INLINE void fff_pad_tail(const float *input, size_t width, float tail[FFF_PARTIAL_SUMS]) {
    size_t whole = width / FFF_PARTIAL_SUMS * FFF_PARTIAL_SUMS;
    memset(tail, 0, FFF_PARTIAL_SUMS * sizeof *tail);
    if (whole < width) {
        memcpy(tail, input + whole, (width - whole) * sizeof *tail);
    }
}

/* ---- Integer sums ----------------------------------------------------------------------------- */

/* I8 output rows of trees of so many levels are added up as integers, times factors that are quantised to 16 bits;
 * those of fewer levels as floats, in which they are as fast. */
enum { FFF_INTEGER_LEVELS = 4, FFF_FACTOR_MOST = 32767 };

FFF_INLINE bool fff_has_integer_sums(size_t level_count) {
    return level_count >= FFF_INTEGER_LEVELS;
}

/* Where such a row has the byte of a column, and what has been added to it (kernels.h). */
enum { FFF_INTEGER_STEP = 64, FFF_INTEGER_OFFSET = 128 };
struct fff_integer_place {
    size_t byte;
    int offset;
};
FFF_INLINE struct fff_integer_place fff_integer_place(size_t column, size_t width) {
    size_t in_step = column % FFF_INTEGER_STEP, step = column - in_step;
    if (step + FFF_INTEGER_STEP > width) {
        return (struct fff_integer_place){column, 0};
    }
    size_t quarter = in_step / 16, lane = in_step % 16 / 4, word = in_step % 4 + 4 * (quarter / 2);
    return (struct fff_integer_place){step + 16 * lane + 2 * word + quarter % 2,
                                      quarter % 2 == 0 ? FFF_INTEGER_OFFSET : 0};
}

/* ---- Routing --------------------------------------------------------------------------------- */

/* Whether a logit leads right: an index, 0 or 1, for there must be no branch to mispredict. NaN leads left. */
FFF_INLINE uint32_t fff_goes_right(float logit, float threshold) {
    return logit > threshold;
}

/* What a row's logit is compared with. */
FFF_INLINE float fff_threshold_of(const struct fff_trees *trees, size_t row) {
    return trees->thresholds != NULL ? trees->thresholds[row] : trees->threshold;
}

FFF_INLINE uint32_t fff_child(uint32_t node, float logit, float threshold) {
    return 2 * node + 1 + fff_goes_right(logit, threshold);
}

/* ---- Tokens for I8 rows ---------------------------------------------------------------------- */

enum { FFF_QUANTISED_STEP = 64, FFF_QUANTISED_MOST = 127 };

/* The integers of a token, padded with zero bytes to a multiple of FFF_QUANTISED_STEP, and then a line, whose first
 * float is the scale. */
FFF_INLINE size_t fff_quantised_width(size_t width) {
    return (width + FFF_QUANTISED_STEP - 1) / FFF_QUANTISED_STEP * FFF_QUANTISED_STEP;
}
FFF_INLINE size_t fff_quantised_bytes(size_t width) {
    return fff_quantised_width(width) + FFF_LINE_BYTES;
}
FFF_INLINE float fff_scale_of_quantised(const void *token, size_t width) {
    float scale;
    memcpy(&scale, (const char *)token + fff_quantised_width(width), sizeof scale);
    return scale;
}
FFF_INLINE void fff_set_scale_of_quantised(unsigned char *token, size_t width, float scale) {
    memcpy(token + fff_quantised_width(width), &scale, sizeof scale);
}

/* The largest size of a token's inputs, of a row's weights or of a token's factors, to their scale and what multiplies
 * them, to become integers of at most `most`. Of less than FFF_LEAST_QUANTISED all are taken for 0; one that is not
 * finite makes all that they are used for NaN. */
#define FFF_LEAST_QUANTISED 0x1p-100f
struct fff_quantiser {
    float scale, factor;
};
FFF_INLINE struct fff_quantiser fff_make_quantiser(float largest, int most) {
    if (!(largest <= FLT_MAX)) {
        return (struct fff_quantiser){__builtin_nanf(""), 0.0f};
    }
    if (largest < FFF_LEAST_QUANTISED) {
        return (struct fff_quantiser){1.0f, 0.0f};
    }
    return (struct fff_quantiser){largest / (float)most, (float)most / largest};
}

/* An I8 row's logit, once the integer sum is there. */
FFF_INLINE float fff_scale_dot(const struct fff_trees *trees, size_t row, float dot, float input_scale) {
    return __builtin_fmaf(dot, input_scale * trees->input_scales[row], trees->biases[row]);
}

/* ---- Activations ----------------------------------------------------------------------------- */

/* The constants of the activations, so that all instruction sets round the same ones. */
#define FFF_SQRT_2_OVER_PI 0.79788456080286535588f /* sqrt(2 / pi) */
#define FFF_GELU_TANH_CUBIC 0.044715f

/* Those of their derivatives. From an END on, in |z|, the exponential is 0 and the derivative its limit, which is
 * computed for END in place of z: so no infinity meets a zero. */
#define FFF_GELU_END 16.0f
#define FFF_GELU_TANH_END 12.0f
#define FFF_SILU_END 128.0f
#define FFF_NORMAL_DENSITY 0.39894228040143267794f /* 1 / sqrt(2 pi) */
#define FFF_GELU_TANH_SLOPE 0.134145f              /* 3 * 0.044715 */

#endif
