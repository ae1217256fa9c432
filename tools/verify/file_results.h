/* How the results that a file has, another program's, differ from the kernels': where, by how much, and whether a tie
 * excuses it. */
#ifndef FFF_TOOLS_VERIFY_FILE_RESULTS_H
#define FFF_TOOLS_VERIFY_FILE_RESULTS_H

#include "tools/dense/f64.h"

#include <stdbool.h>

/* The largest difference of some values. Zero it first; comparing adds to it. */
struct value_difference {
    size_t count;       /* values compared */
    size_t row, column; /* where: token (or sequence), and place in its row */
    double here, there; /* the kernels' value, the file's */
    double difference;  /* infinite where one of them is no number */
    bool at_fault;      /* a row that does not hold comes before all rows that do */
};
void compare_value(struct value_difference *largest, size_t row, size_t column, float here, float there);

/* The first token that went another way: one that no tie excuses if there is such a token. */
struct route_difference {
    size_t tokens;             /* that went another way */
    size_t token, tree, level; /* trees counted through all parts */
    int64_t here, there;       /* nodes of that level; leaves are counted on from a tree's last node */
    int64_t parent;            /* whose logit decides; -1 at level 0 */
    double logit, exact;       /* of the parent: the kernels' and float64's */
    double bound;              /* of the distance between a float32 logit and float64's; infinite: nothing is proven */
    bool tie;
};

struct file_comparison {
    size_t tokens, tokens_wrong; /* a token is wrong if its output or its path is */
    struct value_difference output;
    struct route_difference route;
};

/* Adds what was found in later tokens. */
void file_comparison_add(struct file_comparison *sum, const struct file_comparison *more);

/* What the kernels computed of one token. */
struct token_results {
    size_t token;
    const uint32_t *path;
    const float *logits, *output;
};

/* Holds the token's output and path, as the data's file has them, against the definition, which is added to *expected,
 * and against the kernels' results. `dense` has evaluated that token. True if the paths differ and no tie excuses it.
 */
bool compare_file_results(const struct layer_data *data, struct dense_f64 *dense, const struct token_results *kernels,
                          struct agreement *expected, struct file_comparison *comparison);

#endif
