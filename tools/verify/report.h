/* What `fff verify` found, for people and for programs. */
#ifndef FFF_TOOLS_VERIFY_REPORT_H
#define FFF_TOOLS_VERIFY_REPORT_H

#include "tools/options.h"
#include "tools/verify/model.h"

#include <jansson.h>

/* Which b2s a layer had of those that its file has. */
enum leaf_biases { ALL_BIASES_GIVEN, WITHOUT_LEAF_BIASES, WITH_LEAF_BIASES };

/* What was found of a layer file: on each instruction set, and of what the layer stores. */
struct layer_findings {
    const struct layer_data *data;
    enum leaf_biases biases;
    const struct verdict *verdicts;
    size_t count;
    const struct store_verdict *store;
};
bool layer_file_holds(const struct layer_findings *found);

/* `other_sleef`: what is reported used a SLEEF that returns other bits than the recorded ones. */
void print_layer_file(const char *path, const struct layer_findings *found, bool other_sleef);
void print_model(const char *path, const struct model_verdict *verdict, bool other_sleef);

/* {"path", "ok", "why": [...], "store", "isas": [...]}; a layer's "layer" says what it is, and "b2s" whether they were
 * "left out" or "added", null if there are none to choose; "tokens" is how many were compared; "store" is what is
 * stored and how that compares with float32, null for float32; a layer's has "file": how its results differ, null if it
 * has none; a model's has "layers" and "end_to_end", and its "store" and "isas" sum up all layers. */
json_t *layer_file_json(const char *path, const struct layer_findings *found);
json_t *model_json(const char *path, const struct model_verdict *verdict);

/* Whether the activation of any part is SLEEF's. */
bool layer_uses_sleef(const struct layer_data *data);
/* The SLEEF that is loaded, {"loaded", "recorded_bits"}; null if what was verified does not use it. */
json_t *sleef_json(bool used, bool as_recorded);

/* Why a file's results do not hold, in sentences; empty if they do. */
json_t *layer_file_why(const struct verdict *verdicts, size_t count);
json_t *model_why(const struct model_verdict *verdict);

/* ---- What both are made of ------------------------------------------------------------------- */

/* Tokens and outputs of another program's results that do not agree. */
size_t expected_faults(const struct verdict *verdict);
/* Whether the kernels are right, whatever another program's results. */
bool kernels_hold(const struct verdict *verdicts, size_t count);

/* Of a layer that stores narrow rows: lines for people, an object for programs; nothing, and null, of another. */
void print_store(const struct store_verdict *store);
json_t *store_json(const struct store_verdict *store);

void print_faults(const struct agreement *dense); /* lines about what exceeds its bound */
void print_escaped(const char *text);             /* a path, for a terminal */
void print_why(json_t *why);                      /* and frees it */
void print_ok(const char *what, bool other_sleef);

enum { LONGEST_LIST = 128 };
/* "generic, x86_avx2": those whose bits were compared, of which generic is always one. */
void list_isas(const struct verdict *verdicts, size_t count, char *list);
void add_sentence(json_t *why, json_t *sentence);

/* Prints an answer, which is then freed. False, after a line on stderr, if there is none, for want of memory. */
bool print_json(const struct command *command, json_t *answer);
json_t *json_number(double value);   /* null if it is infinite or none: JSON has no such numbers */
json_t *json_text(const char *text); /* a path, say, which may be no UTF-8: escaped then */
json_t *value_difference_json(const struct value_difference *difference, const char *row_name, const char *column_name);
json_t *isas_json(const struct verdict *verdicts, size_t count);

#endif
