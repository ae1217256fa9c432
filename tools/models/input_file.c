/* Sequences from a file of tensors, with what another program computed from them. */
#include "tools/models/input_sources.h"

#include <stdlib.h>
#include <string.h>

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

static bool is_integer(const fff_tensor *tensor) {
    return tensor->type == FFF_TENSOR_I64 || tensor->type == FFF_TENSOR_I32;
}

static bool copy_ids(const struct fff_report *report, const fff_tensor *tensor, struct model_input *input) {
    if (tensor == NULL || tensor->rank != 2 || !is_integer(tensor)) {
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
    for (size_t i = 0; i < count && input->mask != NULL; i++) {
        if (!(input->mask[i] == 0 || input->mask[i] == 1)) {
            return FFF_FAIL(report, "tensor 'attention_mask': element %zu is %g; only 0 and 1 are supported", i,
                            (double)input->mask[i]);
        }
    }
    return input->mask != NULL || FFF_FAIL(report, "out of memory");
}

/* The forward pass gives all tokens type 0. */
static bool check_types(const struct fff_report *report, const fff_tensor *tensor, const struct model_input *input) {
    size_t count = input->batch.sequences * input->batch.length;
    if (tensor == NULL) {
        return true;
    }
    if (tensor->count != count || !is_integer(tensor)) {
        return FFF_FAIL(report, "tensor 'token_type_ids' has %zu elements of %s where %zu of I64 or I32 are expected",
                        tensor->count, tensor->type_name, count);
    }
    for (size_t i = 0; i < count; i++) {
        if (integer_at(tensor, i) != 0) {
            return FFF_FAIL(report, "tensor 'token_type_ids': element %zu is %lld; only 0 is supported", i,
                            (long long)integer_at(tensor, i));
        }
    }
    return true;
}

/* A result under another name would not be compared, and nobody would notice. */
static bool check_names(const struct fff_report *report, const fff_safetensors *file) {
    static const char *const names[] = {"input_ids", "attention_mask", "token_type_ids",
                                        "hidden",    "logits",         "embedding"};
    for (size_t i = 0; i < fff_safetensors_count(file); i++) {
        const char *name = fff_safetensors_at(file, i)->name;
        bool known = false;
        for (size_t j = 0; j < sizeof names / sizeof *names; j++) {
            known = known || strcmp(fff_tensor_plain_name(name), names[j]) == 0;
        }
        if (!known) {
            return FFF_FAIL(
                report, "tensor '%s' is none of input_ids, attention_mask, token_type_ids, hidden, logits, embedding",
                name);
        }
    }
    return true;
}

bool load_input_file(const struct fff_report *report, struct model_input *input) {
    input->file = fff_safetensors_open(report->path, report->text, report->size);
    if (input->file == NULL || !copy_ids(report, fff_safetensors_find(input->file, "input_ids"), input) ||
        !copy_mask(report, fff_safetensors_find(input->file, "attention_mask"), input) ||
        !check_types(report, fff_safetensors_find(input->file, "token_type_ids"), input) ||
        !check_names(report, input->file)) {
        return false;
    }
    input->hidden = fff_safetensors_find(input->file, "hidden");
    input->logits = fff_safetensors_find(input->file, "logits");
    input->embedding = fff_safetensors_find(input->file, "embedding");
    return true;
}
