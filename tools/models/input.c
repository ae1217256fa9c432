#include "tools/models/input.h"

#include "bert/file.h"
#include "bert/wordpiece.h"
#include "tools/models/tokenizer.h"
#include "tools/random.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LARGEST_TEXT = 1 << 28, MOST_PADDED = 1 << 26, SEEDED_SEQUENCES = 4, SEEDED_LENGTH = 32 };

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

/* Room for `count` sequences of `length`, all padding. */
static bool make_room(struct model_input *input, size_t count, size_t length, int32_t pad) {
    size_t elements;
    if (__builtin_mul_overflow(count, length, &elements) || elements > SIZE_MAX / sizeof(int32_t)) {
        return false;
    }
    input->ids = calloc(elements + 1, sizeof *input->ids);
    input->mask = calloc(elements + 1, sizeof *input->mask);
    for (size_t i = 0; i < elements && input->ids != NULL; i++) {
        input->ids[i] = pad;
    }
    input->batch = (fff_bert_batch){count, length, input->ids, input->mask};
    return input->ids != NULL && input->mask != NULL;
}

static bool pad_all(const struct fff_report *report, const struct sequences *sequences, int32_t pad,
                    struct model_input *input) {
    if (sequences->count == 0) {
        return FFF_FAIL(report, "holds no sequence");
    }
    size_t longest = sequences->longest;
    if (!make_room(input, sequences->count, longest, pad)) {
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

/* ---- Text and ids ---------------------------------------------------------------------------- */

/* The ids of one line, which ends at its 0 byte. */
static bool read_ids_line(const struct fff_report *report, size_t number, const char *line, size_t most,
                          struct sequences *sequences) {
    size_t count = 0;
    for (const char *c = line; *c != '\0';) {
        char *end;
        errno = 0;
        long long id = strtoll(c, &end, 10);
        if (end == c || (*end != '\0' && !isspace((unsigned char)*end)) || errno != 0 || id < 0 || id > INT32_MAX) {
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
        bool empty = tokenizer != NULL ? line_length == 0 : line[strspn(line, spaces)] == '\0';
        if (!empty &&
            !(tokenizer != NULL ? read_text_line(report, number, line, line_length, tokenizer, most, sequences)
                                : read_ids_line(report, number, line, most, sequences))) {
            return false;
        }
        line = line_end + 1;
    }
    return true;
}

static bool load_lines(const struct fff_report *report, const fff_tokenizer *tokenizer, size_t most,
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

static bool load_text(const struct model_input_choice *choice, const struct fff_report *report,
                      const fff_bert_config *config, struct model_input *input) {
    fff_tokenizer *tokenizer = model_tokenizer(choice->directory, config, report->text, report->size);
    bool ok = tokenizer != NULL && load_lines(report, tokenizer, config->text_length, input);
    fff_tokenizer_close(tokenizer);
    return ok;
}

/* ---- What another program computed ----------------------------------------------------------- */

static int64_t integer_at(const fff_tensor *tensor, size_t index) {
    int64_t wide;
    int32_t narrow;
    if (tensor->type == FFF_TENSOR_I64) {
        memcpy(&wide, (const unsigned char *)tensor->data + index * sizeof wide, sizeof wide);
        return wide;
    }
    memcpy(&narrow, (const unsigned char *)tensor->data + index * sizeof narrow, sizeof narrow);
    return narrow;
}

static bool copy_ids(const struct fff_report *report, const fff_tensor *tensor, struct model_input *input) {
    if (tensor == NULL || tensor->rank != 2 || (tensor->type != FFF_TENSOR_I64 && tensor->type != FFF_TENSOR_I32)) {
        return FFF_FAIL(report, "tensor 'input_ids' is missing, or no matrix of I64 or I32");
    }
    input->ids = malloc(tensor->count * sizeof *input->ids + 1);
    if (input->ids == NULL) {
        return FFF_FAIL(report, "out of memory");
    }
    for (size_t i = 0; i < tensor->count; i++) {
        int64_t id = integer_at(tensor, i);
        if (id < 0 || id > INT32_MAX) {
            return FFF_FAIL(report, "tensor 'input_ids': element %zu is %lld", i, (long long)id);
        }
        input->ids[i] = (int32_t)id;
    }
    input->batch = (fff_bert_batch){tensor->shape[0], tensor->shape[1], input->ids, NULL};
    return true;
}

static bool copy_mask(const struct fff_report *report, const fff_tensor *tensor, struct model_input *input) {
    size_t count = input->batch.sequences * input->batch.length;
    if (tensor == NULL) {
        return true; /* no padding */
    }
    fff_floats floats;
    if (tensor->count != count || !fff_tensor_floats(tensor, &floats)) {
        return FFF_FAIL(report,
                        "tensor 'attention_mask' has %zu elements of %s where %zu of floating point are expected",
                        tensor->count, tensor->type_name, count);
    }
    input->mask = malloc(count * sizeof *input->mask + 1);
    if (input->mask != NULL) {
        memcpy(input->mask, floats.values, count * sizeof *input->mask);
    }
    free(floats.owned);
    input->batch.mask = input->mask;
    return input->mask != NULL || FFF_FAIL(report, "out of memory");
}

static bool load_expected(const struct fff_report *report, struct model_input *input) {
    input->file = fff_safetensors_open(report->path, report->text, report->size);
    if (input->file == NULL || !copy_ids(report, fff_safetensors_find(input->file, "input_ids"), input) ||
        !copy_mask(report, fff_safetensors_find(input->file, "attention_mask"), input)) {
        return false;
    }
    input->hidden = fff_safetensors_find(input->file, "hidden");
    input->logits = fff_safetensors_find(input->file, "logits");
    input->embedding = fff_safetensors_find(input->file, "embedding");
    return true;
}

/* ---- Seeded ---------------------------------------------------------------------------------- */

static bool make_seeded(const struct fff_report *report, const fff_bert_config *config, struct model_input *input) {
    size_t length = config->max_length < SEEDED_LENGTH ? config->max_length : SEEDED_LENGTH;
    if (!make_room(input, SEEDED_SEQUENCES, length, 0)) {
        return FFF_FAIL(report, "out of memory");
    }
    uint64_t state = 1;
    for (size_t i = 0; i < SEEDED_SEQUENCES; i++) {
        size_t tokens = i + 1 < SEEDED_SEQUENCES ? length : (3 * length + 3) / 4; /* the last is padded */
        for (size_t j = 0; j < tokens; j++) {
            input->ids[i * length + j] = (int32_t)random_below(&state, config->vocabulary);
            input->mask[i * length + j] = 1;
        }
    }
    return true;
}

/* ---- All of them ----------------------------------------------------------------------------- */

static bool load(const struct model_input_choice *choice, const char *path, const fff_bert_config *config,
                 struct model_input *input, char *error, size_t error_size) {
    const struct fff_report report = {path, error, error_size};
    if (choice->text != NULL) {
        return load_text(choice, &report, config, input);
    }
    if (choice->ids != NULL) {
        return load_lines(&report, NULL, config->max_length, input);
    }
    if (choice->expected != NULL || access(path, F_OK) == 0) {
        return load_expected(&report, input);
    }
    return make_seeded(&report, config, input);
}

bool model_input_load(const struct model_input_choice *choice, const fff_bert_config *config, struct model_input *input,
                      char *error, size_t error_size) {
    char beside[4096];
    *input = (struct model_input){0};
    snprintf(beside, sizeof beside, "%s/expected.safetensors", choice->directory);
    const char *path = choice->text != NULL       ? choice->text
                       : choice->ids != NULL      ? choice->ids
                       : choice->expected != NULL ? choice->expected
                                                  : beside;
    bool ok = load(choice, path, config, input, error, error_size);
    bool seeded = choice->text == NULL && choice->ids == NULL && input->file == NULL;
    input->source = ok ? strdup(seeded ? "seeded ids" : path) : NULL;
    if (ok && input->source == NULL) {
        snprintf(error, error_size, "out of memory");
        ok = false;
    }
    if (!ok) {
        model_input_free(input);
    }
    return ok;
}

void model_input_free(struct model_input *input) {
    free(input->ids);
    free(input->mask);
    free(input->source);
    fff_safetensors_close(input->file);
    *input = (struct model_input){0};
}
