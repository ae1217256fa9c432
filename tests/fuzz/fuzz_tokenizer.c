/* Any bytes as a tokenizer.json or vocab.txt; up to the next 0 byte each, a text to encode with it, and the files
 * beside it, where they can be ones: tokenizer_config.json, special_tokens_map.json, added_tokens.json. */
#include "bert/wordpiece_read.h"
#include "tests/fuzz/files.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>

enum { MOST_IDS = 64 };

static void encode(const fff_tokenizer *tokenizer, struct fuzz_text text) {
    char error[128] = "";
    int32_t *ids;
    size_t count;
    if (!fff_tokenizer_try_encode(tokenizer, text.bytes, text.length, MOST_IDS, &ids, &count, error, sizeof error)) {
        fuzz_check_message(error, sizeof error);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        if (i >= MOST_IDS || ids[i] < 0 || fff_tokenizer_piece(tokenizer, ids[i]) == NULL) {
            abort();
        }
    }
    free(ids);
}

/* What JSON there is before the next 0 byte. */
static json_t *take_json(const uint8_t **data, size_t *size, size_t flags) {
    struct fuzz_text text = fuzz_take_text(data, size);
    json_t *json = json_loadb(text.bytes, text.length, JSON_REJECT_DUPLICATES | flags, NULL);
    if (json != NULL && !json_is_object(json)) {
        json_decref(json);
        return NULL;
    }
    return json;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char error[128] = "";
    const struct fff_report report = {"tokenizer", error, sizeof error};
    struct fuzz_text whole = fuzz_take_text(&data, &size);
    struct fuzz_text text = size > 0 ? fuzz_take_text(&data, &size) : whole;
    struct fff_tokenizer_config config = {0};
    config.config = take_json(&data, &size, JSON_DECODE_INT_AS_REAL);
    config.special_map = take_json(&data, &size, JSON_DECODE_INT_AS_REAL);
    config.added = take_json(&data, &size, 0);
    if (!fff_tokenizer_config_check(&config, &report)) {
        fuzz_check_message(error, sizeof error);
        fff_tokenizer_config_free(&config);
    }
    error[0] = '\0';
    fff_tokenizer *tokenizer = fff_tokenizer_read_with(&report, whole.bytes, whole.length, &config);
    if (tokenizer != NULL) {
        encode(tokenizer, text);
    } else {
        fuzz_check_message(error, sizeof error);
    }
    fff_tokenizer_close(tokenizer);
    fff_tokenizer_config_free(&config);
    return 0;
}
