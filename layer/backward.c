/* fff_backward() and fff_visited_rows(): the walk read backwards.
 *
 * No kernel is made for it: the dot product of an output's gradient with an output row is node_dot, with output rows in
 * place of input rows; the gradient of an input is accumulate, with input rows in place of output rows; and that of a
 * row is accumulate, too, whose rows are tokens. A chunk of tokens goes at a time, a part at a time:
 *
 *     sort      the chunk's entries by row (layer/visits.h)
 *     slopes    round 1: each task an even share of the sorted entries, so that a row is fetched once for its tokens
 *     inputs    round 2: each task an even share of the tokens,
 *     weights            then some columns of all rows: so tasks share the roots, which all tokens meet
 */
#include "dispatch/dispatch.h"
#include "dispatch/fp_environment.h"
#include "layer/nodes.h"
#include "layer/plan.h"
#include "layer/round.h"
#include "layer/rows.h"
#include "layer/size.h"
#include "layer/visits.h"

#include <string.h>

enum {
    CHUNK_ENTRIES = 1 << 17, /* of a chunk's paths, more or less */
    GATHERED = 1024,         /* entries of tokens whose input gradients are computed at once, more or less */
    LEAST_ENTRIES = 64,      /* of a task, about */
    LEAST_COLUMNS = 64,      /* of a task's share of rows */
    LINE = FFF_WORKSPACE_ALIGNMENT,
};

static const uint32_t ONLY = 0; /* the number of a token or row that goes alone */
static const float ZERO = 0.0f; /* a bias */
/* Matrices that a call is given: workspace, input gradient, input, nodes, logits, output gradient; and for each part
 * its gradients, their list and its weights. */
enum { FIXED_MATRICES = 6, OF_GRADIENTS = 5, MATRICES = OF_GRADIENTS + 1 + 4 };

/* ---- The workspace --------------------------------------------------------------------------- */

/* Byte offsets in it. */
struct layout {
    size_t states, matrices;              /* a byte a task; what is checked for overlap, FIXED_MATRICES first */
    size_t rows, order, tokens, starts;   /* of visits */
    size_t places;                        /* where each row's gradient is */
    size_t slopes, activations, by_entry; /* one an entry: the first two sorted, the third as paths are */
    size_t last_order;                    /* tokens in the order of their last neurons */
    size_t slices, slice;                 /* of tasks */
    size_t gathered_rows, gathered;       /* in a slice, which begins with a float for each token of a chunk */
    size_t chunk, tasks;                  /* tokens at once, tasks at most */
    size_t bytes;
};

/* One call, or a part and a chunk of it. Lies in the workspace where tasks share it. */
struct backward {
    struct fff_round round;
    const fff_layer *layer;
    unsigned char *memory;
    struct layout layout;
    fff_runner runner;
    size_t tasks;
    /* For the chunk, from its first token on; of the part's entries: */
    const float *input, *logits, *output_gradient;
    const uint32_t *nodes;
    float *input_gradient;
    size_t input_stride, node_stride, logit_stride, output_gradient_stride, input_gradient_stride;
    const struct fff_part *part;
    const fff_gradients *gradients; /* of the part */
    bool first_part;                /* whose input gradients begin from 0 */
    unsigned write;                 /* write flags of the weights' gradients */
    struct fff_visits visits;
    uint32_t *places, *last_order;
    float *slopes, *activations, *by_entry;
};

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
static bool lay_out(const fff_layer *layer, size_t batch, size_t concurrency, struct layout *layout) {
    size_t per_token = most_neurons(layer), count, slice = 0, end = sizeof(struct backward);
    layout->chunk = fff_min(batch, fff_max(CHUNK_ENTRIES / per_token, 1));
    if (!fff_size_multiply(layout->chunk, per_token, &count)) {
        return false;
    }
    layout->tasks = fff_min(fff_max(concurrency, 1), fff_max(count / LEAST_ENTRIES, 1));
    size_t gathered = fff_max(per_token, GATHERED);
    bool fits = take(&slice, layout->chunk, sizeof(float), &layout->gathered_rows /* unused: 0 */) &&
                take(&slice, gathered, sizeof(uint32_t), &layout->gathered_rows) &&
                take(&slice, gathered, sizeof(float), &layout->gathered) &&
                fff_size_round_up(slice, LINE, &layout->slice);
    return fits && take(&end, layout->tasks, 1, &layout->states) &&
           take(&end, FIXED_MATRICES + MATRICES * layer->part_count, sizeof(struct fff_rows), &layout->matrices) &&
           take(&end, count, sizeof(uint32_t), &layout->rows) && take(&end, count, sizeof(uint32_t), &layout->order) &&
           take(&end, count, sizeof(uint32_t), &layout->tokens) &&
           take(&end, count + 1, sizeof(uint32_t), &layout->starts) &&
           take(&end, count, sizeof(uint32_t), &layout->places) && take(&end, count, sizeof(float), &layout->slopes) &&
           take(&end, count, sizeof(float), &layout->activations) &&
           take(&end, count, sizeof(float), &layout->by_entry) &&
           take(&end, layout->chunk, sizeof(uint32_t), &layout->last_order) &&
           take(&end, layout->tasks, layout->slice, &layout->slices) && fff_size_add(end, LINE - 1, &layout->bytes);
}

