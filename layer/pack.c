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
static bool lay_out_row(size_t input_bytes, size_t output_bytes, size_t alignment, struct fff_packing *packing) {
    size_t both, output_padded;
    if (!fff_size_round_up(input_bytes, alignment, &packing->output_offset) ||
        !fff_size_add(packing->output_offset, output_bytes, &both)) {
        return false;
    }
    if (both <= CACHE_LINE) {
        for (packing->row_stride = 1; packing->row_stride < both;) {
            packing->row_stride *= 2;
        }
        return true;
    }
    return fff_size_round_up(input_bytes, CACHE_LINE, &packing->output_offset) &&
           fff_size_round_up(output_bytes, CACHE_LINE, &output_padded) &&
           fff_size_add(packing->output_offset, output_padded, &packing->row_stride) && skew(&packing->row_stride);
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

bool fff_lay_out(const fff_layer_desc *desc, struct fff_packing *packing) {
    fff_weight_type input_type = fff_chosen(desc->store_input, desc->weight_type);
    fff_weight_type output_type = fff_chosen(desc->store_output, fff_given_output_type(desc));
    *packing = (struct fff_packing){
        .input_type = input_type,
        .output_type = output_type,
        .exact = desc->routes == FFF_ROUTES_EXACT && desc->depth > 0 &&
                 (!holds(input_type, desc->weight_type) || input_type == FFF_WEIGHT_I8),
        .rows = desc->trees * fff_nodes_per_tree(desc->depth),
    };
    size_t input_bytes, output_bytes, exact_bytes, end;
    if (!row_bytes(input_type, desc->input_width, &input_bytes) ||
        !row_bytes(output_type, desc->output_width, &output_bytes) ||
        !row_bytes(FFF_WEIGHT_F32, desc->input_width, &exact_bytes) ||
        !lay_out_row(input_bytes, output_bytes, fff_element_bytes(output_type), packing) ||
        !fff_size_multiply(packing->rows, packing->row_stride, &end) ||
        !reserve(&end, packing->rows, sizeof(float), &packing->biases) ||
        !reserve(&end, input_type == FFF_WEIGHT_I8 ? packing->rows : 0, sizeof(float), &packing->input_scales) ||
        !reserve(&end, input_type == FFF_WEIGHT_I8 ? packing->rows : 0, sizeof(int64_t), &packing->input_sums) ||
        !reserve(&end, output_type == FFF_WEIGHT_I8 ? packing->rows : 0, sizeof(float), &packing->output_scales)) {
        return false;
    }
    if (packing->exact &&
        (!fff_size_round_up(exact_bytes, CACHE_LINE, &packing->exact_stride) || !skew(&packing->exact_stride) ||
         !reserve(&end, packing->rows, sizeof(float), &packing->errors) ||
         !reserve(&end, packing->rows, sizeof(float), &packing->norms) ||
         !reserve(&end, packing->rows, packing->exact_stride, &packing->exact_rows))) {
        return false;
    }
    /* and what kernels may read behind the last row */
    if (!fff_size_add(end, FFF_ROW_STEP * sizeof(float), &packing->bytes)) {
        return false;
    }
    packing->alignment = packing->bytes >= FFF_HUGE_PAGE ? FFF_HUGE_PAGE : CACHE_LINE;
    return fff_size_round_up(packing->bytes, packing->alignment, &packing->bytes) && packing->bytes <= PTRDIFF_MAX;
}

/* ---- From one type to another ----------------------------------------------------------------- */

/* A caller's matrix. */
struct given {
    const fff_weights *weights;
    fff_weight_type type;
    const float *scales; /* of int8 rows */
    size_t rows, columns;
    bool of_output;
    fff_bad_weight *bad;
};

static fff_status refuse(const struct given *given, fff_status status, size_t row, size_t column) {
    if (given->bad != NULL) {
        *given->bad = (fff_bad_weight){given->of_output, row, column};
    }
    return status;
}

/* `count` weights of a row from a column on: of int8 the integers. */
static void read_run(const struct given *given, size_t row, size_t column, size_t count, float *run) {
    const unsigned char *data = given->weights->data;
    size_t element = fff_element_bytes(given->type), stride = given->weights->column_stride * element;
    const unsigned char *at = data + row * given->weights->node_stride * element + column * stride;
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

/* Integers as they are. */
static fff_status pack_integers(void *context, const struct tile *tile) {
    const struct transfer *transfer = context;
    float run[TILE];
    for (size_t row = tile->row; row < tile->row + tile->rows; row++) {
        read_run(&transfer->given, row, tile->column, tile->columns, run);
        for (size_t i = 0; i < tile->columns && transfer->sums != NULL; i++) {
            transfer->sums[row] += (int64_t)run[i];
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
        memcpy(transfer->scales, given->scales, given->rows * sizeof(float));
        return for_tiles(given, pack_integers, transfer);
    }
    fff_status status = for_tiles(given, find_largest, transfer);
    if (status == FFF_OK) {
        status = for_tiles(given, pack_quantised, transfer);
    }
    for (size_t row = 0; row < given->rows && status == FFF_OK; row++) {
        transfer->scales[row] = fff_make_quantiser(transfer->scales[row], FFF_QUANTISED_MOST).scale;
    }
    return status;
}

/* ---- A layer's memory ------------------------------------------------------------------------- */

fff_status fff_pack(const fff_layer_desc *desc, const struct fff_packing *packing, fff_layer *layer) {
    unsigned char *memory = layer->memory;
    memset(memory, 0, packing->bytes);
    float *biases = (float *)(void *)(memory + packing->biases);
    float *input_scales = (float *)(void *)(memory + packing->input_scales);
    int64_t *input_sums = (int64_t *)(void *)(memory + packing->input_sums);
    float *output_scales = (float *)(void *)(memory + packing->output_scales);
    struct transfer input = {
        .given = {&desc->input_weights, desc->weight_type, desc->input_scales, packing->rows, desc->input_width, false,
                  desc->bad_weight},
        .type = packing->input_type,
        .to = memory,
        .stride = packing->row_stride,
        .scales = input_scales,
        .sums = input_sums,
    };
    struct transfer output = {
        .given = {&desc->output_weights, fff_given_output_type(desc), desc->output_scales, packing->rows,
                  desc->output_width, true, desc->bad_weight},
        .type = packing->output_type,
        .to = memory + packing->output_offset,
        .stride = packing->row_stride,
        .scales = output_scales,
        .integer_sums = packing->output_type == FFF_WEIGHT_I8 && fff_has_integer_sums(desc->depth + 1),
    };
    fff_status status = check_given(&input);
    status = status == FFF_OK ? check_given(&output) : status;
    status = status == FFF_OK ? transfer_all(&input) : status;
    status = status == FFF_OK ? transfer_all(&output) : status;
    if (status != FFF_OK) {
        return status;
    }
    if (desc->biases != NULL) {
        memcpy(biases, desc->biases, packing->rows * sizeof(float));
    }
    layer->input_type = packing->input_type;
    layer->output_type = packing->output_type;
    layer->output_scales = packing->output_type == FFF_WEIGHT_I8 ? output_scales : NULL;
    layer->exact_routes = packing->exact;
    layer->trees = (struct fff_trees){
        .input_rows = memory,
        .output_rows = memory + packing->output_offset,
        .biases = biases,
        .input_scales = packing->input_type == FFF_WEIGHT_I8 ? input_scales : NULL,
        .input_sums = packing->input_type == FFF_WEIGHT_I8 ? input_sums : NULL,
        .row_stride = packing->row_stride,
        .input_bytes = fff_row_bytes(packing->input_type, desc->input_width),
        .output_bytes = fff_row_bytes(packing->output_type, desc->output_width),
        .input_width = desc->input_width,
        .output_width = desc->output_width,
        .tree_count = desc->trees,
        .level_count = desc->depth + 1,
        .node_count = fff_nodes_per_tree(desc->depth),
        .threshold = desc->routing == FFF_ROUTING_GREATER ? FFF_THRESHOLD_GREATER : FFF_THRESHOLD_GREATER_EQUAL,
    };
    if (!packing->exact) {
        return FFF_OK;
    }
    struct transfer exact = input;
    exact.type = FFF_WEIGHT_F32;
    exact.to = memory + packing->exact_rows;
    exact.stride = packing->exact_stride;
    layer->exact = (struct fff_exact){
        .trees = layer->trees,
        .node_dot = layer->kernels->rows[FFF_WEIGHT_F32]->node_dot,
        .errors = (const float *)(const void *)(memory + packing->errors),
        .norms = (const float *)(const void *)(memory + packing->norms),
    };
    layer->exact.trees.input_rows = exact.to;
    layer->exact.trees.output_rows = NULL;
    layer->exact.trees.row_stride = packing->exact_stride;
    layer->exact.trees.input_bytes = fff_row_bytes(FFF_WEIGHT_F32, desc->input_width);
    return transfer_all(&exact);
}
