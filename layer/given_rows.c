/* fff_dot_rows() and fff_sum_rows(): the two halves of a layer for rows that the caller lists. */
#include "dispatch/fp_environment.h"
#include "layer/layer.h"
#include "layer/plan.h"
#include "layer/rows.h"
#include "layer/size.h"

#include <string.h>

enum { ROWS_AHEAD = 4 /* that are fetched while one is used */ };

static const uint32_t ONLY = 0; /* the number of a token, each of which goes alone */

/* Its one part, or NULL. */
static const struct fff_part *path_sum_of(const fff_layer *layer) {
    bool fits = fff_is_one_part(layer) && layer->parts[0].leaves.width == 0;
    return fits ? &layer->parts[0] : NULL;
}

/* All rows as nodes of trees of one level, one for each entry of a list, which lie in the same memory. */
static struct fff_trees listed_rows(const struct fff_part *part, size_t count) {
    struct fff_trees all = part->trees;
    all.node_count = 0;
    all.tree_count = count;
    all.level_count = 1;
    all.near_levels = 0;
    return all;
}

static fff_status check_listed(const struct fff_part *part, size_t batch, size_t count, const uint32_t *rows,
                               size_t row_stride) {
    size_t all = part->trees.tree_count * part->trees.node_count;
    for (size_t t = 0; t < batch; t++) {
        for (size_t e = 0; e < count; e++) {
            if (rows[t * row_stride + e] >= all) {
                return FFF_ERROR_NODE;
            }
        }
    }
    return FFF_OK;
}

/* One token's logits. */
static void dot_listed(const struct fff_part *part, const struct fff_trees *all, const uint32_t *rows,
                       const float *given, unsigned char *memory, float *logits) {
    const void *input = given;
    if (part->input_type == FFF_WEIGHT_I8) {
        part->kernels->quantise(all->input_width, given, memory);
        input = memory;
    }
    for (size_t e = 0; e < all->tree_count; e++) {
        if (e + ROWS_AHEAD < all->tree_count) {
            fff_fetch_l2(all->input_rows + rows[e + ROWS_AHEAD] * all->row_stride, all->input_bytes);
        }
        fff_input_kernels(part)->node_dot(all, rows[e], 1, &ONLY, input, 0, &logits[e], 1);
    }
}

fff_status fff_dot_rows(const fff_layer *layer, size_t batch, size_t count, const float *input, size_t input_stride,
                        const uint32_t *rows, size_t row_stride, float *logits, size_t logit_stride, void *workspace,
                        size_t workspace_size) {
    if (layer == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    const struct fff_part *part = path_sum_of(layer);
    if (part == NULL) {
        return FFF_ERROR_OPTION;
    }
    if (batch == 0 || count == 0) {
        return FFF_OK;
    }
    struct fff_rows matrices[4]; /* two of them are written */
    struct fff_plan plan;
    fff_status status = fff_check_rows(logits, batch, count, logit_stride, &matrices[1]);
    status = status == FFF_OK ? fff_check_rows(rows, batch, count, row_stride, &matrices[2]) : status;
    status = status == FFF_OK ? fff_check_rows(input, batch, layer->input_width, input_stride, &matrices[3]) : status;
    if (status == FFF_OK && workspace == NULL) {
        status = FFF_ERROR_NULL_POINTER;
    }
    if (status == FFF_OK && workspace_size < fff_plan_batch(part, 1, 1, &plan)) {
        status = FFF_ERROR_WORKSPACE;
    }
    status = status == FFF_OK ? fff_check_bytes(workspace, workspace_size, &matrices[0]) : status;
    if (status != FFF_OK) {
        return status;
    }
    if (fff_any_overlap(matrices, 2, 4)) {
        return FFF_ERROR_OVERLAP;
    }
    status = check_listed(part, batch, count, rows, row_stride);
    if (status != FFF_OK) {
        return status;
    }
    unsigned char *memory = fff_align_workspace(workspace);
    const struct fff_trees all = listed_rows(part, count);
    fff_fp_environment callers = fff_fp_enter();
    for (size_t t = 0; t < batch; t++) {
        dot_listed(part, &all, rows + t * row_stride, input + t * input_stride, memory, logits + t * logit_stride);
    }
    fff_fp_leave(callers);
    return FFF_OK;
}

/* Some factors of a token, which those of int8 rows are scaled in. */
enum { FACTORS = 256 };

static void sum_listed(const struct fff_part *part, size_t count, const uint32_t *rows, const float *factors,
                       float *output) {
    float scaled[FACTORS];
    for (size_t first = 0, some; first < count; first += some) {
        some = fff_min(count - first, FACTORS);
        const struct fff_trees all = listed_rows(part, some);
        for (size_t e = 0; e < some; e++) {
            fff_fetch_l2(all.output_rows + rows[first + e] * all.output_row_stride, all.output_bytes);
            bool integers = part->output_scales != NULL;
            scaled[e] = integers ? factors[first + e] * part->output_scales[rows[first + e]] : factors[first + e];
        }
        fff_output_kernels(part)->accumulate(&all, 1, &ONLY, rows + first, scaled, first > 0 ? FFF_WRITE_CONTINUE : 0,
                                             output, 0);
    }
}

fff_status fff_sum_rows(const fff_layer *layer, size_t batch, size_t count, const uint32_t *rows, size_t row_stride,
                        const float *factors, size_t factor_stride, float *output, size_t output_stride) {
    if (layer == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    const struct fff_part *part = path_sum_of(layer);
    bool placed = part != NULL && part->output_type == FFF_WEIGHT_I8 && fff_has_integer_sums(part->trees.level_count);
    if (part == NULL || placed) {
        return FFF_ERROR_OPTION;
    }
    if (batch == 0) {
        return FFF_OK;
    }
    struct fff_rows matrices[3];
    fff_status status = fff_check_rows(output, batch, layer->output_width, output_stride, &matrices[0]);
    for (size_t t = 0; t < batch && status == FFF_OK && count == 0; t++) {
        memset(output + t * output_stride, 0, layer->output_width * sizeof *output);
    }
    if (status != FFF_OK || count == 0) {
        return status;
    }
    status = fff_check_rows(rows, batch, count, row_stride, &matrices[1]);
    status = status == FFF_OK ? fff_check_rows(factors, batch, count, factor_stride, &matrices[2]) : status;
    if (status != FFF_OK) {
        return status;
    }
    if (fff_any_overlap(matrices, 1, 3)) {
        return FFF_ERROR_OVERLAP;
    }
    status = check_listed(part, batch, count, rows, row_stride);
    if (status != FFF_OK) {
        return status;
    }
    fff_fp_environment callers = fff_fp_enter();
    for (size_t t = 0; t < batch; t++) {
        sum_listed(part, count, rows + t * row_stride, factors + t * factor_stride, output + t * output_stride);
    }
    fff_fp_leave(callers);
    return FFF_OK;
}
