/* A model run on a text. */
#ifndef FFF_TOOLS_BERT_TEXT_H
#define FFF_TOOLS_BERT_TEXT_H

#include "bert/bert.h"
#include "tools/files/layer_data.h"

struct bert_text {
    const char *directory, *text;
    fff_isa isa;
    fff_bert_feedforward feedforward;
    struct store store; /* of layers that the kernels compute */
};

/* Prints the predictions at masks, a classifier's labels, or an encoder's embedding. An exit status; errors on
 * stderr. */
int bert_text(const struct bert_text *request);

#endif
