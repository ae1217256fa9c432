/* The dense definition of a layer in float64, and the proven bounds within which a float32 result
 * must lie. docs/numerics.md derives every bound. */
#ifndef FFF_TOOLS_DENSE_F64_H
#define FFF_TOOLS_DENSE_F64_H

#include "tools/files/layer_data.h"

/* A layer that stores bfloat16 or float16 is the float32 layer of the stored numbers. Of int8 rows data hold integers
 * and scales: the definition is then of quantised tokens. docs/numerics.md has both. */

/* How many roundings separate a float32 result from the exact one. */
struct roundings {
    double logit;         /* of one term of a dot product, bias included */
    double integer_logit; /* likewise, of int8 rows */
    bool exact_integers;  /* whose products are added without rounding: the sum alone is rounded, not each term */
    double output;        /* of one term of an output's sum */
};

/* Of this library's fixed order of operations. */
struct roundings roundings_of_library(const struct layer_data *data);
/* Of any order of operations whatever: another program's. */
struct roundings roundings_of_any_order(const struct layer_data *data);

/* What checking some tokens found. Zero it first; checks add to it. */
struct agreement {
    size_t tokens;
    size_t route_mismatches; /* tokens that went a way which the exact logit, beyond its bound, forbids */
    size_t ties;             /* tokens that went against the exact sign of a logit within its bound */
    double largest_tie;      /* the largest such logit's size, exactly; 0 without ties */
    size_t logit_errors;     /* logits outside their bound */
    size_t output_errors;    /* outputs outside their bound */
    size_t unbounded;        /* tokens with a NaN, an infinity or a possible overflow: nothing is proven */
    double max_abs_error;    /* of outputs */
    double bound_used;       /* the worst error of a logit or output, as a fraction of its bound */
};

/* Adds what was found elsewhere. */
void agreement_add(struct agreement *sum, const struct agreement *more);

/* True if nothing was found wrong. Ties are no fault. */
int agreement_holds(const struct agreement *agreement);

/* Scratch for one token; allocated once. */
struct dense_f64;
struct dense_f64 *dense_f64_create(const struct layer_data *data); /* NULL when out of memory */
void dense_f64_destroy(struct dense_f64 *dense);

/* Evaluates all nodes and neurons of all trees for token `token` of the data's input: dense_f64_check() refers to
 * the token evaluated last. */
void dense_f64_evaluate(struct dense_f64 *dense, size_t token);

/* Checks one token's float32 result: the path (layer_path_length() nodes and neurons), its logits (or NULL: not
 * known) and the output (or NULL), against the dense definition masked to that path. */
void dense_f64_check(struct dense_f64 *dense, struct roundings roundings, const uint32_t *path, const float *logits,
                     const float *output, struct agreement *agreement);

/* Where routes are exact: says at which entries of the path of the token evaluated last the layer used the float32 row,
 * of `wide`, in place of the one that it stores. Holds until the next token is evaluated. */
void dense_f64_use_rows_of(struct dense_f64 *dense, const struct layer_data *wide, const bool *entries);

/* The integers of a token, or of a row of weights, and what they are multiplied by: NaN if a value is not finite. */
float quantise_row(const float *values, size_t count, float *integers);

/* A logit of one of the data's parts, `row` being one of its input_weights; a float32 one is at most *bound off,
 * infinite where nothing is proven. */
double dense_f64_logit(const struct dense_f64 *dense, const struct layer_data *part, size_t row,
                       struct roundings roundings, double *bound);

/* The activation in float64, and a bound on its float32 result's error when computed from a logit that
 * is off by at most logit_error. */
double activation_f64(fff_activation activation, double logit);
double activation_error_bound(fff_activation activation, double logit, double logit_error);

#endif
