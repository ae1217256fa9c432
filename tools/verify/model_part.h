/* What the parts of `fff verify` on a model share: some sequences of its input, which are run in all ways before the
 * next ones are. */
#ifndef FFF_TOOLS_VERIFY_MODEL_PART_H
#define FFF_TOOLS_VERIFY_MODEL_PART_H

#include "bert/reference_f64.h"
#include "tools/verify/model.h"

/* What one run of a part showed: matrices of tokens x width, one a layer. */
struct record {
    float *hidden;           /* tokens x width */
    float *inputs, *outputs; /* of each layer's feedforward */
    uint32_t *nodes;         /* layers x tokens x path, which is 0 for trees of depth 0 */
    float *logits;           /* likewise */
    bool *parted;            /* sequences: whether a token's route, in some layer, parts from float64's */
};
struct record_f64 {
    double *hidden, *outputs;
    uint32_t *nodes;
};

/* What another program computed from the whole input; values are NULL where it did not. */
struct other_results {
    fff_floats hidden, logits, embedding;
};

struct part {
    const struct model_input_choice *choice;
    const struct model_check *check;
    const fff_bert *masked; /* the dense model, open throughout */
    const struct other_results *file;
    struct model_verdict *verdict;
    fff_bert_batch batch;
    size_t first; /* sequence */
    size_t tokens, width, path, layers;
    size_t checked; /* tokens, from the first, whose layers are checked one by one */
    struct record runs[MOST_RUNS];
    struct record generic; /* where it is not among them */
    struct record_f64 exact;
    char *error;
    size_t error_size;
};

/* Says so; false. */
bool part_out_of_memory(const struct part *part);

/* Padding is compared too where a file has results for it, but not with float64's run: nothing reads it. */
bool part_has_token(const struct part *part, size_t token);

/* Takes the larger of the errors, and of the values. */
void compare_numbers(double value, double expected, struct difference *difference);

/* ---- model_runs.c ---- */

/* How a model is opened to be run. */
fff_bert_options model_check_options(const struct model_check *check, fff_isa isa, fff_bert_feedforward feedforward);
/* All runs of a part: by the kernels on each instruction set, dense with a mask, in float64. */
bool part_run(struct part *part);
void part_free_runs(struct part *part);

/* ---- model_layers.c ---- */

/* One layer in all ways, on the input recorded in the first run. */
bool part_check_layer(const struct part *part, size_t layer);

/* ---- model_routes.c ---- */

/* A whole run by the kernels against generic's, bit by bit. */
void part_compare_bits(const struct part *part, size_t run);
/* A whole run against float64's: hidden states, layers' outputs, and routes. */
void part_compare_run(const struct part *part, size_t run);

/* ---- model_predictions.c ---- */

/* Logits of words or classes of every run, against float64's and the file's. */
bool part_check_logits(const struct part *part);

/* ---- model_others.c ---- */

/* The results in the input's file, which must have the shapes that this model gives them; the leading dimensions may be
 * one. */
bool other_results_read(const struct model_input *input, const fff_bert_config *config, struct other_results *file,
                        char *error, size_t error_size);
void other_results_free(struct other_results *file);
/* The values of such a tensor that belong to a part: rows of `count`, from row `first`. NULL if it is not there. */
const float *other_results_rows(const fff_floats *floats, size_t first, size_t count);
void part_check_file_hidden(const struct part *part);
bool part_check_embeddings(const struct part *part);

#endif
