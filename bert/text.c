#include "bert/text.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

static const int32_t REPLACEMENT = 0xfffd;

bool fff_text_reserve(struct fff_text *text, size_t count) {
    if (count <= text->capacity) {
        return true;
    }
    size_t capacity = text->capacity + text->capacity / 2;
    capacity = capacity > count ? capacity : count + 16;
    if (capacity < count || capacity > SIZE_MAX / sizeof *text->data) {
        return false;
    }
    int32_t *data = realloc(text->data, capacity * sizeof *data);
    if (data != NULL) {
        text->data = data;
        text->capacity = capacity;
    }
    return data != NULL;
}

bool fff_text_append(struct fff_text *text, int32_t point) {
    if (!fff_text_reserve(text, text->count + 1)) {
        return false;
    }
    text->data[text->count++] = point;
    return true;
}

bool fff_text_append_points(struct fff_text *text, const int32_t *points, size_t count) {
    if (count == 0) {
        return true; /* memcpy() wants pointers that are none of NULL */
    }
    if (count > SIZE_MAX - text->count || !fff_text_reserve(text, text->count + count)) {
        return false;
    }
    memcpy(text->data + text->count, points, count * sizeof *points);
    text->count += count;
    return true;
}

bool fff_text_append_utf8(struct fff_text *text, const char *bytes, size_t length) {
    for (size_t at = 0; at < length;) {
        utf8proc_int32_t point = REPLACEMENT;
        size_t left = length - at < 4 ? length - at : 4;
        utf8proc_ssize_t used = utf8proc_iterate((const utf8proc_uint8_t *)bytes + at, (utf8proc_ssize_t)left, &point);
        if (!fff_text_append(text, used > 0 ? point : REPLACEMENT)) {
            return false;
        }
        at += used > 0 ? (size_t)used : 1;
    }
    return true;
}

void fff_text_free(struct fff_text *text) {
    free(text->data);
    *text = (struct fff_text){0};
}
