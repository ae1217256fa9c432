/* What another program computed from the same input: hidden states, logits, embeddings. */
#include "tools/verify/model_part.h"

#include <stdio.h>
#include <stdlib.h>

void other_results_free(struct other_results *file) {
    free(file->hidden.owned);
    free(file->logits.owned);
    free(file->embedding.owned);
}

/* The results in the file, which must have the shapes that this model gives them; the leading dimensions may be one. */
bool other_results_read(const struct model_input *input, const fff_bert_config *config, struct other_results *file,
                        char *error, size_t error_size) {
    size_t sequences = input->batch.sequences, tokens = sequences * input->batch.length;
    bool words = config->labels == 0;
    const struct {
        const char *name;
        const fff_tensor *tensor;
        size_t rows, columns;
        fff_floats *floats;
    } results[] = {
        {"hidden", input->hidden, tokens, config->hidden_size, &file->hidden},
        {"logits", input->logits, words ? tokens : sequences, words ? config->vocabulary : config->labels,
         &file->logits},
        {"embedding", input->embedding, sequences, config->hidden_size, &file->embedding},
    };
    for (size_t i = 0; i < sizeof results / sizeof *results; i++) {
        const fff_tensor *tensor = results[i].tensor;
        if (tensor == NULL) {
            continue;
        }
        bool fits = tensor->rank >= 2 && tensor->shape[tensor->rank - 1] == results[i].columns &&
                    tensor->count == results[i].rows * results[i].columns;
        if (!fits || !fff_tensor_floats(tensor, results[i].floats)) {
            snprintf(error, error_size, "%s: tensor '%s' has %zu elements of %s where the model gives %zu x %zu",
                     input->source, results[i].name, tensor->count, tensor->type_name, results[i].rows,
                     results[i].columns);
            return false;
        }
    }
    return true;
}

/* The values of a tensor of the input's file that belong to this part: rows of `count`, from row `first`. */
const float *other_results_rows(const fff_floats *floats, size_t first, size_t count) {
    return floats->values != NULL ? floats->values + first * count : NULL;
}

void part_check_file_hidden(const struct part *part) {
    size_t first = part->first * part->batch.length;
    const float *values = other_results_rows(&part->file->hidden, first, part->width);
    for (size_t run = 0; run <= part->verdict->isa_count && values != NULL; run++) {
        struct end_to_end *of = &part->verdict->runs[run];
        for (size_t i = 0; i < part->tokens * part->width; i++) {
            float hidden = part->runs[run].hidden[i];
            compare_numbers((double)hidden, (double)values[i], &of->file_hidden);
            compare_value(&of->file_hidden_at, first + i / part->width, i % part->width, hidden, values[i]);
        }
    }
}

static double cosine_distance(const float *a, const float *b, size_t count) {
    double product = 0, squares_a = 0, squares_b = 0;
    for (size_t i = 0; i < count; i++) {
        product += (double)a[i] * (double)b[i];
        squares_a += (double)a[i] * (double)a[i];
        squares_b += (double)b[i] * (double)b[i];
    }
    double distance = 1 - product / sqrt(squares_a * squares_b);
    return isnan(distance) ? INFINITY : distance;
}

bool part_check_embeddings(const struct part *part) {
    const float *values = other_results_rows(&part->file->embedding, part->first, part->width);
    if (values == NULL) {
        return true;
    }
    float *embeddings = malloc(part->batch.sequences * part->width * sizeof *embeddings);
    for (size_t run = 0; run <= part->verdict->isa_count && embeddings != NULL; run++) {
        struct end_to_end *of = &part->verdict->runs[run];
        fff_bert_pool(part->masked, &part->batch, part->runs[run].hidden, embeddings);
        for (size_t i = 0; i < part->batch.sequences; i++) {
            double distance = cosine_distance(embeddings + i * part->width, values + i * part->width, part->width);
            if (distance > of->file_embedding) {
                of->file_embedding = distance;
                of->file_embedding_at = part->first + i;
            }
        }
    }
    free(embeddings);
    return embeddings != NULL || part_out_of_memory(part);
}
