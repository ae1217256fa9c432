/* The walk read backwards.
 *
 * No kernel is made for it: the dot product of an output's gradient with an output row is node_dot, with output rows in
 * place of input rows; the gradient of an input is accumulate, with input rows in place of output rows; and that of a
 * row is accumulate, too, whose rows are tokens. A chunk of tokens goes at a time, a part at a time:
 *
 *     sort      the chunk's entries by row (layer/visits.h)
 *     slopes    round 1: each task an even share of the tokens, row by row (layer/tour.h),
 *     inputs    round 2: each task an even share of the tokens, path by path,
 *     weights            then every so many-th row; of many tasks, some columns of it
 */
#include "layer/gradients.h"

#include "layer/size.h"
#include "layer/tour.h"

#include <string.h>

enum {
    LEAST_COLUMNS = 64,  /* of a task's share */
    MOST_ROW_SHARES = 4, /* unless columns are too few */
    TOKENS_AHEAD = 4,    /* whose rows are fetched while as many use theirs */
};

static const uint32_t ONLY = 0; /* the number of a token or row that goes alone */
static const float ZERO = 0.0f; /* a bias */

/* ---- Round 1: slopes -------------------------------------------------------------------------- */

struct slopes {
    const struct fff_backward *backward;
    float *dots; /* room for one a token */
};

static const unsigned char *output_row(const struct fff_backward *backward, size_t row) {
    const struct fff_trees *neurons = fff_neurons(backward->part);
    return neurons->output_rows + fff_row_of_visit(&backward->visits, row) * neurons->output_row_stride;
}

static void fetch_output_row(const struct fff_tour *tour, size_t row) {
    const struct slopes *to = tour->context;
    fff_fetch_l2(output_row(to->backward, row), fff_neurons(tour->part)->output_bytes);
}

/* Of each token's entry: factor * (output row . the token's output gradient). */
static void dot_row(const struct fff_tour *tour, const struct fff_meeting *meeting) {
    const struct slopes *to = tour->context;
    const struct fff_backward *backward = to->backward;
    const struct fff_trees *neurons = fff_neurons(tour->part);
    const uint32_t *tokens = tour->visits->tokens + meeting->at, *entries = tour->visits->order + meeting->at;
    const struct fff_trees only = {
        .input_rows = output_row(backward, meeting->row),
        .biases = &ZERO,
        .row_stride = neurons->output_row_stride,
        .input_bytes = neurons->output_bytes,
        .input_width = neurons->output_width,
        .tree_count = 1,
        .level_count = 1,
        .node_count = 1,
    };
    fff_output_kernels(tour->part)
        ->node_dot(&only, 0, meeting->count, tokens, backward->output_gradient,
                   backward->output_gradient_stride * sizeof(float), to->dots, 1);
    for (size_t i = 0; i < meeting->count; i++) {
        backward->slopes[entries[i]] = tour->part->factor * to->dots[tokens[i]];
    }
}

/* Of tokens `first` to `end`: their slopes and, if those are wanted, activations. */
static void slopes_of(const struct fff_backward *backward, size_t first, size_t end, float *dots) {
    const struct fff_part *part = backward->part;
    struct slopes to = {backward, dots};
    const struct fff_tour tour = {
        .part = part,
        .visits = &backward->visits,
        .first_token = first,
        .end_token = end,
        .row_step = 1,
        .token_bytes = backward->layer->output_width * sizeof(float),
        .visit = dot_row,
        .fetch = fetch_output_row,
        .context = &to,
    };
    fff_run_tour(&tour);
    size_t per_token = backward->visits.per_token, count = (end - first) * per_token;
    float *slopes = backward->slopes + first * per_token, *activations = backward->activations + first * per_token;
    for (size_t token = first, at = 0; token < end; token++) {
        const float *logits = backward->logits + token * backward->logit_stride;
        for (size_t i = 0; i < per_token; i++) {
            activations[at++] = logits[fff_entry_of_neuron(part, i)];
        }
    }
    part->kernels->differentiate(part->activation, count, activations, slopes, slopes);
    if (backward->gradients != NULL && backward->gradients->output_weights.data != NULL) {
        part->kernels->activate(part->activation, count, activations, activations);
        for (size_t i = 0; i < count && part->factor != 1.0f; i++) {
            activations[i] *= part->factor;
        }
    }
}

/* ---- Round 2: gradients of inputs ------------------------------------------------------------- */

/* Those rows of the paths of tokens[0], tokens[1], ... that the path before has not: that of tokens[-1], the first
 * time.
 */
