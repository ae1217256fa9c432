#include "layer/pack.h"

#include "kernels/half.h"
#include "kernels/toolbox.h"
#include "layer/size.h"

#include <math.h>

enum {
    CACHE_LINE = 64,
    PAGE = 4096, /* after which the sets of a first-level cache repeat */
    SKEW = 2 * CACHE_LINE,
    TILE = 16, /* rows and columns that are packed at once: a cache line of floats each way */
};

/* ---- Where things lie ------------------------------------------------------------------------ */

/* Rows that all began at the same place of a page would drive each other's columns out of the nearest caches. */
static bool skew(size_t *stride) {
    return fff_size_add(*stride, *stride % PAGE == 0 ? SKEW : 0, stride);
}

/* A row, input weights and output weights side by side. One that is no longer than a cache line does not cross one: its
 * stride is a power of two, and nothing lies between the two parts. In longer rows each part begins with a line. */
static bool lay_out_row(size_t input_bytes, size_t output_bytes, size_t alignment, struct fff_row_layout *rows) {
    size_t both, output_padded;
    if (!fff_size_round_up(input_bytes, alignment, &rows->output_offset) ||
        !fff_size_add(rows->output_offset, output_bytes, &both)) {
        return false;
    }
    if (both <= CACHE_LINE) {
        for (rows->stride = 1; rows->stride < both;) {
            rows->stride *= 2;
        }
        return true;
    }
    return fff_size_round_up(input_bytes, CACHE_LINE, &rows->output_offset) &&
           fff_size_round_up(output_bytes, CACHE_LINE, &output_padded) &&
           fff_size_add(rows->output_offset, output_padded, &rows->stride) && skew(&rows->stride);
}

/* Bytes of a row of a type; false if they overflow. */
static bool row_bytes(fff_weight_type type, size_t width, size_t *bytes) {
    size_t most;
    if (!fff_size_add(width, FFF_ROW_STEP, &most) || !fff_size_multiply(most, sizeof(float), &most)) {
        return false;
    }
    *bytes = fff_row_bytes(type, width);
    return true;
}

/* Room for `count` elements at *end; the place goes to *start. */
static bool reserve(size_t *end, size_t count, size_t element, size_t *start) {
    size_t bytes;
    return fff_size_round_up(*end, CACHE_LINE, start) && fff_size_multiply(count, element, &bytes) &&
           fff_size_add(*start, bytes, end);
}

/* Whether rows of one type hold all numbers of another. */
static bool holds(fff_weight_type type, fff_weight_type given) {
    return type == FFF_WEIGHT_F32 || type == given;
}

/* Rows of one kind, with output weights or without, and what there is one of a row. */
static bool lay_out_rows(const fff_layer_desc *desc, const struct fff_packing *packing, bool outputs, size_t count,
                         size_t *end, struct fff_row_layout *rows) {
    size_t input_bytes, output_bytes = 0;
    bool integers = packing->input_type == FFF_WEIGHT_I8;
    bool integer_outputs = outputs && packing->output_type == FFF_WEIGHT_I8;
    rows->rows = count;
    return row_bytes(packing->input_type, desc->input_width, &input_bytes) &&
           (!outputs || row_bytes(packing->output_type, desc->output_width, &output_bytes)) &&
           lay_out_row(input_bytes, output_bytes, fff_element_bytes(packing->output_type), rows) &&
           reserve(end, count, rows->stride, &rows->start) && reserve(end, count, sizeof(float), &rows->biases) &&
           reserve(end, integers ? count : 0, sizeof(float), &rows->input_scales) &&
           reserve(end, integers ? count : 0, sizeof(int64_t), &rows->input_sums) &&
           reserve(end, integer_outputs ? count : 0, sizeof(float), &rows->output_scales);
}

