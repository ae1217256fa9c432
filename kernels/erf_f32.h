/* erf(z / sqrt 2), which GELU needs, as a table of polynomials that all instruction sets share.
 *
 * |z| below FFF_ERF_END is in one of 8 intervals, each 1 / FFF_ERF_SCALE wide. In interval k, with v = |z| - centre[k],
 *
 *     erf(|z| / sqrt 2) = fma(v, p(v), base),   p(v) = factors[0][k] + v (factors[1][k] + v (factors[2][k] + ...))
 *
 * where base is base[k], but |z| itself in interval 0: so what p contributes is small, and its rounding smaller still.
 * From FFF_ERF_END on the result is 1. The order of operations is that of kernels/generic/erf.h; the error is
 * at most 0.95 ULP, seen by trying every float32 (tests/exhaustive_gelu.c).
 *
 * The polynomials are minimax fits of the error in ULP (a linear program, one coefficient rounded to float32 at a time
 * and the rest fitted again; in interval 0 then a random search among neighbouring floats). Centres are the floats near
 * the middle of an interval at which erf is nearest to a float32, which becomes the base.
 */
#ifndef FFF_ERF_F32_H
#define FFF_ERF_F32_H

/* Intervals: what one AVX2 register holds, and two of NEON's. */
#define FFF_ERF_INTERVALS 8
#define FFF_ERF_FACTORS 7

#define FFF_ERF_SCALE 1.44f
#define FFF_ERF_END 5.555f /* below 8 / FFF_ERF_SCALE; 1 - erf is less than half of an ULP from here on */

/* fma(|z|, FFF_ERF_SCALE, FFF_ERF_SHIFTER) has the number of the interval in bits 16 to 18: the shifter is 64 and 128,
 * whose last place is 2^-16. It is below FFF_ERF_FIRST in interval 0, and only there. */
#define FFF_ERF_SHIFTER 192.0f
#define FFF_ERF_SHIFT 16
#define FFF_ERF_FIRST 193.0f

struct fff_erf_table {
    _Alignas(64) float centre[FFF_ERF_INTERVALS];
    float base[FFF_ERF_INTERVALS];
    float factors[FFF_ERF_FACTORS][FFF_ERF_INTERVALS];
};

/* clang-format off */
static const struct fff_erf_table FFF_ERF = {
    .centre = {0, 0x1.07a2cp+0f, 0x1.bc6dcp+0f, 0x1.35308p+1f, 0x1.8e94p+1f, 0x1.ea978p+1f, 0x1.20dc9p+2f,
               0x1.4e165p+2f},
    .base = {0, 0x1.64d13cp-1f, 0x1.d5bb58p-1f, 0x1.f7f4ap-1f, 0x1.ff0dfep-1f, 0x1.ffef64p-1f, 0x1.ffff2ap-1f,
             0x1.fffffap-1f},
    .factors = {
        {-0x1.9deeb2p-3f, 0x1.e0c786p-2f, 0x1.6a171ap-3f, 0x1.616f4ep-5f, 0x1.9a19dp-8f, 0x1.0e29bp-11f,
         0x1.f8c11p-16f, 0x1.032ea8p-20f},
        {-0x1.1876cep-20f, -0x1.ef1e9cp-3f, -0x1.3a4db2p-3f, -0x1.aade4cp-5f, -0x1.3f4072p-7f,
         -0x1.02de7cp-10f, -0x1.1cd63ep-14f, -0x1.524bbep-19f},
        {-0x1.104cfap-3f, 0x1.367a9ep-8f, 0x1.e6222p-5f, 0x1.1ccceap-5f, 0x1.2932c4p-7f, 0x1.343586p-10f,
         0x1.9767c6p-14f, 0x1.1b8ff2p-18f},
        {-0x1.5988d2p-13f, 0x1.401116p-5f, -0x1.68eafcp-13f, -0x1.93608ep-7f, -0x1.645fb6p-8f,
         -0x1.f839fep-11f, -0x1.9a9752p-14f, -0x1.54aa16p-18f},
        {0x1.509c76p-6f, -0x1.1ee5ccp-7f, -0x1.219c76p-7f, 0x1.7f666ep-11f, 0x1.096648p-9f, 0x1.26399cp-11f,
         0x1.36f806p-14f, 0x1.38767cp-18f},
        {-0x1.18ff4cp-10f, -0x1.e06afep-9f, 0x1.47c802p-9f, 0x1.621f5cp-10f, -0x1.45247cp-12f,
         -0x1.e69354p-13f, -0x1.7f880ap-15f, -0x1.e57684p-19f},
        {-0x1.9865bcp-10f, 0x1.96c902p-10f, 0x1.afb822p-12f, -0x1.1aa6e6p-11f, -0x1.8ba5bp-14f,
         0x1.e3661ep-15f, 0x1.3dce98p-16f, 0x1.236e3ep-19f},
    },
};
/* clang-format on */

#endif
