#include "tools/models/tokenizer.h"

#include "bert/report.h"

#include <stdio.h>
#include <unistd.h>

fff_tokenizer *model_tokenizer(const char *directory, const fff_bert_config *config, char *error, size_t error_size) {
    char path[4096];
    int length = snprintf(path, sizeof path, "%s/tokenizer.json", directory);
    if (length < 0 || (size_t)length >= sizeof path) {
        snprintf(error, error_size, "the path is too long");
        return NULL;
    }
    if (access(path, F_OK) != 0) {
        snprintf(path, sizeof path, "%s/vocab.txt", directory);
    }
    if (access(path, F_OK) != 0) {
        const struct fff_report report = {directory, error, error_size};
        fff_report(&report, "neither tokenizer.json nor vocab.txt is there");
        return NULL;
    }
    fff_tokenizer *tokenizer = fff_tokenizer_open(path, error, error_size);
    if (tokenizer != NULL && config->lower_case) {
        fff_tokenizer_lower_texts(tokenizer);
    }
    if (tokenizer != NULL && config->own_text_length) {
        fff_tokenizer_any_length(tokenizer);
    }
    return tokenizer;
}
