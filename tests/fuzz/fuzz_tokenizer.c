/* Any bytes as a tokenizer.json or vocab.txt; what follows the first 0 byte is a text to encode with it. */
#include "bert/wordpiece.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_IDS = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char error[128];
    const uint8_t *end = size > 0 ? memchr(data, 0, size) : NULL;
    size_t length = end != NULL ? (size_t)(end - data) : size;
    const char *text = end != NULL ? (const char *)end + 1 : (const char *)data;
    size_t text_length = end != NULL ? size - length - 1 : size;
    fff_tokenizer *tokenizer = fff_tokenizer_read("tokenizer", (const char *)data, length, error, sizeof error);
    int32_t *ids;
    size_t count;
    if (tokenizer == NULL) {
        if (strlen(error) == 0) {
            abort();
        }
        return 0;
    }
    if (fff_tokenizer_encode(tokenizer, text, text_length, MOST_IDS, &ids, &count)) {
        for (size_t i = 0; i < count; i++) {
            if (i >= MOST_IDS || ids[i] < 0 || fff_tokenizer_piece(tokenizer, ids[i]) == NULL) {
                abort();
            }
        }
        free(ids);
    }
    fff_tokenizer_close(tokenizer);
    return 0;
}
