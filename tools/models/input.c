#include "tools/models/input.h"

#include "tools/models/input_sources.h"
#include "tools/models/tokenizer.h"
#include "tools/random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SEEDED_SEQUENCES = 4, SEEDED_LENGTH = 32 };

bool make_input_room(struct model_input *input, size_t count, size_t length, int32_t pad) {
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

static bool make_seeded(const struct fff_report *report, const fff_bert_config *config, struct model_input *input) {
    size_t length = config->max_length < SEEDED_LENGTH ? config->max_length : SEEDED_LENGTH;
    if (!make_input_room(input, SEEDED_SEQUENCES, length, 0)) {
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

static bool load_text(const struct model_input_choice *choice, const struct fff_report *report,
                      const fff_bert_config *config, struct model_input *input) {
    fff_tokenizer *tokenizer = model_tokenizer(choice->directory, config, report->text, report->size);
    bool ok = tokenizer != NULL && load_input_lines(report, tokenizer, config->text_length, input);
    fff_tokenizer_close(tokenizer);
    return ok;
}

static bool load(const struct model_input_choice *choice, const char *path, const fff_bert_config *config,
                 struct model_input *input, char *error, size_t error_size) {
    const struct fff_report report = {path, error, error_size};
    if (choice->text != NULL) {
        return load_text(choice, &report, config, input);
    }
    if (choice->ids != NULL) {
        return load_input_lines(&report, NULL, config->max_length, input);
    }
    if (choice->expected != NULL || access(path, F_OK) == 0) {
        return load_input_file(&report, input);
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