static void fetch_new_rows(const struct fff_visits *visits, const struct fff_trees *neurons, const uint32_t *tokens,
                           size_t count) {
    for (const uint32_t *token = tokens; token < tokens + count; token++) {
        const uint32_t *rows = visits->rows + token[0] * visits->per_token;
        const uint32_t *before = visits->rows + *(token - 1) * visits->per_token;
        for (size_t i = 0; i < visits->per_token; i++) {
            if (rows[i] != before[i]) {
                fff_fetch_l2(neurons->input_rows + rows[i] * neurons->row_stride, neurons->input_bytes);
            }
        }
    }
}

/* Of tokens last_order[first] to last_order[end - 1]. Those that share most of a path are neighbours there, of which
 * accumulate makes use. */
static void input_gradients_of(const struct fff_backward *backward, size_t first, size_t end, unsigned char *slice) {
    const struct fff_visits *visits = &backward->visits;
    const struct fff_trees *neurons = fff_neurons(backward->part);
    size_t per_token = visits->per_token;
    size_t together = fff_min(TOKENS_AHEAD, fff_max(FFF_GATHERED / per_token, 1));
    uint32_t *rows = (uint32_t *)(void *)(slice + backward->layout.gathered_rows);
    float *slopes = (float *)(void *)(slice + backward->layout.gathered);
    struct fff_trees swapped = *neurons;
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
            memcpy(slopes + i * per_token, backward->slopes + tokens[i] * per_token, per_token * sizeof *slopes);
        }
        fetch_new_rows(visits, neurons, tokens + count, fff_min(end - first - count, together));
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
static struct columns share_of_columns(const struct fff_backward *backward, const float *rows, size_t stride,
                                       size_t width, size_t tasks, size_t index, size_t *first) {
    size_t steps = (width + FFF_ROW_STEP - 1) / FFF_ROW_STEP;
    *first = fff_min(fff_share_start(steps, tasks, index) * FFF_ROW_STEP, width);
    size_t end = fff_min(fff_share_start(steps, tasks, index + 1) * FFF_ROW_STEP, width);
    return (struct columns){rows + *first, stride, end - *first,
                            fff_callers_kernels(backward->part->kernels, width)->accumulate};
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

/* A task's part of the weights' gradients: some columns of its tour's rows. */
struct share {
    const struct fff_backward *backward;
    size_t input_column, output_column;
    struct columns inputs, output_gradients;
    bool biases;    /* these, too */
    bool stream;    /* gradients that are written at once go past the caches */
    float *factors; /* room for one a token */
};

static void fetch_gradients(const struct fff_tour *tour, size_t row) {
    const struct share *share = tour->context;
    const fff_gradients *to = share->backward->gradients;
    size_t place = share->backward->places[row];
    if (to->input_weights.data != NULL) {
        fff_fetch_l2(to->input_weights.data + place * to->input_weights.stride + share->input_column,
                     share->inputs.count * sizeof(float));
    }
    if (to->output_weights.data != NULL) {
        fff_fetch_l2(to->output_weights.data + place * to->output_weights.stride + share->output_column,
                     share->output_gradients.count * sizeof(float));
    }
}

/* Of some entries, from what there is one of for each. */
static const float *gather(const struct share *share, const float *from, const uint32_t *entries, size_t count) {
    for (size_t i = 0; i < count; i++) {
        share->factors[i] = from[entries[i]];
    }
    return share->factors;
}

/* Such a number for each of some tokens. */
static const float *repeat(const struct share *share, float number, size_t count) {
    for (size_t i = 0; i < count; i++) {
        share->factors[i] = number;
    }
    return share->factors;
}

/* Of a row's neuron. */
static void weight_gradient(const struct fff_tour *tour, const struct fff_meeting *meeting) {
    const struct share *share = tour->context;
    const struct fff_backward *backward = share->backward;
    const struct fff_visits *visits = &backward->visits;
    const fff_gradients *to = backward->gradients;
    size_t row = meeting->row, at = meeting->at, count = meeting->count, place = backward->places[row];
    const uint32_t *tokens = visits->tokens + at, *entries = visits->order + at;
    unsigned write = at > visits->starts[row] ? FFF_WRITE_CONTINUE : backward->write, whole = write;
    if (share->stream && write == 0 && at + count == visits->starts[row + 1]) {
        whole = FFF_WRITE_STREAM;
    }
    const float *slopes = gather(share, backward->slopes, entries, count);
    if (to->biases != NULL && share->biases) {
        float sum = (write & FFF_WRITE_CONTINUE) != 0 ? to->biases[place] : 0.0f;
        for (size_t i = 0; i < count; i++) {
            sum += slopes[i];
        }
        to->biases[place] = sum;
    }
    if (to->input_weights.data != NULL) {
        add_tokens(&share->inputs, count, tokens, slopes, whole,
                   to->input_weights.data + place * to->input_weights.stride + share->input_column);
    }
    if (to->output_weights.data != NULL) {
        add_tokens(&share->output_gradients, count, tokens, gather(share, backward->activations, entries, count), whole,
                   to->output_weights.data + place * to->output_weights.stride + share->output_column);
    }
    size_t width = backward->part->leaves.width;
    if (to->leaf_output_biases.data != NULL && width > 0 && fff_row_of_visit(visits, row) % width == 0) {
        add_tokens(&share->output_gradients, count, tokens, repeat(share, backward->part->factor, count), write,
                   to->leaf_output_biases.data + place / width * to->leaf_output_biases.stride + share->output_column);
    }
}

/* The output bias's: all tokens' output gradients, in their order. */
static void bias_gradient(const struct fff_backward *backward, const struct share *share, uint32_t *tokens) {
    for (size_t first = 0, count; first < backward->visits.token_count; first += count) {
        count = fff_min(backward->visits.token_count - first, FFF_GATHERED);
        for (size_t i = 0; i < count; i++) {
            tokens[i] = (uint32_t)(first + i);
        }
        add_tokens(&share->output_gradients, count, tokens, repeat(share, 1.0f, count), FFF_WRITE_CONTINUE,
                   backward->gradients->output_bias + share->output_column);
    }
}

/* In how many shares of rows all tasks divide the weights' gradients; the rest is columns. The root alone is a twelfth
 * of 1x11's entries, and is whole in one share: so shares of rows are few. But of columns alone, every task would meet
 * all rows, and miss the TLB as often as one task does: 1.45 times as fast on two threads, against 1.7 by rows. */
static size_t shares_of_rows(size_t tasks, size_t columns) {
    size_t rows = MOST_ROW_SHARES;
    while (tasks % rows != 0) {
        rows--;
    }
    return tasks / rows <= columns ? rows : tasks / columns;
}

/* Task `index`'s share of the weights' gradients: every so many-th row, which parts left children from right ones, and
 * some of the columns. Every sum is one task's. */
static void weight_gradients_of(const struct fff_backward *backward, size_t index, unsigned char *slice) {
    const fff_layer *layer = backward->layer;
    const struct fff_visits *visits = &backward->visits;
    size_t columns = fff_max(fff_max(layer->input_width, layer->output_width) / LEAST_COLUMNS, 1);
    size_t down = fff_max(shares_of_rows(backward->tasks, columns), 1), across = fff_max(backward->tasks / down, 1);
    if (index >= across * down) {
        return;
    }
    size_t column = index % across, first = index / across;
    size_t token_bytes = (layer->input_width + layer->output_width) * sizeof(float); /* as many as a row's gradients */
    struct share share = {.backward = backward, .biases = column == 0, .factors = (float *)(void *)slice};
    share.inputs = share_of_columns(backward, backward->input, backward->input_stride, layer->input_width, across,
                                    column, &share.input_column);
    share.output_gradients = share_of_columns(backward, backward->output_gradient, backward->output_gradient_stride,
                                              layer->output_width, across, column, &share.output_column);
    /* Listed rows that do not fit L2: nobody finds them there afterwards, and to be written they need not be read. */
    share.stream = backward->write == 0 && visits->row_count * token_bytes > backward->part->l2_bytes;
    const struct fff_tour tour = {
        .part = backward->part,
        .visits = visits,
        .end_token = visits->token_count,
        .first_row = first,
        .row_step = down,
        .token_bytes = token_bytes,
        .writes = true,
        .visit = weight_gradient,
        .fetch = share.stream ? NULL : fetch_gradients,
        .context = &share,
    };
    fff_run_tour(&tour);
    if (share.stream) {
        fff_store_fence();
    }
    if (backward->gradients->output_bias != NULL && first == 0) {
        bias_gradient(backward, &share, (uint32_t *)(void *)(slice + backward->layout.gathered_rows));
    }
}

/* ---- Rounds ----------------------------------------------------------------------------------- */

static unsigned char *slice_of(const struct fff_backward *backward, size_t task) {
    return backward->memory + backward->layout.slices + task * backward->layout.slice;
}

void fff_slopes(const struct fff_backward *backward, size_t index) {
    size_t tokens = backward->visits.token_count;
    slopes_of(backward, fff_share_start(tokens, backward->tasks, index),
              fff_share_start(tokens, backward->tasks, index + 1), (float *)(void *)slice_of(backward, index));
}

void fff_gradients_of_chunk(const struct fff_backward *backward, size_t index) {
    unsigned char *slice = slice_of(backward, index);
    if (backward->input_gradient != NULL) {
        size_t tokens = backward->visits.token_count;
        input_gradients_of(backward, fff_share_start(tokens, backward->tasks, index),
                           fff_share_start(tokens, backward->tasks, index + 1), slice);
    }
    if (backward->gradients != NULL) {
        weight_gradients_of(backward, index, slice);
    }
}
