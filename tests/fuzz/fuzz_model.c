/* Any bytes as a model's folder: five JSON files and an index of shards, each up to a 0 byte (one that is empty is not
 * there), then the weights, as a single file or, with an index, as the shard "a". What can be opened is run on a few
 * tokens, which reads all of it. */
#include "bert/bert.h"
#include "tests/fuzz/files.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>

enum { INDEX = 5, WEIGHTS, SHARD };
static const char *const NAMES[] = {"config.json",
                                    "modules.json",
                                    "1_Pooling/config.json",
                                    "sentence_bert_config.json",
                                    "config_sentence_transformers.json",
                                    "model.safetensors.index.json",
                                    "model.safetensors",
                                    "a",
                                    NULL};
enum { MOST_TOKENS = 4, MOST_ELEMENTS = 1 << 16 };

static void run(const fff_bert *model) {
    const fff_bert_config *config = fff_bert_configuration(model);
    size_t length = config->max_length < MOST_TOKENS ? config->max_length : MOST_TOKENS;
    if (config->hidden_size > MOST_ELEMENTS || config->layers > MOST_ELEMENTS) {
        return;
    }
    int32_t ids[MOST_TOKENS];
    for (size_t i = 0; i < length; i++) {
        ids[i] =
            (int32_t)(config->vocabulary - 1 - (i % config->vocabulary)); /* the last ones are the likeliest faults */
    }
    const fff_bert_batch batch = {1, length, ids, NULL};
    size_t hidden_count = length * config->hidden_size;
    float *hidden = calloc(hidden_count + 1, sizeof *hidden), *pooled = calloc(config->hidden_size, sizeof *pooled);
    float *words = calloc(length * config->vocabulary + 1, sizeof *words);
    float *classes = calloc(config->labels + 1, sizeof *classes);
    char error[128] = "";
    if (hidden != NULL && pooled != NULL && words != NULL && classes != NULL) {
        if (!fff_bert_encode(model, &batch, hidden, NULL, error, sizeof error)) {
            fuzz_check_message(error, sizeof error);
        }
        fff_bert_pool(model, &batch, hidden, pooled);
        (void)fff_bert_decode(model, length, hidden, words);
        (void)fff_bert_classify(model, 1, length, hidden, classes);
    }
    free(hidden);
    free(pooled);
    free(words);
    free(classes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct fuzz_folder folder;
    const fff_bert_options options = {.isa = FFF_ISA_GENERIC, .sleef = FFF_SLEEF_ANY};
    char error[128] = "";
    bool sharded = false;
    if (folder.names == NULL) {
        fuzz_make_folder(&folder, NAMES);
    }
    for (size_t i = 0; i <= INDEX; i++) {
        struct fuzz_text text = fuzz_take_text(&data, &size);
        sharded = text.length > 0; /* the last one counts */
        fuzz_put(&folder, i, text.length > 0, text.bytes, text.length);
    }
    fuzz_put(&folder, WEIGHTS, !sharded, data, size);
    fuzz_put(&folder, SHARD, sharded, data, size);
    fff_bert *model = fff_bert_open(folder.path, &options, error, sizeof error);
    if (model == NULL) {
        fuzz_check_message(error, sizeof error);
        return 0;
    }
    run(model);
    fff_bert_close(model);
    return 0;
}
