/* fff_backward() and fff_visited_rows(): a chunk of tokens at a time, and a part at a time (layer/gradients.c). */
#include "dispatch/fp_environment.h"
#include "layer/check_gradients.h"
#include "layer/gradients.h"
#include "layer/nodes.h"
#include "layer/plan.h"
#include "layer/size.h"

#include <string.h>

enum {
    CHUNK_ENTRIES = 1 << 17, /* of a chunk's paths, more or less */
    LEAST_ENTRIES = 64,      /* of a task, about */
    LINE = FFF_WORKSPACE_ALIGNMENT,
};

/* ---- The workspace --------------------------------------------------------------------------- */

/* Takes `bytes`, aligned to a line, from *end on. */
static bool take(size_t *end, size_t count, size_t size, size_t *offset) {
    size_t bytes;
    return fff_size_round_up(*end, LINE, offset) && fff_size_multiply(count, size, &bytes) &&
           fff_size_add(*offset, bytes, end);
}

static size_t most_neurons(const fff_layer *layer) {
    size_t most = 1;
    for (size_t i = 0; i < layer->part_count; i++) {
        most = fff_max(most, fff_neurons_per_token(&layer->parts[i]));
    }
    return most;
}

/* Of the chunk of the largest part; more tokens or tasks never need less. */
static bool lay_out(const fff_layer *layer, size_t batch, size_t concurrency, struct fff_backward_layout *layout) {
    size_t per_token = most_neurons(layer), count, slice = 0, begin, end = sizeof(struct fff_backward);
    layout->chunk = fff_min(batch, fff_max(CHUNK_ENTRIES / per_token, 1));
    if (!fff_size_multiply(layout->chunk, per_token, &count)) {
        return false;
    }
    layout->tasks = fff_min(fff_max(concurrency, 1), fff_max(count / LEAST_ENTRIES, 1));
    size_t gathered = fff_max(per_token, FFF_GATHERED);
    bool fits = take(&slice, layout->chunk, sizeof(float), &begin) &&
                take(&slice, gathered, sizeof(uint32_t), &layout->gathered_rows) &&
                take(&slice, gathered, sizeof(float), &layout->gathered) &&
                fff_size_round_up(slice, LINE, &layout->slice);
    return fits && take(&end, layout->tasks, 1, &layout->states) &&
           take(&end, count, sizeof(uint32_t), &layout->rows) && take(&end, count, sizeof(uint32_t), &layout->order) &&
           take(&end, count, sizeof(uint32_t), &layout->tokens) &&
           take(&end, count + 1, sizeof(uint32_t), &layout->starts) &&
           take(&end, count, sizeof(uint32_t), &layout->places) && take(&end, count, sizeof(float), &layout->slopes) &&
           take(&end, count, sizeof(float), &layout->activations) &&
           take(&end, layout->chunk, sizeof(uint32_t), &layout->last_order) &&
           take(&end, layout->tasks, layout->slice, &layout->slices) && fff_size_add(end, LINE - 1, &layout->bytes);
}