/* What is kept of a part that borrows its rows: biases that were not given are zeros. */
static bool lay_out_borrowed(const fff_layer_desc *desc, size_t *end, struct fff_packing *packing) {
    size_t nodes = fff_node_rows(desc), neurons = desc->leaf_width > 0 ? fff_neuron_rows(desc) : 0;
    packing->nodes.rows = nodes;
    packing->neurons.rows = neurons;
    return reserve(end, desc->biases == NULL ? nodes : 0, sizeof(float), &packing->nodes.biases) &&
           reserve(end, desc->leaf_biases == NULL ? neurons : 0, sizeof(float), &packing->neurons.biases) &&
           reserve(end, desc->thresholds != NULL ? nodes : 0, sizeof(float), &packing->thresholds);
}

bool fff_lay_out(const fff_layer_desc *desc, size_t *end, struct fff_packing *packing) {
    bool leaves = desc->leaf_width > 0;
    fff_weight_type input_type = fff_chosen(desc->store_input, desc->weight_type);
    *packing = (struct fff_packing){
        .input_type = input_type,
        .output_type = fff_chosen(desc->store_output, fff_given_output_type(desc)),
        .exact = desc->routes == FFF_ROUTES_EXACT && desc->depth > 0 &&
                 (!holds(input_type, desc->weight_type) || input_type == FFF_WEIGHT_I8),
        .borrowed = desc->borrow != 0,
    };
    if (packing->borrowed) {
        return lay_out_borrowed(desc, end, packing);
    }
    size_t rows = fff_node_rows(desc), exact_bytes, bias_bytes, leaf_count = desc->trees << desc->depth;
    if (!lay_out_rows(desc, packing, !leaves, rows, end, &packing->nodes) ||
        !reserve(end, desc->thresholds != NULL ? rows : 0, sizeof(float), &packing->thresholds) ||
        (leaves && !lay_out_rows(desc, packing, true, fff_neuron_rows(desc), end, &packing->neurons))) {
        return false;
    }
    if (desc->leaf_output_biases.data != NULL &&
        (!row_bytes(FFF_WEIGHT_F32, desc->output_width, &bias_bytes) ||
         !fff_size_round_up(bias_bytes, CACHE_LINE, &packing->leaf_bias_stride) || !skew(&packing->leaf_bias_stride) ||
         !reserve(end, leaf_count, packing->leaf_bias_stride, &packing->leaf_biases))) {
        return false;
    }
    return !packing->exact ||
           (row_bytes(FFF_WEIGHT_F32, desc->input_width, &exact_bytes) &&
            fff_size_round_up(exact_bytes, CACHE_LINE, &packing->exact_stride) && skew(&packing->exact_stride) &&
            reserve(end, rows, sizeof(float), &packing->errors) && reserve(end, rows, sizeof(float), &packing->norms) &&
            reserve(end, rows, packing->exact_stride, &packing->exact_rows));
}

/* ---- From one type to another ----------------------------------------------------------------- */

/* A caller's matrix. */
struct given {
    const fff_weights *weights;
    fff_weight_type type;
    const float *scales; /* of int8 rows */
    size_t rows, columns;
    size_t leaf_rows, leaf_stride; /* rows of so many lie further apart: this many elements */
    int of;                        /* as fff_bad_weight has it */
    fff_bad_weight *bad;
};

static fff_status refuse(const struct given *given, fff_status status, size_t row, size_t column) {
    if (given->bad != NULL) {
        *given->bad = (fff_bad_weight){given->of, row, column};
    }
    return status;
}

/* `count` weights of a row from a column on: of int8 the integers. */
static void read_run(const struct given *given, size_t row, size_t column, size_t count, float *run) {
    const unsigned char *data = given->weights->data;
    size_t element = fff_element_bytes(given->type), stride = given->weights->column_stride * element;
    size_t first = row / given->leaf_rows * given->leaf_stride + row % given->leaf_rows * given->weights->node_stride;
    const unsigned char *at = data + first * element + column * stride;
    switch (given->type) {
    case FFF_WEIGHT_F32:
        if (stride == sizeof(float)) {
            memcpy(run, at, count * sizeof *run);
            return;
        }
        for (size_t i = 0; i < count; i++) {
            memcpy(&run[i], at + i * stride, sizeof run[i]);
        }
        return;
    case FFF_WEIGHT_BF16:
        for (size_t i = 0; i < count; i++) {
            run[i] = fff_widen_bf16(fff_load_u16(at + i * stride));
        }
        return;
    case FFF_WEIGHT_F16:
        for (size_t i = 0; i < count; i++) {
            run[i] = fff_widen_f16(fff_load_u16(at + i * stride));
        }
        return;
    case FFF_WEIGHT_I8:
        for (size_t i = 0; i < count; i++) {
            run[i] = (float)(int8_t)at[i * stride];
        }
        return;
    }
}