/* ---- Round 1: slopes -------------------------------------------------------------------------- */

/* In which row's entries entry `at` of the sorted ones is. */
static size_t row_of_entry(const struct fff_visits *visits, size_t at) {
    size_t first = 0, end = visits->row_count;
    while (end - first > 1) {
        size_t middle = first + (end - first) / 2;
        *(visits->starts[middle] <= at ? &first : &end) = middle;
    }
    return first;
}

/* upstream[i] = factor * (output row . output gradient of tokens[i]). `dots` has room for a float a token. */
static void dot_row(const struct backward *backward, uint32_t row, size_t count, const uint32_t *tokens, float *dots,
                    float *upstream) {
    const struct fff_part *part = backward->part;
    const struct fff_trees *neurons = fff_neurons(part);
    const struct fff_trees only = {
        .input_rows = neurons->output_rows + row * neurons->output_row_stride,
        .biases = &ZERO,
        .row_stride = neurons->output_row_stride,
        .input_bytes = neurons->output_bytes,
        .input_width = neurons->output_width,
        .tree_count = 1,
        .level_count = 1,
        .node_count = 1,
    };
    fff_output_kernels(part)->node_dot(&only, 0, count, tokens, backward->output_gradient,
                                       backward->output_gradient_stride * sizeof(float), dots, 1);
    for (size_t i = 0; i < count; i++) {
        upstream[i] = part->factor * dots[tokens[i]];
    }
}

/* Of sorted entries `first` to `end`: their slopes and, if those are wanted, activations. */
static void slopes_of(const struct backward *backward, size_t first, size_t end, float *dots) {
    const struct fff_part *part = backward->part;
    const struct fff_trees *neurons = fff_neurons(part);
    const struct fff_visits *visits = &backward->visits;
    float *slopes = backward->slopes, *activations = backward->activations;
    for (size_t row = row_of_entry(visits, first), at = first, next; at < end; row++, at = next) {
        next = fff_min(visits->starts[row + 1], end);
        if (next < end) {
            fff_fetch_l2(neurons->output_rows + fff_row_of_visit(visits, row + 1) * neurons->output_row_stride,
                         neurons->output_bytes);
        }
        dot_row(backward, fff_row_of_visit(visits, row), next - at, visits->tokens + at, dots, slopes + at);
    }
    for (size_t i = first; i < end; i++) {
        size_t token = visits->tokens[i], neuron = visits->order[i] - token * visits->per_token;
        activations[i] = backward->logits[token * backward->logit_stride + fff_entry_of_neuron(part, neuron)];
    }
    part->kernels->differentiate(part->activation, end - first, activations + first, slopes + first, slopes + first);
    for (size_t i = first; i < end; i++) {
        backward->by_entry[visits->order[i]] = slopes[i];
    }
    if (backward->gradients != NULL && backward->gradients->output_weights.data != NULL) {
        part->kernels->activate(part->activation, end - first, activations + first, activations + first);
        for (size_t i = first; i < end && part->factor != 1.0f; i++) {
            activations[i] *= part->factor;
        }
    }
}

