/* The walk read backwards.
 *
 * No kernel is made for it: the dot product of an output's gradient with an output row is node_dot, with output rows in
 * place of input rows; the gradient of an input is accumulate, with input rows in place of output rows; and that of a
 * row is accumulate, too, whose rows are tokens. A chunk of tokens goes at a time, a part at a time:
 *
 *     sort      the chunk's entries by row (layer/visits.h)
 *     slopes    round 1: each task an even share of the sorted entries, so that a row is fetched once for its tokens
 *     inputs    round 2: each task an even share of the tokens,
 *     weights            then every so many-th row; of many tasks, some columns of it
 */
#include "layer/gradients.h"

#include "layer/size.h"

#include <string.h>

enum {
    LEAST_BLOCK = 16,    /* tokens whose inputs stay in L2 */
    LEAST_COLUMNS = 64,  /* of a task's share */
    MOST_ROW_SHARES = 4, /* unless columns are too few */
};

static const uint32_t ONLY = 0; /* the number of a token or row that goes alone */
static const float ZERO = 0.0f; /* a bias */

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
static void dot_row(const struct fff_backward *backward, uint32_t row, size_t count, const uint32_t *tokens,
                    float *dots, float *upstream) {
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
static void slopes_of(const struct fff_backward *backward, size_t first, size_t end, float *dots) {
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
static void input_gradients_of(const struct fff_backward *backward, size_t first, size_t end, unsigned char *slice) {
    const struct fff_visits *visits = &backward->visits;
    size_t per_token = visits->per_token, together = fff_max(FFF_GATHERED / per_token, 1);
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

/* A task's part of the weights' gradients: some columns of some rows, of a block of tokens. */
struct share {
    size_t first_token, end_token;
    size_t first_row, row_step; /* of those that were met, one in so many */
    size_t input_column, output_column;
    struct columns inputs, output_gradients;
    bool biases;      /* these, too */
    bool stream;      /* gradients that are written at once go past the caches */
    float *constants; /* room for a float a token */
};

/* The first of a row's entries whose token is not below this one. */
static size_t first_entry_of(const struct fff_visits *visits, size_t row, size_t token) {
    size_t first = visits->starts[row], end = visits->starts[row + 1];
    while (first < end) {
        size_t middle = first + (end - first) / 2;
        if (visits->tokens[middle] < token) {
            first = middle + 1;
        } else {
            end = middle;
        }
    }
    return first;
}

/* The tokens of the block that have met a row. */
struct meeting {
    size_t row, at, count; /* sorted entries */
};

/* The first of the share's rows from `row` on, before `end`, that any have met; if there is none, one not before. */
static struct meeting next_meeting(const struct fff_visits *visits, const struct share *share, size_t row, size_t end) {
    bool all = share->first_token == 0 && share->end_token == visits->token_count;
    struct meeting meeting = {.row = row};
    for (; meeting.row < end; meeting.row += share->row_step) {
        meeting.at = all ? visits->starts[meeting.row] : first_entry_of(visits, meeting.row, share->first_token);
        size_t behind = all ? visits->starts[meeting.row + 1] : first_entry_of(visits, meeting.row, share->end_token);
        meeting.count = behind - meeting.at;
        if (meeting.count > 0) {
            break;
        }
    }
    return meeting;
}

static void fetch_gradients(const struct share *share, const fff_gradients *to, size_t place) {
    if (to->input_weights.data != NULL) {
        fff_fetch_l2(to->input_weights.data + place * to->input_weights.stride + share->input_column,
                     share->inputs.count * sizeof(float));
    }
    if (to->output_weights.data != NULL) {
        fff_fetch_l2(to->output_weights.data + place * to->output_weights.stride + share->output_column,
                     share->output_gradients.count * sizeof(float));
    }
}

/* Of that row's neuron. */
static void weight_gradient(const struct fff_backward *backward, const struct share *share,
                            const struct meeting *meeting) {
    const struct fff_visits *visits = &backward->visits;
    const fff_gradients *to = backward->gradients;
    size_t row = meeting->row, at = meeting->at, count = meeting->count, place = backward->places[row];
    const uint32_t *tokens = visits->tokens + at;
    unsigned write = at > visits->starts[row] ? FFF_WRITE_CONTINUE : backward->write, whole = write;
    if (share->stream && write == 0 && at + count == visits->starts[row + 1]) {
        whole = FFF_WRITE_STREAM;
    }
    if (to->biases != NULL && share->biases) {
        float sum = (write & FFF_WRITE_CONTINUE) != 0 ? to->biases[place] : 0.0f;
        for (size_t i = 0; i < count; i++) {
            sum += backward->slopes[at + i];
        }
        to->biases[place] = sum;
    }
    if (to->input_weights.data != NULL) {
        add_tokens(&share->inputs, count, tokens, backward->slopes + at, whole,
                   to->input_weights.data + place * to->input_weights.stride + share->input_column);
    }
    if (to->output_weights.data != NULL) {
        add_tokens(&share->output_gradients, count, tokens, backward->activations + at, whole,
                   to->output_weights.data + place * to->output_weights.stride + share->output_column);
    }
    size_t width = backward->part->leaves.width;
    if (to->leaf_output_biases.data != NULL && width > 0 && fff_row_of_visit(visits, row) % width == 0) {
        for (size_t i = 0; i < count; i++) {
            share->constants[i] = backward->part->factor;
        }
        add_tokens(&share->output_gradients, count, tokens, share->constants, write,
                   to->leaf_output_biases.data + place / width * to->leaf_output_biases.stride + share->output_column);
    }
}

/* The output bias's: all tokens' output gradients, in their order. */
static void bias_gradient(const struct fff_backward *backward, const struct share *share, uint32_t *tokens) {
    for (size_t first = 0, count; first < backward->visits.token_count; first += count) {
        count = fff_min(backward->visits.token_count - first, FFF_GATHERED);
        for (size_t i = 0; i < count; i++) {
            tokens[i] = (uint32_t)(first + i);
            share->constants[i] = 1.0f;
        }
        add_tokens(&share->output_gradients, count, tokens, share->constants, FFF_WRITE_CONTINUE,
                   backward->gradients->output_bias + share->output_column);
    }
}

/* ---- In which order rows take their turn -------------------------------------------------------
 *
 * So that tokens stay in L2 from row to row, and a row's gradient is written once, if that can be. The upper levels'
 * rows are few, and all tokens meet them: a block of tokens at a time. The lower ones go subtree by subtree, or leaf by
 * leaf, each level by level: there the tokens are the same few all the time. If they are more than a block, routes
 * being skewed, they go block by block as well. Blocks are in the order of tokens, so that no sum depends on them.
 */

/* A token's input and output gradient; a neuron's gradients. */
static size_t bytes_of_a_row(const fff_layer *layer) {
    return fff_max(layer->input_width + layer->output_width, 1) * sizeof(float);
}

/* Tokens whose inputs and output gradients take half of L2. */
static size_t block_of(const struct fff_backward *backward) {
    return fff_max(backward->part->l2_bytes / 2 / bytes_of_a_row(backward->layer), LEAST_BLOCK);
}

/* In how many blocks so many tokens go. */
static size_t blocks_of(const struct fff_backward *backward, size_t tokens) {
    return tokens == 0 ? 1 : (tokens - 1) / block_of(backward) + 1;
}

/* Some rows of those that were met, one after another. */
struct span {
    size_t first, end;
};

/* The first of those that were met whose number is not below this one. */
static size_t first_row_from(const struct fff_visits *visits, size_t number) {
    size_t first = 0, end = visits->row_count;
    while (first < end) {
        size_t middle = first + (end - first) / 2;
        if (fff_row_of_visit(visits, middle) < number) {
            first = middle + 1;
        } else {
            end = middle;
        }
    }
    return first;
}

/* Those with numbers from `first` to `end`. */
static struct span span_of(const struct fff_visits *visits, size_t first, size_t end) {
    return (struct span){first_row_from(visits, first), first_row_from(visits, end)};
}

/* The share's rows of a span, of its block of tokens. */
static void gradients_of_span(const struct fff_backward *backward, const struct share *share, struct span span) {
    const struct fff_visits *visits = &backward->visits;
    size_t step = share->row_step, first = span.first + (share->first_row + step - span.first % step) % step;
    struct meeting now = next_meeting(visits, share, first, span.end), next;
    for (; now.row < span.end; now = next) {
        next = next_meeting(visits, share, now.row + step, span.end);
        if (next.row < span.end && !share->stream) {
            fetch_gradients(share, backward->gradients, backward->places[next.row]);
        }
        weight_gradient(backward, share, &now);
    }
}

/* Some spans' rows, which so many tokens meet. */
static void gradients_of_group(const struct fff_backward *backward, struct share *share, const struct span *spans,
                               size_t count, size_t tokens) {
    size_t blocks = blocks_of(backward, tokens);
    for (size_t block = 0; block < blocks; block++) {
        share->first_token = fff_share_start(backward->visits.token_count, blocks, block);
        share->end_token = fff_share_start(backward->visits.token_count, blocks, block + 1);
        for (size_t i = 0; i < count; i++) {
            gradients_of_span(backward, share, spans[i]);
        }
    }
}

/* How many tokens meet the first of a span's rows. */
static size_t tokens_of(const struct fff_visits *visits, struct span span) {
    return span.first < span.end ? visits->starts[span.first + 1] - visits->starts[span.first] : 0;
}

/* The subtrees of a tree whose roots are of level `top`. */
static void gradients_of_subtrees(const struct fff_backward *backward, struct share *share, size_t tree, size_t top) {
    const struct fff_trees *trees = &backward->part->trees;
    size_t root = tree * trees->node_count;
    for (size_t subtree = 0; subtree < (size_t)1 << top; subtree++) {
        struct span levels[FFF_MAX_DEPTH + 1];
        size_t count = 0, tokens = 0;
        for (size_t level = top; level < trees->level_count; level++) {
            size_t wide = (size_t)1 << (level - top), first = root + ((size_t)1 << level) - 1 + subtree * wide;
            levels[count] = span_of(&backward->visits, first, first + wide);
            tokens = fff_max(tokens, tokens_of(&backward->visits, levels[count]));
            count++;
        }
        gradients_of_group(backward, share, levels, count, tokens);
    }
}

/* Whether subtrees are worth it, from level `top` on, by what is read and written: each tree then meets all tokens
 * twice, and each gradient is written once. Block by block, all trees together meet them once, but a row's gradient is
 * read and written again for each block that has met it. */
static bool subtrees_pay(const struct fff_backward *backward, size_t top) {
    const struct fff_visits *visits = &backward->visits;
    size_t blocks = blocks_of(backward, visits->token_count), again = 0;
    if (blocks == 1 || top == backward->part->trees.level_count) {
        return false;
    }
    for (size_t row = 0; row < visits->row_count; row++) {
        again += fff_min(visits->starts[row + 1] - visits->starts[row], blocks) - 1;
    }
    return (2 * backward->part->trees.tree_count - 1) * visits->token_count < 2 * again;
}

/* All rows of a part of path sums. */
static void gradients_of_trees(const struct fff_backward *backward, struct share *share) {
    const struct fff_visits *visits = &backward->visits;
    const struct fff_trees *trees = &backward->part->trees;
    size_t top = 0; /* the level of subtrees whose tokens are a block, if routes are even */
    while (top < trees->level_count && visits->token_count >> top > block_of(backward)) {
        top++;
    }
    if (!subtrees_pay(backward, top)) {
        const struct span all = {0, visits->row_count};
        gradients_of_group(backward, share, &all, 1, visits->token_count);
        return;
    }
    for (size_t tree = 0; tree < trees->tree_count; tree++) {
        size_t root = tree * trees->node_count;
        const struct span upper = span_of(visits, root, root + ((size_t)1 << top) - 1);
        gradients_of_group(backward, share, &upper, 1, visits->token_count);
        gradients_of_subtrees(backward, share, tree, top);
    }
}

/* All rows of a part of leaves. */
static void gradients_of_leaves(const struct fff_backward *backward, struct share *share) {
    const struct fff_visits *visits = &backward->visits;
    size_t width = backward->part->leaves.width;
    for (struct span leaf = {0, 0}; leaf.first < visits->row_count; leaf.first = leaf.end) {
        size_t number = fff_row_of_visit(visits, leaf.first) / width;
        while (leaf.end < visits->row_count && fff_row_of_visit(visits, leaf.end) / width == number) {
            leaf.end++;
        }
        gradients_of_group(backward, share, &leaf, 1, tokens_of(visits, leaf));
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
    struct share share = {
        .first_row = first, .row_step = down, .biases = column == 0, .constants = (float *)(void *)slice};
    share.inputs = share_of_columns(backward, backward->input, backward->input_stride, layer->input_width, across,
                                    column, &share.input_column);
    share.output_gradients = share_of_columns(backward, backward->output_gradient, backward->output_gradient_stride,
                                              layer->output_width, across, column, &share.output_column);
    /* Listed rows that do not fit L2: nobody finds them there afterwards, and to be written they need not be read. */
    share.stream = backward->write == 0 && visits->row_count > backward->part->l2_bytes / bytes_of_a_row(layer);
    (backward->part->leaves.width > 0 ? gradients_of_leaves : gradients_of_trees)(backward, &share);
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
    size_t first = fff_share_start(backward->visits.count, backward->tasks, index);
    size_t end = fff_share_start(backward->visits.count, backward->tasks, index + 1);
    if (first < end) {
        slopes_of(backward, first, end, (float *)(void *)slice_of(backward, index));
    }
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