/* The same as float32 numbers. */
static void read_floats(const struct given *given, size_t row, size_t column, size_t count, float *run) {
    read_run(given, row, column, count, run);
    for (size_t i = 0; i < count && given->scales != NULL; i++) {
        run[i] *= given->scales[row];
    }
}

/* Stores a run of float16; returns how many fit, all or those before one that does not. */
static size_t write_f16(unsigned char *to, size_t count, const float *run) {
    for (size_t i = 0; i < count; i++) {
        uint16_t half = fff_round_f16(run[i]);
        if ((half & 0x7fff) == 0x7c00 && !isinf(run[i])) {
            return i;
        }
        memcpy(to + 2 * i, &half, sizeof half);
    }
    return count;
}

/* A matrix on its way: where its rows go, and of int8 rows the scales and, if wanted, the sums of their integers. */
struct transfer {
    struct given given;
    fff_weight_type type;
    unsigned char *to;
    size_t stride;
    float *scales;
    int64_t *sums;
    bool integer_sums; /* int8 output rows whose columns are placed for them */
};

/* Stores a run of a row, of int8 the integers; returns how many of them fit. */
static size_t write_run(const struct transfer *transfer, size_t row, size_t column, size_t count, const float *run) {
    unsigned char *to = transfer->to + row * transfer->stride;
    switch (transfer->type) {
    case FFF_WEIGHT_F32: memcpy(to + 4 * column, run, count * sizeof *run); return count;
    case FFF_WEIGHT_BF16:
        for (size_t i = 0; i < count; i++) {
            uint16_t half = fff_round_bf16(run[i]);
            memcpy(to + 2 * fff_bf16_place(column + i), &half, sizeof half);
        }
        return count;
    case FFF_WEIGHT_F16: return write_f16(to + 2 * column, count, run);
    case FFF_WEIGHT_I8:
        for (size_t i = 0; i < count; i++) {
            struct fff_integer_place place = {column + i, 0};
            if (transfer->integer_sums) {
                place = fff_integer_place(column + i, transfer->given.columns);
            }
            to[place.byte] = (unsigned char)((int)run[i] + place.offset);
        }
        return count;
    }
    return 0;
}

/* The first row and column of a tile, and how far it goes. */
struct tile {
    size_t row, rows, column, columns;
};

/* Calls `each` tile by tile, so that a transposing copy uses each cache line it touches whole. */
static fff_status for_tiles(const struct given *given, fff_status (*each)(void *context, const struct tile *tile),
                            void *context) {
    fff_status status = FFF_OK;
    for (size_t row = 0; row < given->rows && status == FFF_OK; row += TILE) {
        for (size_t column = 0; column < given->columns && status == FFF_OK; column += TILE) {
            const struct tile tile = {row, fff_min(given->rows - row, TILE), column,
                                      fff_min(given->columns - column, TILE)};
            status = each(context, &tile);
        }
    }
    return status;
}

/* The largest size in each row, which int8 rows want first. */
static fff_status find_largest(void *context, const struct tile *tile) {
    struct transfer *transfer = context;
    float run[TILE];
    for (size_t row = tile->row; row < tile->row + tile->rows; row++) {
        read_floats(&transfer->given, row, tile->column, tile->columns, run);
        for (size_t i = 0; i < tile->columns; i++) {
            if (!isfinite(run[i])) {
                return refuse(&transfer->given, FFF_ERROR_WEIGHT, row, tile->column + i);
            }
            transfer->scales[row] = fmaxf(transfer->scales[row], fabsf(run[i]));
        }
    }
    return FFF_OK;
}