/* ---- Round 2: gradients of inputs ------------------------------------------------------------- */

/* Of tokens last_order[first] to last_order[end - 1]. Those that share most of a path are neighbours there, of which
 * accumulate makes use. */
static void input_gradients_of(const struct backward *backward, size_t first, size_t end, unsigned char *slice) {
    const struct fff_visits *visits = &backward->visits;
    size_t per_token = visits->per_token, together = fff_max(GATHERED / per_token, 1);
    uint32_t *rows = (uint32_t *)(void *)(slice + backward->layout.gathered_rows);
    float *slopes = (float *)(void *)(slice + backward->layout.gathered);
    struct fff_trees swapped = *fff_neurons(backward->part);
    swapped.output_rows = swapped.input_rows;
    swapped.output_row_stride = swapped.row_stride;
    swapped.output_bytes = swapped.input_bytes;
    swapped.output_width = swapped.input_width;
    swapped.tree_count = 1; /* all rows by their numbers */
    swapped.level_count = per_token;
    for (size_t count; first < end; first += count) {
        count = fff_min(end - first, together);
        const uint32_t *tokens = backward->last_order + first;
        for (size_t i = 0; i < count; i++) {
            memcpy(rows + i * per_token, visits->rows + tokens[i] * per_token, per_token * sizeof *rows);
            memcpy(slopes + i * per_token, backward->by_entry + tokens[i] * per_token, per_token * sizeof *slopes);
        }
        fff_input_kernels(backward->part)
            ->accumulate(&swapped, count, tokens, rows, slopes, backward->first_part ? 0 : FFF_WRITE_CONTINUE,
                         backward->input_gradient, backward->input_gradient_stride);
    }
}

/* ---- Round 2: gradients of weights ------------------------------------------------------------ */

/* Some columns of the caller's rows, one a token. */
struct columns {
    const float *from;
    size_t stride, count;
    fff_accumulate_function *accumulate;
};

/* A task's share of the columns of such rows, in steps of FFF_ROW_STEP. */
static struct columns share_of_columns(const struct backward *backward, const float *rows, size_t stride, size_t width,
                                       size_t tasks, size_t index, size_t *first) {
    const struct fff_kernels *kernels = backward->part->kernels;
    size_t steps = (width + FFF_ROW_STEP - 1) / FFF_ROW_STEP;
    *first = fff_share_start(steps, tasks, index) * FFF_ROW_STEP;
    size_t end = fff_min(fff_share_start(steps, tasks, index + 1) * FFF_ROW_STEP, width);
    const struct fff_row_kernels *kernels_of_rows =
        width % FFF_ROW_STEP == 0 ? kernels->rows[FFF_WEIGHT_F32] : kernels->exact_f32;
    return (struct columns){rows + *first, stride, end - *first, kernels_of_rows->accumulate};
}

/* to[column] += the sum over i of factors[i] * the column of tokens[i]'s row. */
static void add_tokens(const struct columns *columns, size_t count, const uint32_t *tokens, const float *factors,
                       unsigned write, float *to) {
    const struct fff_trees rows = {
        .output_rows = (const unsigned char *)columns->from,
        .output_row_stride = columns->stride * sizeof(float),
        .output_bytes = columns->count * sizeof(float),
        .output_width = columns->count,
        .tree_count = count,
        .level_count = 1,
    };
    if (columns->count > 0) {
        columns->accumulate(&rows, 1, &ONLY, tokens, factors, write, to, 0);
    }
}

/* A task's part of the weights' gradients: some columns of some rows. */
struct share {
    size_t first_row, end_row; /* of those that were met */
    size_t input_column, output_column;
    struct columns inputs, output_gradients;
    bool biases;      /* these, too */
    float *constants; /* room for a float a token */
};

