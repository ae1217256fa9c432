#include "bert/json_file.h"

#include "bert/file.h"

#include <stdlib.h>
#include <string.h>

json_t *fff_json_read(const struct fff_report *report, const char *text, size_t length) {
    json_error_t error;
    json_t *json = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
    if (json == NULL) {
        const char *kind = fff_file_kind(text, length);
        if (kind != NULL && strcmp(kind, "a JSON text") != 0) {
            fff_report(report, "no JSON, but %s", kind);
        } else {
            fff_report(report, "line %d, column %d: %s", error.line, error.column, error.text);
        }
    }
    return json;
}

void fff_json_describe(const json_t *value, char *text, size_t size) {
    char *dump = value != NULL ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    const char *whole = dump != NULL ? dump : "nothing";
    size_t length = strlen(whole) < size ? strlen(whole) : size - 1;
    memcpy(text, whole, length);
    text[length] = '\0';
    free(dump);
}
