/* Where a model's input may come from, each with a file of its own. Every function is given an input that is all zeros,
 * and returns false after one line in the report; what it has allocated by then, model_input_free() frees. */
#ifndef FFF_TOOLS_MODELS_INPUT_SOURCES_H
#define FFF_TOOLS_MODELS_INPUT_SOURCES_H

#include "bert/report.h"
#include "bert/wordpiece.h"
#include "tools/models/input.h"

/* ---- input_lines.c ---- */

/* The report's file: lines of text if there is a tokenizer, else of ids, of up to `most` ids each. */
bool load_input_lines(const struct fff_report *report, const fff_tokenizer *tokenizer, size_t most,
                      struct model_input *input);

/* ---- input_file.c ---- */

/* The report's file: what another program was given, and computed. */
bool load_input_file(const struct fff_report *report, struct model_input *input);

/* ---- input.c ---- */

/* Room for `count` sequences of `length`, all padding. */
bool make_input_room(struct model_input *input, size_t count, size_t length, int32_t pad);

#endif