/* To float types. */
static fff_status pack_floats(void *context, const struct tile *tile) {
    const struct transfer *transfer = context;
    float run[TILE];
    for (size_t row = tile->row; row < tile->row + tile->rows; row++) {
        read_floats(&transfer->given, row, tile->column, tile->columns, run);
        size_t fit = write_run(transfer, row, tile->column, tile->columns, run);
        if (fit < tile->columns) {
            return refuse(&transfer->given, FFF_ERROR_WEIGHT, row, tile->column + fit);
        }
    }
    return FFF_OK;
}

/* To int8, `scales` being the largest sizes. */
static fff_status pack_quantised(void *context, const struct tile *tile) {
    const struct transfer *transfer = context;
    float run[TILE];
    for (size_t row = tile->row; row < tile->row + tile->rows; row++) {
        float factor = fff_make_quantiser(transfer->scales[row], FFF_QUANTISED_MOST).factor;
        read_floats(&transfer->given, row, tile->column, tile->columns, run);
        for (size_t i = 0; i < tile->columns; i++) {
            run[i] = rintf(run[i] * factor);
            if (transfer->sums != NULL) {
                transfer->sums[row] += (int64_t)run[i];
            }
        }
        (void)write_run(transfer, row, tile->column, tile->columns, run);
    }
    return FFF_OK;
}

/* Whether a matrix has output rows. Of those, one whose integers are all 0 has scale 0, whatever was given: it adds
 * nothing, and is to have no part in the unit of a tree's factors. */
static bool is_of_outputs(const struct given *given) {
    return given->of == 1;
}

/* Integers as they are. */
static fff_status pack_integers(void *context, const struct tile *tile) {
    const struct transfer *transfer = context;
    float run[TILE];
    for (size_t row = tile->row; row < tile->row + tile->rows; row++) {
        read_run(&transfer->given, row, tile->column, tile->columns, run);
        bool scaled = !is_of_outputs(&transfer->given);
        for (size_t i = 0; i < tile->columns; i++) {
            scaled = scaled || run[i] != 0.0f;
            if (transfer->sums != NULL) {
                transfer->sums[row] += (int64_t)run[i];
            }
        }
        if (scaled) {
            transfer->scales[row] = transfer->given.scales[row];
        }
        (void)write_run(transfer, row, tile->column, tile->columns, run);
    }
    return FFF_OK;
}

/* Given int8 weights: -128 is none of their integers. */
static fff_status check_integers(void *context, const struct tile *tile) {
    const struct transfer *transfer = context;
    float run[TILE];
    for (size_t row = tile->row; row < tile->row + tile->rows; row++) {
        read_run(&transfer->given, row, tile->column, tile->columns, run);
        for (size_t i = 0; i < tile->columns; i++) {
            if (run[i] < -FFF_QUANTISED_MOST) {
                return refuse(&transfer->given, FFF_ERROR_WEIGHT, row, tile->column + i);
            }
        }
    }
    return FFF_OK;
}

static fff_status check_given(struct transfer *transfer) {
    const struct given *given = &transfer->given;
    if (given->type != FFF_WEIGHT_I8) {
        return given->scales == NULL ? FFF_OK : FFF_ERROR_OPTION;
    }
    if (given->scales == NULL) {
        return refuse(given, FFF_ERROR_SCALE, 0, 0);
    }
    for (size_t row = 0; row < given->rows; row++) {
        if (!(given->scales[row] > 0.0f && isfinite(given->scales[row]))) {
            return refuse(given, FFF_ERROR_SCALE, row, 0);
        }
    }
    return for_tiles(given, check_integers, transfer);
}