fff_status fff_backward_workspace_size(const fff_layer *layer, size_t batch, size_t concurrency, size_t *size) {
    if (layer == NULL || size == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    struct fff_backward_layout layout = {0};
    if (batch > 0 && !lay_out(layer, batch, concurrency, &layout)) {
        return FFF_ERROR_OVERFLOW;
    }
    *size = layout.bytes;
    return FFF_OK;
}

/* What is known of the workspace when a call begins: its size is enough. */
static fff_status check_workspace(const fff_layer *layer, size_t batch, const void *workspace, size_t workspace_size,
                                  const fff_runner *runner, struct fff_backward_layout *layout) {
    size_t concurrency = runner != NULL ? runner->concurrency : 1;
    if (concurrency > 1 && runner->run == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    if (!lay_out(layer, batch, concurrency, layout)) {
        return FFF_ERROR_OVERFLOW;
    }
    if (workspace == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    return workspace_size < layout->bytes ? FFF_ERROR_WORKSPACE : FFF_OK;
}

/* ---- Rounds ----------------------------------------------------------------------------------- */

static void run_slopes(void *argument, size_t index) {
    fff_fp_environment callers = fff_fp_enter();
    fff_slopes(argument, index);
    fff_fp_leave(callers);
}

static void run_gradients(void *argument, size_t index) {
    fff_fp_environment callers = fff_fp_enter();
    fff_gradients_of_chunk(argument, index);
    fff_fp_leave(callers);
}

static bool run_tasks(struct fff_backward *backward, void (*task)(void *, size_t)) {
    if (backward->tasks == 1) {
        task(backward, 0);
        return true;
    }
    return fff_run_round(&backward->round, &backward->runner, task, backward);
}

/* ---- A chunk of tokens in a part --------------------------------------------------------------- */

/* Tokens in the order of the rows of their last neurons. */
static void order_by_last(const struct fff_visits *visits, uint32_t *last_order) {
    for (size_t i = 0; i < visits->count; i++) {
        uint32_t token = visits->tokens[i];
        if (visits->order[i] - token * visits->per_token == visits->per_token - 1) {
            *last_order++ = token;
        }
    }
}

/* Where each met row's gradient is: at its own place or, in a list, where that has it. False if it lacks one. */
static bool find_places(const struct fff_visits *visits, const fff_gradients *gradients, uint32_t *places) {
    for (size_t row = 0, listed = 0; row < visits->row_count; row++) {
        uint32_t number = fff_row_of_visit(visits, row);
        places[row] = number;
        if (gradients->rows != NULL) {
            while (listed < gradients->row_count && gradients->rows[listed] < number) {
                listed++;
            }
            if (listed == gradients->row_count || gradients->rows[listed] != number) {
                return false;
            }
            places[row] = (uint32_t)listed;
        }
    }
    return true;
}

static void clear_rows(const fff_gradient_rows *rows, size_t count, size_t width) {
    for (size_t row = 0; row < count && rows->data != NULL; row++) {
        memset(rows->data + row * rows->stride, 0, width * sizeof(float));
    }
}

/* Zeros for listed rows, to which all chunks add. */
static void clear_listed(const fff_layer *layer, const struct fff_part *part, const fff_gradients *gradients) {
    size_t count = gradients->row_count;
    clear_rows(&gradients->input_weights, count, layer->input_width);
    clear_rows(&gradients->output_weights, count, layer->output_width);
    if (part->leaves.width > 0) {
        clear_rows(&gradients->leaf_output_biases, count / part->leaves.width, layer->output_width);
    }
    if (gradients->biases != NULL) {
        memset(gradients->biases, 0, count * sizeof(float));
    }
}

/* The call, with its arrays, where tasks share it: at the beginning of its workspace. */
static struct fff_backward *share_call(struct fff_backward *call) {
    const struct fff_backward_layout *layout = &call->layout;
    unsigned char *memory = call->memory;
    call->visits = (struct fff_visits){
        .rows = (uint32_t *)(void *)(memory + layout->rows),
        .order = (uint32_t *)(void *)(memory + layout->order),
        .tokens = (uint32_t *)(void *)(memory + layout->tokens),
        .starts = (uint32_t *)(void *)(memory + layout->starts),
    };
    call->places = (uint32_t *)(void *)(memory + layout->places);
    call->last_order = (uint32_t *)(void *)(memory + layout->last_order);
    call->slopes = (float *)(void *)(memory + layout->slopes);
    call->activations = (float *)(void *)(memory + layout->activations);
    struct fff_backward *backward = (struct fff_backward *)(void *)memory;
    *backward = *call;
    return backward;
}

/* Makes `count` tokens from the call's `first` on the chunk, for part `index`, whose entries begin at `entry`, and
 * sorts their visits: unless it is the chunk already, as when a batch is a single one, whose list has been checked. */
static void set_chunk(struct fff_backward *backward, const struct fff_backward *call, size_t first, size_t count,
                      size_t index, size_t entry) {
    const struct fff_part *part = &call->layer->parts[index];
    const uint32_t *nodes = call->nodes + first * call->node_stride + entry;
    if (backward->part == part && backward->nodes == nodes) {
        return;
    }
    backward->part = part;
    backward->nodes = nodes;
    backward->first_part = index == 0;
    backward->logits = call->logits == NULL ? NULL : call->logits + first * call->logit_stride + entry;
    if (call->input != NULL) {
        backward->input = call->input + first * call->input_stride;
        backward->output_gradient = call->output_gradient + first * call->output_gradient_stride;
    }
    if (call->input_gradient != NULL) {
        backward->input_gradient = call->input_gradient + first * call->input_gradient_stride;
    }
    fff_sort_visits(part, count, nodes, call->node_stride, &backward->visits);
}

/* What is left to do for a chunk. */
static fff_status run_chunk(struct fff_backward *backward) {
    order_by_last(&backward->visits, backward->last_order);
    if (backward->gradients != NULL) {
        (void)find_places(&backward->visits, backward->gradients, backward->places); /* checked before */
    }
    return run_tasks(backward, run_slopes) && run_tasks(backward, run_gradients) ? FFF_OK : FFF_ERROR_RUNNER;
}

/* Whether lists of rows hold all that are met. */
static bool lists_suffice(struct fff_backward *backward, const struct fff_backward *call, size_t batch,
                          const fff_gradients *gradients) {
    for (size_t i = 0, entry = 0; i < call->layer->part_count; i++, gradients = gradients->next) {
        for (size_t first = 0, count; first < batch && gradients->rows != NULL; first += count) {
            count = fff_min(batch - first, backward->layout.chunk);
            set_chunk(backward, call, first, count, i, entry);
            if (!find_places(&backward->visits, gradients, backward->places)) {
                return false;
            }
        }
        entry += call->layer->parts[i].path_length;
    }
    return true;
}

static fff_status run_parts(struct fff_backward *backward, const struct fff_backward *call, size_t batch,
                            const fff_gradients *gradients) {
    fff_status status = FFF_OK;
    bool only_chunk = batch <= backward->layout.chunk;
    for (size_t i = 0, entry = 0; i < call->layer->part_count && status == FFF_OK; i++) {
        backward->gradients = gradients;
        for (size_t first = 0, count; first < batch && status == FFF_OK; first += count) {
            count = fff_min(batch - first, backward->layout.chunk);
            set_chunk(backward, call, first, count, i, entry);
            bool listed = gradients != NULL && gradients->rows != NULL;
            bool whole = listed && only_chunk && gradients->row_count == backward->visits.row_count;
            if (listed && first == 0 && !whole) {
                clear_listed(call->layer, backward->part, gradients);
            }
            backward->write = whole ? 0 : FFF_WRITE_CONTINUE;
            status = run_chunk(backward);
        }
        entry += call->layer->parts[i].path_length;
        gradients = gradients != NULL ? gradients->next : NULL;
    }
    return status;
}

/* What a batch of no tokens leaves behind. */
static fff_status clear_lists(const fff_layer *layer, const fff_gradients *gradients) {
    fff_status status = fff_check_gradients(layer, gradients);
    if (status == FFF_OK && fff_gradients_overlap(layer, gradients, NULL, 0, 0)) {
        return FFF_ERROR_OVERLAP;
    }
    size_t part = 0;
    for (const fff_gradients *each = gradients; each != NULL && status == FFF_OK; each = each->next, part++) {
        if (each->rows != NULL) {
            clear_listed(layer, &layer->parts[part], each);
        }
    }
    return status;
}

/* ---- The public functions --------------------------------------------------------------------- */

fff_status fff_backward(const fff_layer *layer, size_t batch, const float *input, size_t input_stride,
                        const uint32_t *nodes, size_t node_stride, const float *logits, size_t logit_stride,
                        const float *output_gradient, size_t output_gradient_stride, float *input_gradient,
                        size_t input_gradient_stride, const fff_gradients *gradients, void *workspace,
                        size_t workspace_size, const fff_runner *runner) {
    if (layer == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    struct fff_backward call = {
        .layer = layer,
        .input = input,
        .input_stride = input_stride,
        .nodes = nodes,
        .node_stride = node_stride,
        .logits = logits,
        .logit_stride = logit_stride,
        .output_gradient = output_gradient,
        .output_gradient_stride = output_gradient_stride,
        .input_gradient = input_gradient,
        .input_gradient_stride = input_gradient_stride,
    };
    struct fff_rows fixed[FFF_FIXED_MATRICES];
    fff_status status = fff_check_trainable(layer, gradients);
    if (batch == 0 && status == FFF_OK) {
        return clear_lists(layer, gradients);
    }
    size_t count = 1, path = layer->path_length, written = input_gradient != NULL ? 2 : 1;
    if (input_gradient != NULL && status == FFF_OK) {
        status = fff_check_rows(input_gradient, batch, layer->input_width, input_gradient_stride, &fixed[count++]);
    }
    if (status == FFF_OK) {
        status = fff_check_rows(input, batch, layer->input_width, input_stride, &fixed[count++]);
    }
    if (status == FFF_OK) {
        status = fff_check_rows(nodes, batch, path, node_stride, &fixed[count++]);
    }
    if (status == FFF_OK) {
        status = fff_check_rows(logits, batch, path, logit_stride, &fixed[count++]);
    }
    if (status == FFF_OK) {
        status = fff_check_rows(output_gradient, batch, layer->output_width, output_gradient_stride, &fixed[count++]);
    }
    if (status == FFF_OK) {
        status = check_workspace(layer, batch, workspace, workspace_size, runner, &call.layout);
    }
    if (status == FFF_OK) {
        status = fff_check_bytes(workspace, workspace_size, &fixed[0]);
    }
    status = status == FFF_OK ? fff_check_gradients(layer, gradients) : status;
    if (status == FFF_OK && fff_gradients_overlap(layer, gradients, fixed, count, written)) {
        status = FFF_ERROR_OVERLAP;
    }
    status = status == FFF_OK ? fff_check_nodes(layer, batch, nodes, node_stride) : status;
    if (status != FFF_OK) {
        return status;
    }
    call.memory = fff_align_workspace(workspace);
    call.runner = runner != NULL ? *runner : (fff_runner){0};
    call.tasks = call.layout.tasks;
    call.round.count = call.tasks;
    call.round.states = (atomic_uchar *)(void *)(call.memory + call.layout.states);
    struct fff_backward *backward = share_call(&call);
    if (gradients != NULL && !lists_suffice(backward, &call, batch, gradients)) {
        return FFF_ERROR_NODE;
    }
    return run_parts(backward, &call, batch, gradients);
}

/* Adds the rows that were met to a list of others, both ascending, in place from the end on. Returns how many are
 * listed then; there is room for them. */
static size_t merge_rows(uint32_t *list, size_t count, const struct fff_visits *visits) {
    size_t in_both = 0;
    for (size_t i = 0, row = 0; row < visits->row_count; row++) {
        uint32_t met = fff_row_of_visit(visits, row);
        while (i < count && list[i] < met) {
            i++;
        }
        in_both += i < count && list[i] == met;
    }
    size_t merged = count + visits->row_count - in_both;
    for (size_t to = merged, i = count, row = visits->row_count; row > 0; to--) {
        uint32_t met = fff_row_of_visit(visits, row - 1);
        bool listed = i > 0 && list[i - 1] >= met, later = listed && list[i - 1] > met;
        list[to - 1] = later ? list[i - 1] : met;
        i -= listed;
        row -= !later;
    }
    return merged;
}

fff_status fff_visited_rows(const fff_layer *layer, size_t part, size_t batch, const uint32_t *nodes,
                            size_t node_stride, uint32_t *rows, size_t capacity, size_t *count, void *workspace,
                            size_t workspace_size) {
    if (layer == NULL || count == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    if (part >= layer->part_count) {
        return FFF_ERROR_PARTS;
    }
    if (batch == 0) {
        *count = 0;
        return FFF_OK;
    }
    const struct fff_part *its = &layer->parts[part];
    size_t most = fff_neuron_count(its), of_batch;
    if (fff_size_multiply(batch, fff_neurons_per_token(its), &of_batch)) {
        most = fff_min(most, of_batch);
    }
    struct fff_backward call = {.layer = layer, .nodes = nodes, .node_stride = node_stride};
    struct fff_rows matrices[3];
    fff_status status = fff_check_rows(nodes, batch, layer->path_length, node_stride, &matrices[2]);
    if (status == FFF_OK) {
        status = check_workspace(layer, batch, workspace, workspace_size, NULL, &call.layout);
    }
    if (status == FFF_OK && capacity < most) {
        status = FFF_ERROR_WORKSPACE;
    }
    if (status == FFF_OK) {
        status = fff_check_rows(rows, 1, most, most, &matrices[1]);
    }
    if (status == FFF_OK) {
        status = fff_check_bytes(workspace, workspace_size, &matrices[0]);
    }
    if (status == FFF_OK && fff_any_overlap(matrices, 2, 3)) {
        status = FFF_ERROR_OVERLAP;
    }
    status = status == FFF_OK ? fff_check_nodes(layer, batch, nodes, node_stride) : status;
    if (status != FFF_OK) {
        return status;
    }
    size_t entry = 0, listed = 0;
    for (size_t i = 0; i < part; i++) {
        entry += layer->parts[i].path_length;
    }
    call.memory = fff_align_workspace(workspace);
    struct fff_backward *backward = share_call(&call);
    for (size_t first = 0, some; first < batch; first += some) {
        some = fff_min(batch - first, call.layout.chunk);
        set_chunk(backward, &call, first, some, part, entry);
        listed = merge_rows(rows, listed, &backward->visits);
    }
    *count = listed;
    return FFF_OK;
}
