/* What a model is run on: sequences of ids, from a file, a text or a seed. */
#ifndef FFF_TOOLS_MODELS_INPUT_H
#define FFF_TOOLS_MODELS_INPUT_H

#include "bert/bert.h"
#include "bert/safetensors.h"

struct model_input {
    fff_bert_batch batch;
    int32_t *ids; /* what batch points to */
    float *mask;
    char *source; /* for people: where it came from */
    /* What another program computed from it, or NULL: valid until the input is freed. */
    fff_safetensors *file;
    const fff_tensor *hidden, *logits, *embedding;
};

/* Where to take it from; at most one of text, ids and expected is not NULL. */
struct model_input_choice {
    const char *directory; /* of the model; its expected.safetensors if nothing is chosen, and its tokenizer */
    const char *text;      /* a file with a sequence of text a line */
    const char *ids;       /* a file with a sequence of ids a line, separated by spaces */
    const char *expected;  /* a file as expected.safetensors */
};

/* Without any file, seeded sequences. Text is cut to the model's length; ids beyond it are an error. False with one
 * line in `error` and nothing to free. */
bool model_input_load(const struct model_input_choice *choice, const fff_bert_config *config, struct model_input *input,
                      char *error, size_t error_size);
void model_input_free(struct model_input *input);

#endif