/* A whole matrix. The memory that it goes to is zero. */
static fff_status transfer_all(struct transfer *transfer) {
    const struct given *given = &transfer->given;
    if (transfer->type != FFF_WEIGHT_I8) {
        return for_tiles(given, pack_floats, transfer);
    }
    if (given->type == FFF_WEIGHT_I8) {
        return for_tiles(given, pack_integers, transfer);
    }
    fff_status status = for_tiles(given, find_largest, transfer);
    if (status == FFF_OK) {
        status = for_tiles(given, pack_quantised, transfer);
    }
    for (size_t row = 0; row < given->rows && status == FFF_OK; row++) {
        float largest = transfer->scales[row];
        bool zeros = is_of_outputs(given) && largest < FFF_LEAST_QUANTISED;
        transfer->scales[row] = zeros ? 0.0f : fff_make_quantiser(largest, FFF_QUANTISED_MOST).scale;
    }
    return status;
}

/* ---- A part's memory -------------------------------------------------------------------------- */

static float *floats_at(unsigned char *memory, size_t place) {
    return (float *)(void *)(memory + place);
}

/* The caller's input weights of nodes or of neurons. */
static struct transfer input_transfer(const fff_layer_desc *desc, const struct fff_packing *packing,
                                      const struct fff_row_layout *rows, unsigned char *memory) {
    bool neurons = rows == &packing->neurons;
    size_t leaf_stride = desc->leaf_stride > 0 ? desc->leaf_stride : desc->leaf_width * desc->leaf_weights.node_stride;
    return (struct transfer){
        .given = {.weights = neurons ? &desc->leaf_weights : &desc->input_weights,
                  .type = desc->weight_type,
                  .scales = neurons ? desc->leaf_scales : desc->input_scales,
                  .rows = rows->rows,
                  .columns = desc->input_width,
                  .leaf_rows = neurons ? desc->leaf_width : rows->rows,
                  .leaf_stride = leaf_stride,
                  .of = neurons ? 2 : 0,
                  .bad = desc->bad_weight},
        .type = packing->input_type,
        .to = memory + rows->start,
        .stride = rows->stride,
        .scales = floats_at(memory, rows->input_scales),
        .sums = packing->input_type == FFF_WEIGHT_I8 ? (int64_t *)(void *)(memory + rows->input_sums) : NULL,
    };
}

/* Output weights, of whichever rows are neurons. */
static struct transfer output_transfer(const fff_layer_desc *desc, const struct fff_packing *packing,
                                       const struct fff_row_layout *rows, unsigned char *memory) {
    return (struct transfer){
        .given = {.weights = &desc->output_weights,
                  .type = fff_given_output_type(desc),
                  .scales = desc->output_scales,
                  .rows = rows->rows,
                  .columns = desc->output_width,
                  .leaf_rows = rows->rows,
                  .of = 1,
                  .bad = desc->bad_weight},
        .type = packing->output_type,
        .to = memory + rows->start + rows->output_offset,
        .stride = rows->stride,
        .scales = floats_at(memory, rows->output_scales),
        .integer_sums =
            packing->output_type == FFF_WEIGHT_I8 && rows == &packing->nodes && fff_has_integer_sums(desc->depth + 1),
    };
}

static fff_status transfer_weights(const fff_layer_desc *desc, const struct fff_packing *packing,
                                   unsigned char *memory) {
    bool leaves = desc->leaf_width > 0;
    const struct fff_row_layout *neurons = leaves ? &packing->neurons : &packing->nodes;
    struct transfer all[] = {
        input_transfer(desc, packing, &packing->nodes, memory),
        output_transfer(desc, packing, neurons, memory),
        input_transfer(desc, packing, &packing->neurons, memory),
    };
    fff_status status = FFF_OK;
    for (int checked = 0; checked < 2; checked++) { /* all are checked before the first is copied */
        for (size_t i = 0; i < sizeof all / sizeof *all && status == FFF_OK; i++) {
            if (all[i].given.rows > 0) {
                status = checked ? transfer_all(&all[i]) : check_given(&all[i]);
            }
        }
    }
    return status;
}

