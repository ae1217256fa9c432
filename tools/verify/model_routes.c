/* End to end: whole runs against generic's, bit by bit, and against float64's, with the routes that part. */
#include "tools/verify/model_part.h"

#include <string.h>

void compare_numbers(double value, double expected, struct difference *difference) {
    double error = fabs(value - expected);
    difference->largest_error = isnan(error) ? INFINITY : fmax(difference->largest_error, error);
    difference->largest_value = fmax(difference->largest_value, fabs(expected));
}

/* Padding is compared too where a file has results for it, but not with float64's run: nothing reads it. */
bool part_has_token(const struct part *part, size_t token) {
    return part->batch.mask == NULL || part->batch.mask[token] != 0;
}

/* Where a run parts from float64 in some token of a layer: the entry of its path, or 0 if it does not. */
static size_t entry_apart(const struct part *part, size_t run, size_t token) {
    const uint32_t *nodes = part->runs[run].nodes + token * part->path;
    const uint32_t *exact = part->exact.nodes + token * part->path;
    for (size_t entry = 1; entry < part->path; entry++) {
        if (nodes[entry] != exact[entry]) {
            return entry;
        }
    }
    return 0;
}

/* In how many tokens of a layer, among some sequence's, a run went another way than float64. The first goes to *first;
 * the largest of the logits where they first parted to *largest. */
static size_t flips_of(const struct part *part, size_t run, size_t layer, size_t sequence, struct route_apart *first,
                       double *largest) {
    size_t flips = 0, levels = part->verdict->config.depth + 1;
    for (size_t i = 0; i < part->batch.length; i++) {
        size_t token = layer * part->tokens + sequence * part->batch.length + i;
        size_t entry = entry_apart(part, run, token);
        if (entry == 0) {
            continue;
        }
        double logit = (double)part->runs[run].logits[token * part->path + entry - 1]; /* of the node before */
        if (flips++ == 0) {
            *first = (struct route_apart){part->first + sequence, i, layer, entry / levels, entry % levels, logit};
        }
        *largest = fmax(*largest, fabs(logit));
    }
    return flips;
}

static bool same_bits(const void *a, const void *b) {
    return memcmp(a, b, sizeof(float)) == 0;
}

void part_compare_bits(const struct part *part, size_t run) {
    const struct record *record = &part->runs[run];
    const struct record *generic = part->generic.hidden != NULL ? &part->generic : &part->runs[0];
    size_t values = part->tokens * part->width, *differing = &part->verdict->runs[run].differing_values;
    for (size_t i = 0; i < values; i++) {
        *differing += !same_bits(record->hidden + i, generic->hidden + i);
    }
    for (size_t i = 0; i < part->layers * values; i++) {
        *differing += !same_bits(record->outputs + i, generic->outputs + i);
    }
    for (size_t i = 0; i < part->layers * part->tokens * part->path; i++) {
        *differing += record->nodes[i] != generic->nodes[i];
        *differing += !same_bits(record->logits + i, generic->logits + i);
    }
}

void part_compare_run(const struct part *part, size_t run) {
    struct end_to_end *of = &part->verdict->runs[run];
    size_t length = part->batch.length, width = part->width;
    for (size_t sequence = 0; sequence < part->batch.sequences; sequence++) {
        bool *parted = &part->runs[run].parted[sequence];
        for (size_t layer = 0; layer < part->layers; layer++) {
            double largest = 0;
            struct route_apart first = {0};
            size_t flips = flips_of(part, run, layer, sequence, &first, &largest);
            of->layer_flips[layer] += flips;
            if (flips > 0 && !*parted) {
                if (of->sequences_apart++ == 0) {
                    of->first_apart = first;
                }
                of->largest_flip = fmax(of->largest_flip, largest);
                *parted = true;
            }
        }
        for (size_t token = sequence * length; token < (sequence + 1) * length; token++) {
            for (size_t i = token * width; i < (token + 1) * width && part_has_token(part, token); i++) {
                double value = (double)part->runs[run].hidden[i], exact = part->exact.hidden[i];
                compare_numbers(value, exact, &of->hidden);
                if (!*parted) {
                    compare_numbers(value, exact, &of->steady_hidden);
                }
                for (size_t layer = 0; layer < part->layers; layer++) {
                    size_t at = layer * part->tokens * width + i;
                    compare_numbers((double)part->runs[run].outputs[at], part->exact.outputs[at], &of->layers[layer]);
                }
            }
        }
    }
}
