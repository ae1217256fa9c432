/* Any bytes as a config.json. */
#include "bert/config.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fff_bert_config config;
    char error[128];
    if (fff_bert_config_read("config", (const char *)data, size, &config, error, sizeof error)) {
        /* What is read is what the loader relies on. */
        if (config.layers == 0 || config.heads == 0 || config.hidden_size % config.heads != 0 || config.neurons == 0 ||
            config.trees == 0 || config.depth > 30 || config.neurons % config.trees != 0) {
            abort();
        }
    } else if (strlen(error) == 0 || strlen(error) >= sizeof error) {
        abort();
    }
    return 0;
}