/* Where rows of a caller's matrix begin, and how many bytes they are apart: of a single row, its stride means nothing.
 */
static void borrow_rows(const fff_weights *weights, size_t stride, size_t rows, size_t bytes,
                        const unsigned char **start, size_t *row_stride) {
    *start = weights->data;
    *row_stride = rows > 1 ? stride * sizeof(float) : bytes;
}

/* Puts the caller's rows and biases in the place of packed ones. */
static void borrow_matrices(const fff_layer_desc *desc, bool neurons, struct fff_trees *trees) {
    const fff_weights *inputs = neurons ? &desc->leaf_weights : &desc->input_weights;
    const float *biases = neurons ? desc->leaf_biases : desc->biases;
    bool apart = neurons && desc->leaf_width == 1 && desc->leaf_stride > 0; /* leaves, which are rows */
    size_t rows = trees->tree_count, stride = apart ? desc->leaf_stride : inputs->node_stride;
    borrow_rows(inputs, stride, rows, trees->input_bytes, &trees->input_rows, &trees->row_stride);
    trees->output_rows = trees->input_rows; /* of nodes that only route, nothing */
    trees->output_row_stride = trees->row_stride;
    if (trees->output_bytes > 0) {
        borrow_rows(&desc->output_weights, desc->output_weights.node_stride, rows, trees->output_bytes,
                    &trees->output_rows, &trees->output_row_stride);
    }
    trees->biases = biases != NULL ? biases : trees->biases;
}

/* Rows as kernels see them: those of nodes, and, as trees of a single node, neurons. */
static struct fff_trees rows_of(const fff_layer_desc *desc, const struct fff_packing *packing,
                                const struct fff_row_layout *rows, bool outputs, unsigned char *memory) {
    bool integers = packing->input_type == FFF_WEIGHT_I8;
    struct fff_trees trees = {
        .input_rows = memory + rows->start,
        .output_rows = memory + rows->start + rows->output_offset,
        .biases = floats_at(memory, rows->biases),
        .input_scales = integers ? floats_at(memory, rows->input_scales) : NULL,
        .input_sums = integers ? (const int64_t *)(const void *)(memory + rows->input_sums) : NULL,
        .row_stride = rows->stride,
        .output_row_stride = rows->stride,
        .input_bytes = fff_row_bytes(packing->input_type, desc->input_width),
        .output_bytes = outputs ? fff_row_bytes(packing->output_type, desc->output_width) : 0,
        .input_width = desc->input_width,
        .output_width = desc->output_width,
        .tree_count = rows->rows,
        .level_count = 1,
        .node_count = 1,
        .threshold = desc->routing == FFF_ROUTING_GREATER ? FFF_THRESHOLD_GREATER : FFF_THRESHOLD_GREATER_EQUAL,
    };
    if (packing->borrowed && rows->rows > 0) {
        borrow_matrices(desc, rows == &packing->neurons, &trees);
    }
    return trees;
}

static void copy_floats(unsigned char *memory, size_t place, const float *floats, size_t count) {
    if (floats != NULL) {
        memcpy(memory + place, floats, count * sizeof *floats);
    }
}

/* The given thresholds, as what a logit must be above: no float lies between one and the next below. */
static void pack_thresholds(const fff_layer_desc *desc, size_t count, float *thresholds) {
    for (size_t i = 0; i < count; i++) {
        float given = desc->thresholds[i];
        thresholds[i] = desc->routing == FFF_ROUTING_GREATER ? given : nextafterf(given, -INFINITY);
    }
}