static void fetch_gradient(const struct share *share, const fff_gradients *to, size_t place) {
    if (to->input_weights.data != NULL) {
        fff_fetch_l2(to->input_weights.data + place * to->input_weights.stride + share->input_column,
                     share->inputs.count * sizeof(float));
    }
    if (to->output_weights.data != NULL) {
        fff_fetch_l2(to->output_weights.data + place * to->output_weights.stride + share->output_column,
                     share->output_gradients.count * sizeof(float));
    }
}

/* Of one row's neuron, which `count` tokens have met. */
static void weight_gradient(const struct backward *backward, const struct share *share, size_t row) {
    const struct fff_visits *visits = &backward->visits;
    const fff_gradients *to = backward->gradients;
    size_t at = visits->starts[row], count = visits->starts[row + 1] - at, place = backward->places[row];
    const uint32_t *tokens = visits->tokens + at;
    if (to->biases != NULL && share->biases) {
        float sum = (backward->write & FFF_WRITE_CONTINUE) != 0 ? to->biases[place] : 0.0f;
        for (size_t i = 0; i < count; i++) {
            sum += backward->slopes[at + i];
        }
        to->biases[place] = sum;
    }
    if (to->input_weights.data != NULL) {
        add_tokens(&share->inputs, count, tokens, backward->slopes + at, backward->write,
                   to->input_weights.data + place * to->input_weights.stride + share->input_column);
    }
    if (to->output_weights.data != NULL) {
        add_tokens(&share->output_gradients, count, tokens, backward->activations + at, backward->write,
                   to->output_weights.data + place * to->output_weights.stride + share->output_column);
    }
    size_t width = backward->part->leaves.width;
    if (to->leaf_output_biases.data != NULL && fff_row_of_visit(visits, row) % width == 0) {
        for (size_t i = 0; i < count; i++) {
            share->constants[i] = backward->part->factor;
        }
        add_tokens(&share->output_gradients, count, tokens, share->constants, backward->write,
                   to->leaf_output_biases.data + place / width * to->leaf_output_biases.stride + share->output_column);
    }
}

/* The output bias's: all tokens' output gradients, in their order. */
static void bias_gradient(const struct backward *backward, const struct share *share, uint32_t *tokens) {
    for (size_t first = 0, count; first < backward->visits.token_count; first += count) {
        count = fff_min(backward->visits.token_count - first, GATHERED);
        for (size_t i = 0; i < count; i++) {
            tokens[i] = (uint32_t)(first + i);
            share->constants[i] = 1.0f;
        }
        add_tokens(&share->output_gradients, count, tokens, share->constants, FFF_WRITE_CONTINUE,
                   backward->gradients->output_bias + share->output_column);
    }
}

/* Task `index`'s share of the weights' gradients: as many columns as there are tasks for, and where those are too few,
 * some of the rows. Every sum is one task's. */
static void weight_gradients_of(const struct backward *backward, size_t index, unsigned char *slice) {
    const fff_layer *layer = backward->layer;
    const struct fff_visits *visits = &backward->visits;
    size_t columns = fff_max(layer->input_width, layer->output_width) / LEAST_COLUMNS;
    size_t across = fff_min(backward->tasks, fff_max(columns, 1)), down = backward->tasks / across;
    if (index >= across * down) {
        return;
    }
    size_t column = index % across, some = index / across;
    size_t first = fff_share_start(visits->row_count, down, some),
           end = fff_share_start(visits->row_count, down, some + 1);
    struct share share = {
        .first_row = first, .end_row = end, .biases = column == 0, .constants = (float *)(void *)slice};
    share.inputs = share_of_columns(backward, backward->input, backward->input_stride, layer->input_width, across,
                                    column, &share.input_column);
    share.output_gradients = share_of_columns(backward, backward->output_gradient, backward->output_gradient_stride,
                                              layer->output_width, across, column, &share.output_column);
    for (size_t row = first; row < end; row++) {
        if (row + 1 < end) {
            fetch_gradient(&share, backward->gradients, backward->places[row + 1]);
        }
        weight_gradient(backward, &share, row);
    }
    if (backward->gradients->output_bias != NULL && some == 0) {
        bias_gradient(backward, &share, (uint32_t *)(void *)(slice + backward->layout.gathered_rows));
    }
}

