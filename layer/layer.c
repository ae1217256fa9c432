/* Making a layer: check the description, then pack the weights. */
#include "layer/layer.h"

#include "dispatch/dispatch.h"
#include "kernels/toolbox.h"
#include "layer/plan.h"
#include "layer/size.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    CACHE_LINE = 64,
    HUGE_PAGE = 2 << 20,
    PACK_TILE = 16, /* rows and columns of a tile when weights are packed: a cache line each way */
};

/* ---- Memory ---------------------------------------------------------------------------------- */

/* Large layers ask for 2 MB pages: a 25 MB layer is 6144 small pages, far beyond a TLB's reach. */
static void *allocate_from_c_library(void *context, size_t size, size_t alignment) {
    (void)context;
    void *memory;
    if (posix_memalign(&memory, alignment, size) != 0) {
        return NULL;
    }
#ifdef MADV_HUGEPAGE
    if (alignment >= HUGE_PAGE) {
        (void)madvise(memory, size, MADV_HUGEPAGE); /* advice: refusal changes nothing but speed */
    }
#endif
    return memory;
}

static void release_to_c_library(void *context, void *memory, size_t size) {
    (void)context;
    (void)size;
    free(memory);
}

/* The size of the second-level cache, within reason; a guess where the system does not tell. */
static size_t l2_bytes(void) {
    long bytes = 0;
#ifdef _SC_LEVEL2_CACHE_SIZE
    bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
    if (bytes <= 0) {
        return 1 << 20;
    }
    return fff_min(fff_max((size_t)bytes, 256 << 10), 8 << 20);
}

static const fff_allocator c_library = {allocate_from_c_library, release_to_c_library, NULL};

/* ---- Checks ---------------------------------------------------------------------------------- */

/* The first version's descriptor ended with `allocator`. */
#define FIRST_DESC_SIZE (offsetof(fff_layer_desc, allocator) + sizeof(const fff_allocator *))
#define LARGEST_DESC_SIZE 4096 /* no version will need more; a larger size is an uninitialised one */

/* A descriptor of any version, as this one sees it. A shorter one than ours (an older program) leaves the rest zero,
 * and must have a size that some version had; a longer one is refused unless what we do not know is zero. */
