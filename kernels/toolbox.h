/* Tools that the instruction sets' folders share, and layer/ where it prefetches: compiler hints, prefetching, routing,
 * padding. Like kernels.h it is compiled with each folder's own flags and defines nothing with external linkage. */
#ifndef FFF_KERNELS_TOOLBOX_H
#define FFF_KERNELS_TOOLBOX_H

#include "kernels/kernels.h"

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

/* The floats of a cache line: what one prefetch fetches. */
#define FFF_LINE_FLOATS 16

/* The beginning of a row, 4 lines, which is fetched of both children before it is known which one is next: so the wait
 * for memory begins early, and little is lost on the wrong child. */
#define FFF_FIRST_FLOATS (4 * FFF_LINE_FLOATS)

/* Prefetch `floats` floats, into L1 or no nearer than L2. Inlined by force: gcc takes a function that does nothing but
 * prefetch for one without effect, and leaves out calls. */
FFF_INLINE void fff_fetch_l1(const float *from, size_t floats) {
    for (size_t i = 0; i < floats; i += FFF_LINE_FLOATS) {
        __builtin_prefetch(from + i, 0, 3);
    }
}

FFF_INLINE void fff_fetch_l2(const float *from, size_t floats) {
    for (size_t i = 0; i < floats; i += FFF_LINE_FLOATS) {
        __builtin_prefetch(from + i, 0, 2);
    }
}

/* Makes streamed output visible to other threads. */
static inline void fff_store_fence(void) {
#if defined(__x86_64__)
    __builtin_ia32_sfence();
#endif
}

/* ---- Sizes ----------------------------------------------------------------------------------- */

FFF_INLINE size_t fff_smaller(size_t a, size_t b) {
    return a < b ? a : b;
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

/* ---- Routing --------------------------------------------------------------------------------- */

/* Whether a logit leads right: an index, 0 or 1, for there must be no branch to mispredict. NaN leads left. */
FFF_INLINE uint32_t fff_goes_right(float logit, float threshold) {
    return logit > threshold;
}

FFF_INLINE uint32_t fff_child(uint32_t node, float logit, float threshold) {
    return 2 * node + 1 + fff_goes_right(logit, threshold);
}

/* The logit of one row for one token, `tail` being fff_pad_tail() of the input: what the shapes that the vector
 * instruction sets share are made of. */
typedef float fff_logit_function(const struct fff_trees_f32 *trees, size_t row, const float *input, const float *tail);

/* ---- Activations ----------------------------------------------------------------------------- */

/* The constants of the activations, so that all instruction sets round the same ones. */
#define FFF_SQRT_2_OVER_PI 0.79788456080286535588f /* sqrt(2 / pi) */
#define FFF_GELU_TANH_CUBIC 0.044715f

#endif
