/* Any bytes as a config.json, a modules.json and a pooling's config.json. */
#include "bert/config.h"
#include "bert/file.h"
#include "bert/sentence.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

static void read_sentence(const char *json, size_t size) {
    char error[128] = "", folder[FFF_LONGEST_FOLDER] = "";
    bool normalize;
    fff_pooling pooling = FFF_POOLING_MEAN;
    if (fff_sentence_read_modules("modules", json, size, &normalize, folder, error, sizeof error)
            ? !fff_stays_inside(folder)
            : strlen(error) == 0) {
        abort();
    }
    *error = '\0';
    if (fff_sentence_read_pooling("pooling", json, size, 32, &pooling, error, sizeof error) ? pooling > FFF_POOLING_MAX
                                                                                            : strlen(error) == 0) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fff_bert_config config;
    char error[128] = "";
    read_sentence((const char *)data, size);
    if (fff_bert_config_read("config", (const char *)data, size, &config, error, sizeof error)) {
        /* What is read is what the loader relies on. */
        if (config.layers == 0 || config.heads == 0 || config.hidden_size % config.heads != 0 || config.neurons == 0 ||
            config.trees == 0 || config.depth > 30 || config.neurons % config.trees != 0 ||
            config.text_length != config.max_length || config.activation >= FFF_ACTIVATION_COUNT) {
            abort();
        }
    } else if (strlen(error) == 0 || strlen(error) >= sizeof error) {
        abort();
    }
    return 0;
}