static fff_status read_desc(const fff_layer_desc *given, fff_layer_desc *desc) {
    if (given == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    size_t size = given->struct_size;
    if ((size != FIRST_DESC_SIZE && size < sizeof *desc) || size > LARGEST_DESC_SIZE) {
        return FFF_ERROR_STRUCT_SIZE;
    }
    for (size_t i = sizeof *desc; i < size; i++) {
        if (((const unsigned char *)given)[i] != 0) {
            return FFF_ERROR_STRUCT_SIZE;
        }
    }
    memset(desc, 0, sizeof *desc);
    memcpy(desc, given, fff_min(size, sizeof *desc));
    return FFF_OK;
}

static fff_status check_weights(const fff_weights *weights, size_t rows, size_t columns) {
    if (weights->data == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    if ((uintptr_t)weights->data % sizeof(float) != 0) {
        return FFF_ERROR_ALIGNMENT;
    }
    size_t bytes, unused;
    if (!fff_size_extent(rows, weights->node_stride, columns, weights->column_stride, sizeof(float), &bytes) ||
        !fff_size_add((uintptr_t)weights->data, bytes, &unused)) {
        return FFF_ERROR_OVERFLOW;
    }
    /* No two elements may be the same: whole rows step over each other, or whole columns do. The
     * products fit: each is at most the extent plus a stride's worth of it. */
    size_t row_span = rows > 1 ? weights->node_stride : SIZE_MAX;
    size_t column_span = columns > 1 ? weights->column_stride : SIZE_MAX;
    bool node_major = column_span > 0 && (rows == 1 || row_span > (columns - 1) * weights->column_stride);
    bool column_major = row_span > 0 && (columns == 1 || column_span > (rows - 1) * weights->node_stride);
    return node_major || column_major ? FFF_OK : FFF_ERROR_STRIDE;
}

static fff_status check_desc(const fff_layer_desc *desc) {
    if (desc->input_width == 0 || desc->output_width == 0 || desc->trees == 0 || desc->depth > FFF_MAX_DEPTH) {
        return FFF_ERROR_SHAPE;
    }
    if ((unsigned)desc->activation >= FFF_ACTIVATION_COUNT || (unsigned)desc->routing > FFF_ROUTING_GREATER_EQUAL ||
        desc->weight_type != FFF_WEIGHT_F32 || (unsigned)desc->sleef > FFF_SLEEF_ANY) {
        return FFF_ERROR_OPTION;
    }
    size_t rows;
    if (!fff_size_multiply(desc->trees, fff_nodes_per_tree(desc->depth), &rows) || rows > UINT32_MAX) {
        return FFF_ERROR_OVERFLOW;
    }
    fff_status status = check_weights(&desc->input_weights, rows, desc->input_width);
    if (status == FFF_OK) {
        status = check_weights(&desc->output_weights, rows, desc->output_width);
    }
    if (status == FFF_OK && (uintptr_t)desc->biases % sizeof(float) != 0) {
        status = FFF_ERROR_ALIGNMENT;
    }
    if (status == FFF_OK && desc->allocator != NULL &&
        (desc->allocator->allocate == NULL || desc->allocator->release == NULL)) {
        status = FFF_ERROR_NULL_POINTER;
    }
    return status;
}

/* ---- Packing --------------------------------------------------------------------------------- */

enum {
    PAGE_FLOATS = 1024, /* 4 KB, after which the sets of a first-level cache repeat */
    SKEW = 2 * FFF_LINE_FLOATS,
};

/* Where things lie in a layer's memory, in floats. */
struct packing {
    size_t rows, output_offset, row_stride, biases_offset;
    size_t alignment, bytes;
};

/* A row, input weights and output weights side by side. One that is no longer than a cache line does not cross one: its
 * stride is a power of two, and nothing lies between the two parts. In longer rows each part begins with a line. */
static bool lay_out_row(const fff_layer_desc *desc, struct packing *packing) {
    size_t both, output_padded;
    if (!fff_size_add(desc->input_width, desc->output_width, &both)) {
        return false;
    }
    if (both <= FFF_LINE_FLOATS) {
        packing->output_offset = desc->input_width;
        for (packing->row_stride = 2; packing->row_stride < both;) {
            packing->row_stride *= 2;
        }
        return true;
    }
    if (!fff_size_round_up(desc->input_width, FFF_LINE_FLOATS, &packing->output_offset) ||
        !fff_size_round_up(desc->output_width, FFF_LINE_FLOATS, &output_padded) ||
        !fff_size_add(packing->output_offset, output_padded, &packing->row_stride)) {
        return false;
    }
    /* Rows that all began at the same place of a page would drive each other's columns out of the nearest caches. */
    size_t skew = packing->row_stride % PAGE_FLOATS == 0 ? SKEW : 0;
    return fff_size_add(packing->row_stride, skew, &packing->row_stride);
}

/* All of it: rows, biases, and what kernels may read behind the last row. */
static bool lay_out(const fff_layer_desc *desc, struct packing *packing) {
    size_t floats;
    packing->rows = desc->trees * fff_nodes_per_tree(desc->depth);
    if (!lay_out_row(desc, packing) ||
        !fff_size_multiply(packing->rows, packing->row_stride, &packing->biases_offset) ||
        !fff_size_add(packing->biases_offset, packing->rows, &floats) ||
        !fff_size_add(floats, FFF_PARTIAL_SUMS, &floats) ||
        !fff_size_multiply(floats, sizeof(float), &packing->bytes)) {
        return false;
    }
    packing->alignment = packing->bytes >= HUGE_PAGE ? HUGE_PAGE : CACHE_LINE;
    return fff_size_round_up(packing->bytes, packing->alignment, &packing->bytes) && packing->bytes <= PTRDIFF_MAX;
}

/* Copies a strided matrix into rows `stride` apart; tile by tile, so that a transposing copy uses
 * each cache line it touches whole. The padding is already zero. */
static void pack(float *packed, size_t stride, const fff_weights *weights, size_t rows, size_t columns) {
    const float *data = weights->data;
    for (size_t row0 = 0; row0 < rows; row0 += PACK_TILE) {
        for (size_t column0 = 0; column0 < columns; column0 += PACK_TILE) {
            for (size_t row = row0; row < row0 + PACK_TILE && row < rows; row++) {
                for (size_t column = column0; column < column0 + PACK_TILE && column < columns; column++) {
                    packed[row * stride + column] = data[row * weights->node_stride + column * weights->column_stride];
                }
            }
        }
    }
}

/* ---- The public functions -------------------------------------------------------------------- */

size_t fff_nodes_per_tree(size_t depth) {
    return depth <= FFF_MAX_DEPTH ? ((size_t)2 << depth) - 1 : 0;
}

fff_status fff_layer_create(const fff_layer_desc *given, fff_layer **layer) {
    if (layer == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    fff_layer_desc desc;
    fff_isa isa;
    struct packing packing;
    fff_status status = read_desc(given, &desc);
    if (status == FFF_OK) {
        status = check_desc(&desc);
    }
    if (status == FFF_OK) {
        status = fff_isa_choose(desc.isa, &isa);
    }
    if (status == FFF_OK && desc.sleef == FFF_SLEEF_RECORDED) {
        status = fff_sleef_check_activation(isa, desc.activation);
    }
    if (status != FFF_OK) {
        return status;
    }
    if (!lay_out(&desc, &packing)) {
        return FFF_ERROR_OVERFLOW;
    }

    fff_allocator allocator = desc.allocator != NULL ? *desc.allocator : c_library;
    fff_layer *made = allocator.allocate(allocator.context, sizeof *made, CACHE_LINE);
    if (made == NULL) {
        return FFF_ERROR_OUT_OF_MEMORY;
    }
    float *memory = allocator.allocate(allocator.context, packing.bytes, packing.alignment);
    if (memory == NULL) {
        allocator.release(allocator.context, made, sizeof *made);
        return FFF_ERROR_OUT_OF_MEMORY;
    }
    memset(memory, 0, packing.bytes);
    pack(memory, packing.row_stride, &desc.input_weights, packing.rows, desc.input_width);
    pack(memory + packing.output_offset, packing.row_stride, &desc.output_weights, packing.rows, desc.output_width);
    if (desc.biases != NULL) {
        memcpy(memory + packing.biases_offset, desc.biases, packing.rows * sizeof(float));
    }
    *made = (fff_layer){
        .trees =
            {
                .input_rows = memory,
                .output_rows = memory + packing.output_offset,
                .biases = memory + packing.biases_offset,
                .row_stride = packing.row_stride,
                .input_width = desc.input_width,
                .output_width = desc.output_width,
                .tree_count = desc.trees,
                .level_count = desc.depth + 1,
                .node_count = fff_nodes_per_tree(desc.depth),
                .threshold = desc.routing == FFF_ROUTING_GREATER ? FFF_THRESHOLD_GREATER : FFF_THRESHOLD_GREATER_EQUAL,
            },
        .kernels = fff_kernels_of(isa),
        .activation = desc.activation,
        .isa = isa,
        .l2_bytes = l2_bytes(),
        .path_length = desc.trees * (desc.depth + 1), /* at most the number of rows */
        .memory_size = packing.bytes,
        .memory = memory,
        .allocator = allocator,
    };
    fff_plan_layer(made);
    *layer = made;
    return FFF_OK;
}

void fff_layer_destroy(fff_layer *layer) {
    if (layer == NULL) {
        return;
    }
    fff_allocator allocator = layer->allocator;
    allocator.release(allocator.context, layer->memory, layer->memory_size);
    allocator.release(allocator.context, layer, sizeof *layer);
}

fff_isa fff_layer_isa(const fff_layer *layer) {
    return layer != NULL ? layer->isa : FFF_ISA_AUTO;
}

size_t fff_layer_path_length(const fff_layer *layer) {
    return layer != NULL ? layer->path_length : 0;
}

size_t fff_layer_memory(const fff_layer *layer) {
    return layer != NULL ? layer->memory_size + sizeof *layer : 0;
}
