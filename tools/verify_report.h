/* What `fff verify` found, for people and for programs. */
#ifndef FFF_TOOLS_VERIFY_REPORT_H
#define FFF_TOOLS_VERIFY_REPORT_H

#include "tools/verify_model.h"

#include <jansson.h>

void print_layer_file(const char *path, const struct layer_data *data, const struct verdict *verdicts, size_t count);
void print_model(const char *path, const struct model_verdict *verdict);

/* {"path", "ok", "isas": [...]}; a model's has "layers" and "end_to_end" too, and its "isas" sum up all layers. */
json_t *layer_file_json(const char *path, const struct verdict *verdicts, size_t count);
json_t *model_json(const char *path, const struct model_verdict *verdict);

/* What both are made of: tokens and outputs of another program's results that do not agree; lines about what exceeds
 * its bound; a number, null if it is infinite or none; instruction sets. */
size_t expected_faults(const struct verdict *verdict);
void print_faults(const struct agreement *dense);
json_t *json_number(double value);
json_t *json_text(const char *bytes); /* of a path, say, which may be no UTF-8: escaped then */
json_t *isas_json(const struct verdict *verdicts, size_t count);

#endif
