/* Any bytes as a tokenizer.json or vocab.txt; what follows the first 0 byte is a text to encode with it; what follows
 * the second one is the tokenizer_config.json beside it, if it can be one. */
#include "bert/wordpiece_read.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_IDS = 64 };

struct part {
    const char *bytes; /* NULL: there is none */
    size_t length;
};

/* What follows the part's first 0 byte. */
static struct part after_zero(struct part part) {
    const char *zero = part.length > 0 ? memchr(part.bytes, 0, part.length) : NULL;
    return zero != NULL ? (struct part){zero + 1, part.length - (size_t)(zero + 1 - part.bytes)} : (struct part){0};
}

static void check_message(const char *error, size_t size) {
    if (strlen(error) == 0 || strlen(error) >= size) {
        abort();
    }
}

static void encode(const fff_tokenizer *tokenizer, struct part text) {
    char error[128] = "";
    int32_t *ids;
    size_t count;
    if (!fff_tokenizer_try_encode(tokenizer, text.bytes, text.length, MOST_IDS, &ids, &count, error, sizeof error)) {
        check_message(error, sizeof error);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        if (i >= MOST_IDS || ids[i] < 0 || fff_tokenizer_piece(tokenizer, ids[i]) == NULL) {
            abort();
        }
    }
    free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char error[128] = "";
    const struct fff_report report = {"tokenizer", error, sizeof error};
    const struct part whole = {(const char *)data, size}, text = after_zero(whole), json = after_zero(text);
    size_t length = text.bytes != NULL ? size - text.length - 1 : size;
    struct fff_tokenizer_config config = {.config = json_loadb(json.bytes, json.length, JSON_DECODE_INT_AS_REAL, NULL)};
    if (!json_is_object(config.config) || !fff_tokenizer_config_check(&config, &report)) {
        fff_tokenizer_config_free(&config);
    }
    error[0] = '\0';
    fff_tokenizer *tokenizer = fff_tokenizer_read_with(&report, whole.bytes, length, &config);
    if (tokenizer != NULL) {
        encode(tokenizer, text.bytes != NULL ? text : whole);
    } else {
        check_message(error, sizeof error);
    }
    fff_tokenizer_close(tokenizer);
    fff_tokenizer_config_free(&config);
    return 0;
}