static void pack_leaves(const fff_layer_desc *desc, const struct fff_packing *packing, unsigned char *memory,
                        struct fff_leaves *leaves) {
    leaves->width = desc->leaf_width;
    leaves->count = (size_t)1 << desc->depth;
    leaves->neurons = rows_of(desc, packing, &packing->neurons, true, memory);
    const fff_weights *given = &desc->leaf_output_biases;
    if (given->data == NULL) {
        return;
    }
    leaves->bias_rows = memory + packing->leaf_biases;
    leaves->bias_stride = packing->leaf_bias_stride;
    size_t rows = desc->trees << desc->depth;
    if (packing->borrowed) {
        borrow_rows(given, given->node_stride, rows, fff_row_bytes(FFF_WEIGHT_F32, desc->output_width),
                    &leaves->bias_rows, &leaves->bias_stride);
        return;
    }
    for (size_t leaf = 0; leaf < rows; leaf++) {
        float *row = floats_at(memory, packing->leaf_biases + leaf * packing->leaf_bias_stride);
        for (size_t column = 0; column < desc->output_width; column++) {
            row[column] = ((const float *)given->data)[leaf * given->node_stride + column * given->column_stride];
        }
    }
}

/* The float32 rows of exact routes. */
static fff_status pack_exact(const fff_layer_desc *desc, const struct fff_packing *packing, unsigned char *memory,
                             struct fff_part *part) {
    struct transfer exact = input_transfer(desc, packing, &packing->nodes, memory);
    exact.type = FFF_WEIGHT_F32;
    exact.to = memory + packing->exact_rows;
    exact.stride = packing->exact_stride;
    part->exact = (struct fff_exact){
        .trees = part->trees,
        .node_dot = part->kernels->rows[FFF_WEIGHT_F32]->node_dot,
        .errors = floats_at(memory, packing->errors),
        .norms = floats_at(memory, packing->norms),
    };
    part->exact.trees.input_rows = exact.to;
    part->exact.trees.output_rows = NULL;
    part->exact.trees.row_stride = packing->exact_stride;
    part->exact.trees.input_bytes = fff_row_bytes(FFF_WEIGHT_F32, desc->input_width);
    return transfer_all(&exact);
}

static void choose_kernels(const struct fff_packing *packing, struct fff_part *part, size_t input_width,
                           size_t output_width) {
    const struct fff_kernels *kernels = part->kernels;
    part->input_type = packing->input_type;
    part->output_type = packing->output_type;
    part->borrowed = packing->borrowed;
    part->input_kernels = kernels->rows[part->input_type];
    part->output_kernels = kernels->rows[part->output_type];
    part->leaves.bias_kernels = kernels->rows[FFF_WEIGHT_F32];
    if (packing->borrowed) {
        part->input_kernels = fff_callers_kernels(kernels, input_width);
        part->output_kernels = part->leaves.bias_kernels = fff_callers_kernels(kernels, output_width);
    }
}

fff_status fff_pack(const fff_layer_desc *desc, const struct fff_packing *packing, unsigned char *memory,
                    struct fff_part *part) {
    bool leaves = desc->leaf_width > 0;
    const struct fff_row_layout *neurons = leaves ? &packing->neurons : &packing->nodes;
    if (!packing->borrowed) {
        fff_status status = transfer_weights(desc, packing, memory);
        if (status != FFF_OK) {
            return status;
        }
        copy_floats(memory, packing->nodes.biases, desc->biases, packing->nodes.rows);
        copy_floats(memory, packing->neurons.biases, desc->leaf_biases, packing->neurons.rows);
    }
    choose_kernels(packing, part, desc->input_width, desc->output_width);
    part->output_scales = packing->output_type == FFF_WEIGHT_I8 ? floats_at(memory, neurons->output_scales) : NULL;
    part->exact_routes = packing->exact;
    part->trees = rows_of(desc, packing, &packing->nodes, !leaves, memory);
    part->trees.tree_count = desc->trees;
    part->trees.level_count = leaves ? desc->depth : desc->depth + 1;
    part->trees.node_count = packing->nodes.rows / desc->trees;
    if (desc->thresholds != NULL) {
        float *thresholds = floats_at(memory, packing->thresholds);
        pack_thresholds(desc, packing->nodes.rows, thresholds);
        part->trees.thresholds = thresholds;
    }
    if (leaves) {
        pack_leaves(desc, packing, memory, &part->leaves);
    }
    return packing->exact ? pack_exact(desc, packing, memory, part) : FFF_OK;
}
