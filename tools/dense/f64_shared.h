/* What the two files of the dense definition share: numbers and bounds are in f64.c, the walk along a token's
 * path in f64_check.c. */
#ifndef FFF_TOOLS_DENSE_F64_SHARED_H
#define FFF_TOOLS_DENSE_F64_SHARED_H

#include "tools/dense/f64.h"

static const double UNIT = 0x1p-24;             /* unit roundoff of float32 */
static const double UNIT_F64 = 0x1p-53;         /* and of float64 */
static const double UNDERFLOW_ERROR = 0x1p-147; /* more than the few roundings of one step add below the normal range */
static const float LARGEST_INTEGER = 127, LEAST_QUANTISED = 0x1p-100f; /* docs/numerics.md */

/* What an output's sum is made of, along the path: a number times a row of weights. */
struct term {
    const float *weights; /* of column 0; the next column's is `stride` further on */
    size_t stride;
    double scale;          /* that the weights are multiplied by, where they are integers */
    double number, bound;  /* an activation times the part's factor, and the bound of its float32 value's error */
    double underflow;      /* how many times UNDERFLOW_ERROR such products may be off, as a multiple of the weight, */
    double more_underflow; /* and besides */
};

struct dense_f64 {
    const struct layer_data *data;
    const float *input;            /* of the token evaluated */
    float *integers;               /* of it, where rows are int8, */
    double input_scale;            /* and their scale */
    double *logits;                /* one a row, of all parts in turn */
    const struct layer_data *wide; /* whose rows were used at some entries, or NULL */
    const bool *wide_entries;
    struct term *terms; /* of the path checked last */
    size_t term_count;
};

/* gamma(k) = k u / (1 - k u): the relative error of k roundings (Higham, "Accuracy and Stability of
 * Numerical Algorithms", lemma 3.1). Infinite, and so never proving anything, where it has no meaning. */
double f64_gamma(double roundings, double unit);

/* Of a row of `data`, for the token evaluated last: the logit, exact but for float64's own rounding; and how far a
 * float32 one is from it at most, infinite where a float32 sum may overflow or an operand is no number. */
double f64_logit(const struct dense_f64 *dense, const struct layer_data *data, size_t row);
double f64_logit_bound(const struct dense_f64 *dense, const struct layer_data *data, size_t row,
                       const struct roundings *roundings);

#endif
