#include "bert/json_walk.h"

enum { LONGEST_KEY = 1 << 16, LONGEST_CHARACTER = 4 };

static bool fail_at(const struct fff_json_walk *walk, const char *expected) {
    return FFF_FAIL(walk->report, "%s, byte %zu: %s expected", walk->what, walk->position, expected);
}

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

char fff_json_peek(struct fff_json_walk *walk) {
    while (walk->position < walk->length && is_blank(walk->text[walk->position])) {
        walk->position++;
    }
    return walk->position < walk->length ? walk->text[walk->position] : '\0';
}

static bool pass(struct fff_json_walk *walk, char character) {
    bool found = fff_json_peek(walk) == character;
    walk->position += found;
    return found;
}

bool fff_json_object(struct fff_json_walk *walk) {
    return pass(walk, '{') || fail_at(walk, "an object is");
}

bool fff_json_key(struct fff_json_walk *walk, json_t **key) {
    *key = NULL;
    char before = walk->text[walk->position - 1]; /* the last one of a value, or the brace before the first key */
    if (pass(walk, '}')) {
        return true;
    }
    if (before != '{' && !pass(walk, ',')) {
        return fail_at(walk, "',' or '}' is");
    }
    if (fff_json_peek(walk) != '"') {
        return fail_at(walk, "a name in quotes is");
    }
    *key = fff_json_value(walk, "a name", LONGEST_KEY);
    if (*key != NULL && !pass(walk, ':')) {
        json_decref(*key);
        *key = NULL;
        return fail_at(walk, "':' is");
    }
    return *key != NULL;
}

json_t *fff_json_value(struct fff_json_walk *walk, const char *name, size_t largest) {
    size_t left = walk->length - walk->position, given = left < largest ? left : largest;
    json_error_t error;
    json_t *value = json_loadb(walk->text + walk->position, given,
                               JSON_DECODE_ANY | JSON_DISABLE_EOF_CHECK | JSON_REJECT_DUPLICATES, &error);
    if (value != NULL) {
        walk->position += (size_t)error.position;
    } else if (given < left && (size_t)error.position + LONGEST_CHARACTER >= given) {
        fff_report(walk->report, "%s, byte %zu: %s is longer than %zu bytes", walk->what, walk->position, name,
                   largest);
    } else {
        fff_report(walk->report, "%s, byte %zu: %s: %s", walk->what, walk->position + (size_t)error.position, name,
                   error.text);
    }
    return value;
}

bool fff_json_end(struct fff_json_walk *walk) {
    return (fff_json_peek(walk) == '\0' && walk->position == walk->length) || fail_at(walk, "the end is");
}
