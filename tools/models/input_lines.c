/* Sequences from the lines of a file: texts, or ids. */
#include "tools/models/input_sources.h"

#include "bert/file.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { LARGEST_TEXT = 1 << 28, MOST_PADDED = 1 << 26 };

static const char spaces[] = " \t\r\v\f"; /* between ids */

/* Sequences as they are read: the ids of all, one after another, and how many each has. */
struct sequences {
    int32_t *ids;
    size_t id_count, id_capacity;
    size_t *lengths;
    size_t count, capacity, longest;
};

static void free_sequences(struct sequences *sequences) {
    free(sequences->ids);
    free(sequences->lengths);
}

/* The array with room for one more element, where it is now; NULL when out of memory, and the old one is as it was. */
static void *with_room(void *array, size_t count, size_t *capacity, size_t size) {
    if (count < *capacity) {
        return array;
    }
    void *more = realloc(array, (*capacity * 2 + 64) * size);
    *capacity = more != NULL ? *capacity * 2 + 64 : *capacity;
    return more;
}

/* Appends to the sequence that is not ended yet. */
static bool append_id(struct sequences *sequences, int32_t id) {
    int32_t *ids = with_room(sequences->ids, sequences->id_count, &sequences->id_capacity, sizeof *ids);
    if (ids == NULL) {
        return false;
    }
    sequences->ids = ids;
    sequences->ids[sequences->id_count++] = id;
    return true;
}

/* `length` is how many ids were appended since the last one ended. */
static bool end_sequence(const struct fff_report *report, struct sequences *sequences, size_t number, size_t length) {
    size_t *lengths = with_room(sequences->lengths, sequences->count, &sequences->capacity, sizeof *lengths);
    if (lengths == NULL) {
        return FFF_FAIL(report, "out of memory");
    }
    sequences->lengths = lengths;
    sequences->lengths[sequences->count++] = length;
    sequences->longest = length > sequences->longest ? length : sequences->longest;
    size_t padded;
    return (!__builtin_mul_overflow(sequences->count, sequences->longest, &padded) && padded <= MOST_PADDED) ||
           FFF_FAIL(report, "line %zu: %zu sequences, each padded to the longest, of %zu ids, are more than %d ids",
                    number, sequences->count, sequences->longest, MOST_PADDED);
}

static bool pad_all(const struct fff_report *report, const struct sequences *sequences, int32_t pad,
                    struct model_input *input) {
    if (sequences->count == 0) {
        return FFF_FAIL(report, "holds no sequence");
    }
    size_t longest = sequences->longest;
    if (!make_input_room(input, sequences->count, longest, pad)) {
        return FFF_FAIL(report, "out of memory");
    }
    const int32_t *ids = sequences->ids;
    for (size_t i = 0; i < sequences->count; i++) {
        for (size_t j = 0; j < sequences->lengths[i]; j++) {
            input->ids[i * longest + j] = *ids++;
            input->mask[i * longest + j] = 1;
        }
    }
    return true;
}

/* The ids of one line, which ends at its 0 byte. */
static bool read_ids_line(const struct fff_report *report, size_t number, const char *line, size_t most,
                          struct sequences *sequences) {
    size_t count = 0;
    for (const char *c = line + strspn(line, spaces); *c != '\0';) {
        char *end;
        errno = 0;
        long long id = strtoll(c, &end, 10);
        if (*c < '0' || *c > '9' || (*end != '\0' && !isspace((unsigned char)*end)) || errno != 0 || id > INT32_MAX) {
            return FFF_FAIL(report, "line %zu: '%.*s' is no id", number, fff_shown(c, strlen(c), 20), c);
        }
        if (count == most) {
            return FFF_FAIL(report, "line %zu has more than the model's %zu ids", number, most);
        }
        if (!append_id(sequences, (int32_t)id)) {
            return FFF_FAIL(report, "out of memory");
        }
        count++;
        c = end + strspn(end, spaces);
    }
    return end_sequence(report, sequences, number, count);
}

static bool read_text_line(const struct fff_report *report, size_t number, const char *line, size_t length,
                           const fff_tokenizer *tokenizer, size_t most, struct sequences *sequences) {
    char error[256];
    int32_t *ids = NULL;
    size_t count = 0;
    if (!fff_tokenizer_try_encode(tokenizer, line, length, most, &ids, &count, error, sizeof error)) {
        return FFF_FAIL(report, "line %zu: %s", number, error);
    }
    bool ok = true;
    for (size_t i = 0; i < count && ok; i++) {
        ok = append_id(sequences, ids[i]) || FFF_FAIL(report, "out of memory");
    }
    free(ids);
    return ok && end_sequence(report, sequences, number, count);
}

/* Reads every line that is not empty; the content's line ends become 0 bytes. */
static bool read_lines(const struct fff_report *report, char *content, size_t length, const fff_tokenizer *tokenizer,
                       size_t most, struct sequences *sequences) {
    size_t number = 0;
    for (char *line = content, *end = content + length; line < end;) {
        char *line_end = memchr(line, '\n', (size_t)(end - line));
        line_end = line_end != NULL ? line_end : end;
        *line_end = '\0';
        number++;
        size_t line_length = (size_t)(line_end - line);
        if (tokenizer == NULL && strlen(line) != line_length) {
            return FFF_FAIL(report, "line %zu holds a 0 byte", number);
        }
        /* Of a text with CRLF an empty line is a carriage return. */
        bool empty = tokenizer != NULL ? line_length == 0 || (line_length == 1 && *line == '\r')
                                       : line[strspn(line, spaces)] == '\0';
        if (!empty &&
            !(tokenizer != NULL ? read_text_line(report, number, line, line_length, tokenizer, most, sequences)
                                : read_ids_line(report, number, line, most, sequences))) {
            return false;
        }
        line = line_end + 1;
    }
    return true;
}

bool load_input_lines(const struct fff_report *report, const fff_tokenizer *tokenizer, size_t most,
                      struct model_input *input) {
    size_t length = 0;
    char *content = fff_read_file(report, LARGEST_TEXT, &length);
    if (content == NULL) {
        return false;
    }
    struct sequences sequences = {0};
    bool ok = read_lines(report, content, length, tokenizer, most, &sequences) &&
              pad_all(report, &sequences, tokenizer != NULL ? fff_tokenizer_pad(tokenizer) : 0, input);
    free_sequences(&sequences);
    free(content);
    return ok;
}