/* ---- Rounds ----------------------------------------------------------------------------------- */

static unsigned char *slice_of(const struct backward *backward, size_t task) {
    return backward->memory + backward->layout.slices + task * backward->layout.slice;
}

static void run_slopes(void *argument, size_t index) {
    const struct backward *backward = argument;
    size_t first = fff_share_start(backward->visits.count, backward->tasks, index);
    size_t end = fff_share_start(backward->visits.count, backward->tasks, index + 1);
    if (first < end) {
        fff_fp_environment callers = fff_fp_enter();
        slopes_of(backward, first, end, (float *)(void *)slice_of(backward, index));
        fff_fp_leave(callers);
    }
}

static void run_gradients(void *argument, size_t index) {
    const struct backward *backward = argument;
    unsigned char *slice = slice_of(backward, index);
    fff_fp_environment callers = fff_fp_enter();
    if (backward->input_gradient != NULL) {
        size_t tokens = backward->visits.token_count;
        input_gradients_of(backward, fff_share_start(tokens, backward->tasks, index),
                           fff_share_start(tokens, backward->tasks, index + 1), slice);
    }
    if (backward->gradients != NULL) {
        weight_gradients_of(backward, index, slice);
    }
    fff_fp_leave(callers);
}

static bool run_tasks(struct backward *backward, void (*task)(void *, size_t)) {
    if (backward->tasks == 1) {
        task(backward, 0);
        return true;
    }
    backward->round.count = backward->tasks;
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

static void sort_chunk(struct backward *backward, size_t count) {
    struct layout *layout = &backward->layout;
    unsigned char *memory = backward->memory;
    backward->visits = (struct fff_visits){
        .rows = (uint32_t *)(void *)(memory + layout->rows),
        .order = (uint32_t *)(void *)(memory + layout->order),
        .tokens = (uint32_t *)(void *)(memory + layout->tokens),
        .starts = (uint32_t *)(void *)(memory + layout->starts),
    };
    fff_sort_visits(backward->part, count, backward->nodes, backward->node_stride,
                    &backward->visits);
}

/* `count` tokens from the call's `first` on, for part `index`, whose entries begin at `entry`. */
static void set_chunk(struct backward *backward, const struct backward *call, size_t first, size_t count, size_t index,
                      size_t entry) {
    backward->part = &call->layer->parts[index];
    backward->first_part = index == 0;
    backward->nodes = call->nodes + first * call->node_stride + entry;
    backward->logits = call->logits == NULL ? NULL : call->logits + first * call->logit_stride + entry;
    if (call->input != NULL) {
        backward->input = call->input + first * call->input_stride;
        backward->output_gradient = call->output_gradient + first * call->output_gradient_stride;
    }
    if (call->input_gradient != NULL) {
        backward->input_gradient = call->input_gradient + first * call->input_gradient_stride;
    }
    sort_chunk(backward, count);
}

/* What is left to do for a chunk that is sorted. */
static fff_status run_chunk(struct backward *backward, bool only_chunk) {
    const fff_gradients *gradients = backward->gradients;
    struct layout *layout = &backward->layout;
    backward->slopes = (float *)(void *)(backward->memory + layout->slopes);
    backward->activations = (float *)(void *)(backward->memory + layout->activations);
    backward->by_entry = (float *)(void *)(backward->memory + layout->by_entry);
    backward->last_order = (uint32_t *)(void *)(backward->memory + layout->last_order);
    backward->places = (uint32_t *)(void *)(backward->memory + layout->places);
    order_by_last(&backward->visits, backward->last_order);
    if (gradients != NULL) {
        (void)find_places(&backward->visits, gradients, backward->places); /* checked before */
        bool whole_list = only_chunk && gradients->rows != NULL && gradients->row_count == backward->visits.row_count;
        backward->write = whole_list ? 0 : FFF_WRITE_CONTINUE;
    }
    return run_tasks(backward, run_slopes) && run_tasks(backward, run_gradients) ? FFF_OK : FFF_ERROR_RUNNER;
}

/* Whether lists of rows hold all that are met. */
static bool lists_suffice(struct backward *backward, const struct backward *call, size_t batch,
                          const fff_gradients *gradients) {
    for (size_t i = 0, entry = 0; i < call->layer->part_count; i++, gradients = gradients->next) {
        for (size_t first = 0, count; first < batch && gradients->rows != NULL; first += count) {
            count = fff_min(batch - first, backward->layout.chunk);
            set_chunk(backward, call, first, count, i, entry);
            uint32_t *places = (uint32_t *)(void *)(backward->memory + backward->layout.places);
            if (!find_places(&backward->visits, gradients, places)) {
                return false;
            }
        }
        entry += call->layer->parts[i].path_length;
    }
    return true;
}

static fff_status run_parts(struct backward *backward, const struct backward *call, size_t batch,
                            const fff_gradients *gradients) {
    fff_status status = FFF_OK;
    bool only_chunk = batch <= backward->layout.chunk;
    for (size_t i = 0, entry = 0; i < call->layer->part_count && status == FFF_OK; i++) {
        backward->gradients = gradients;
        for (size_t first = 0, count; first < batch && status == FFF_OK; first += count) {
            count = fff_min(batch - first, backward->layout.chunk);
            set_chunk(backward, call, first, count, i, entry);
            bool whole = only_chunk && gradients != NULL && gradients->row_count == backward->visits.row_count;
            if (first == 0 && gradients != NULL && gradients->rows != NULL && !whole) {
                clear_listed(call->layer, backward->part, gradients);
            }
            status = run_chunk(backward, only_chunk);
        }
        entry += call->layer->parts[i].path_length;
        gradients = gradients != NULL ? gradients->next : NULL;
    }
    return status;
}

/* ---- Checks ----------------------------------------------------------------------------------- */

fff_status fff_backward_workspace_size(const fff_layer *layer, size_t batch, size_t concurrency, size_t *size) {
    if (layer == NULL || size == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    struct layout layout = {0};
    if (batch > 0 && !lay_out(layer, batch, concurrency, &layout)) {
        return FFF_ERROR_OVERFLOW;
    }
    *size = layout.bytes;
    return FFF_OK;
}

/* Whether a list of neurons ascends and ends below their number, and of a leaf layer is made of whole leaves. */
static bool is_list(const struct fff_part *part, const fff_gradients *gradients) {
    size_t width = fff_max(part->leaves.width, 1);
    if (gradients->row_count % width != 0) {
        return false;
    }
    for (size_t i = 0; i < gradients->row_count; i++) {
        bool ascends = i == 0 || gradients->rows[i] > gradients->rows[i - 1];
        bool in_leaf =
            i % width == 0 ? gradients->rows[i] % width == 0 : gradients->rows[i] == gradients->rows[i - 1] + 1;
        if (!ascends || !in_leaf || gradients->rows[i] >= fff_neuron_count(part)) {
            return false;
        }
    }
    return true;
}

/* One part's gradients; adds those that are wanted to `matrices`. */
static fff_status check_gradients(const fff_layer *layer, size_t index, const fff_gradients *gradients,
                                  struct fff_rows *matrices, size_t *count) {
    const struct fff_part *part = &layer->parts[index];
    if (gradients->struct_size != sizeof *gradients) {
        return FFF_ERROR_STRUCT_SIZE;
    }
    bool leaf = part->leaves.width > 0;
    if ((!leaf && gradients->leaf_output_biases.data != NULL) || (index > 0 && gradients->output_bias != NULL)) {
        return FFF_ERROR_OPTION;
    }
    if (gradients->rows == NULL && gradients->row_count > 0) {
        return FFF_ERROR_NULL_POINTER;
    }
    size_t rows = gradients->rows != NULL ? gradients->row_count : fff_neuron_count(part);
    fff_status status = FFF_OK;
    if (gradients->rows != NULL && rows > 0) {
        struct fff_rows list;
        status = fff_check_rows(gradients->rows, 1, rows, rows, &list);
    }
    const struct {
        const float *data;
        size_t rows, columns, stride;
    } all[] = {
        {gradients->input_weights.data, rows, layer->input_width, gradients->input_weights.stride},
        {gradients->output_weights.data, rows, layer->output_width, gradients->output_weights.stride},
        {gradients->leaf_output_biases.data, leaf ? rows / part->leaves.width : 0, layer->output_width,
         gradients->leaf_output_biases.stride},
        {gradients->biases, 1, rows, rows},
        {gradients->output_bias, 1, layer->output_width, layer->output_width},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0] && status == FFF_OK; i++) {
        if (all[i].data != NULL && all[i].rows > 0 && all[i].columns > 0) {
            status = fff_check_rows(all[i].data, all[i].rows, all[i].columns, all[i].stride, &matrices[*count]);
            *count += 1;
        }
    }
    return status;
}

/* A part's weights, as the layer reads them. */
static void add_weights(const struct fff_part *part, struct fff_rows *matrices, size_t *count) {
    const struct fff_trees *neurons = fff_neurons(part);
    size_t rows = fff_neuron_count(part);
    uintptr_t in = (uintptr_t)neurons->input_rows, out = (uintptr_t)neurons->output_rows;
    uintptr_t biases = (uintptr_t)neurons->biases;
    size_t in_stride = neurons->row_stride, out_stride = neurons->output_row_stride;
    size_t in_size = neurons->input_width * sizeof(float), out_size = neurons->output_width * sizeof(float);
    matrices[(*count)++] = (struct fff_rows){in, in + (rows - 1) * in_stride + in_size, rows, in_size, in_stride};
    matrices[(*count)++] = (struct fff_rows){out, out + (rows - 1) * out_stride + out_size, rows, out_size, out_stride};
    matrices[(*count)++] =
        (struct fff_rows){biases, biases + rows * sizeof(float), 1, rows * sizeof(float), rows * sizeof(float)};
    if (part->leaves.width > 0) {
        const struct fff_trees *routers = &part->trees;
        size_t nodes = routers->tree_count * routers->node_count;
        uintptr_t at = (uintptr_t)routers->input_rows;
        if (nodes > 0) {
            matrices[(*count)++] = (struct fff_rows){at, at + (nodes - 1) * routers->row_stride + in_size, nodes,
                                                     in_size, routers->row_stride};
        }
    }
}

/* Each part's gradients by themselves, and whether they share an element with the workspace. */
static fff_status check_all_gradients(const fff_layer *layer, const fff_gradients *gradients,
                                      const struct fff_rows *workspace) {
    for (size_t i = 0; i < layer->part_count && gradients != NULL; i++, gradients = gradients->next) {
        struct fff_rows matrices[1 + OF_GRADIENTS];
        size_t count = 0;
        if (workspace != NULL) {
            matrices[count++] = *workspace;
        }
        fff_status status = check_gradients(layer, i, gradients, matrices, &count);
        if (status != FFF_OK) {
            return status;
        }
        if (workspace != NULL && fff_any_overlap(matrices, 1, count)) {
            return FFF_ERROR_OVERLAP;
        }
        if (gradients->rows != NULL && !is_list(&layer->parts[i], gradients)) {
            return FFF_ERROR_NODE;
        }
    }
    return FFF_OK;
}

/* Whether anything that is written shares an element with anything else. `fixed` are workspace, input gradient if there
 * is one, and what is read; `matrices` has room for all. */
static bool any_overlap(const fff_layer *layer, const fff_gradients *gradients, const struct fff_rows *fixed,
                        size_t count, size_t written, struct fff_rows *matrices) {
    size_t all = written;
    memcpy(matrices, fixed, written * sizeof *fixed);
    const fff_gradients *each = gradients;
    for (size_t i = 0; i < layer->part_count && each != NULL; i++, each = each->next) {
        (void)check_gradients(layer, i, each, matrices, &all);
    }
    size_t all_written = all;
    memcpy(matrices + all, fixed + written, (count - written) * sizeof *fixed);
    all += count - written;
    each = gradients;
    for (size_t i = 0; i < layer->part_count; i++) {
        add_weights(&layer->parts[i], matrices, &all);
        if (each != NULL && each->row_count > 0) {
            (void)fff_check_rows(each->rows, 1, each->row_count, each->row_count, &matrices[all++]);
        }
        each = each != NULL ? each->next : NULL;
    }
    return fff_any_overlap(matrices, all_written, all);
}

/* Whether gradients of this layer can be computed, and are asked for part by part. */
static fff_status check_layer(const fff_layer *layer, const fff_gradients *gradients) {
    size_t count = 0;
    for (const fff_gradients *each = gradients; each != NULL && count <= layer->part_count; each = each->next) {
        count++;
        if (each->struct_size != sizeof *each) { /* before its `next` is believed */
            return FFF_ERROR_STRUCT_SIZE;
        }
    }
    if (gradients != NULL && count != layer->part_count) {
        return FFF_ERROR_PARTS;
    }
    for (size_t i = 0; i < layer->part_count; i++) {
        const struct fff_part *part = &layer->parts[i];
        if (part->input_type != FFF_WEIGHT_F32 || part->output_type != FFF_WEIGHT_F32) {
            return FFF_ERROR_OPTION;
        }
        fff_status status = layer->any_sleef ? FFF_OK : fff_sleef_check_derivative(layer->isa, part->activation);
        if (status != FFF_OK) {
            return status;
        }
    }
    return FFF_OK;
}

/* What is known of the workspace when a call begins: its size is enough. */
static fff_status check_workspace(const fff_layer *layer, size_t batch, const void *workspace, size_t workspace_size,
                                  const fff_runner *runner, struct layout *layout) {
    bool shared = runner != NULL && runner->concurrency > 1;
    if (shared && runner->run == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    if (!lay_out(layer, batch, shared ? runner->concurrency : 1, layout)) {
        return FFF_ERROR_OVERFLOW;
    }
    if (workspace == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    return workspace_size < layout->bytes ? FFF_ERROR_WORKSPACE : FFF_OK;
}

/* What a batch of no tokens leaves behind. */
static fff_status clear_lists(const fff_layer *layer, const fff_gradients *gradients) {
    fff_status status = check_all_gradients(layer, gradients, NULL);
    for (size_t i = 0; i < layer->part_count && gradients != NULL && status == FFF_OK; i++) {
        if (gradients->rows != NULL) {
            clear_listed(layer, &layer->parts[i], gradients);
        }
        gradients = gradients->next;
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
    struct backward call = {
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
    struct fff_rows fixed[FIXED_MATRICES];
    fff_status status = check_layer(layer, gradients);
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
    if (status == FFF_OK && fff_any_overlap(fixed, 1, count)) {
        return FFF_ERROR_OVERLAP;
    }
    status = status == FFF_OK ? check_all_gradients(layer, gradients, &fixed[0]) : status;
    status = status == FFF_OK ? fff_check_nodes(layer, batch, nodes, node_stride) : status;
    if (status != FFF_OK) {
        return status;
    }
    call.memory = fff_align_workspace(workspace); /* which is known to be nobody else's */
    struct fff_rows *matrices = (struct fff_rows *)(void *)(call.memory + call.layout.matrices);
    if (any_overlap(layer, gradients, fixed, count, written, matrices)) {
        return FFF_ERROR_OVERLAP;
    }
    struct backward *backward = (struct backward *)(void *)call.memory;
    call.runner = runner != NULL ? *runner : (fff_runner){0};
    call.tasks = call.layout.tasks;
    call.round.states = (atomic_uchar *)(void *)(call.memory + call.layout.states);
    *backward = call;
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
    struct backward call = {.layer = layer, .nodes = nodes, .node_stride = node_stride};
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
    struct backward *backward = (struct backward *)(void *)call.memory;
    *backward = call;
    for (size_t first = 0, some; first < batch; first += some) {
        some = fff_min(batch - first, call.layout.chunk);
        set_chunk(backward, &call, first, some, part, entry);
        listed = merge_rows(rows, listed, &backward->visits);
    }
    *count = listed;
    return FFF_OK;
}
