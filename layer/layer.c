/* Making a layer: check the description, then have the weights packed. */
#include "layer/layer.h"

#include "dispatch/dispatch.h"
#include "kernels/toolbox.h"
#include "layer/exact.h"
#include "layer/pack.h"
#include "layer/plan.h"
#include "layer/size.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { CACHE_LINE = 64 };

/* ---- Memory ---------------------------------------------------------------------------------- */

/* Large layers ask for 2 MB pages: a 25 MB layer is 6144 small pages, far beyond a TLB's reach. */
static void *allocate_from_c_library(void *context, size_t size, size_t alignment) {
    (void)context;
    void *memory;
    if (posix_memalign(&memory, alignment, size) != 0) {
        return NULL;
    }
#ifdef MADV_HUGEPAGE
    if (alignment >= FFF_HUGE_PAGE) {
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

/* The sizes of earlier versions' descriptors, which ended with `allocator` and with `sleef`, and what filled up its
 * word. */
#define FIRST_DESC_SIZE (offsetof(fff_layer_desc, allocator) + sizeof(const fff_allocator *))
#define SECOND_DESC_SIZE (FIRST_DESC_SIZE + sizeof(void *))
#define LARGEST_DESC_SIZE 4096 /* no version will need more; a larger size is an uninitialised one */

/* A descriptor of any version, as this one sees it. A shorter one than ours (an older program) leaves the rest zero,
 * and must have a size that some version had; a longer one is refused unless what we do not know is zero. */
static fff_status read_desc(const fff_layer_desc *given, fff_layer_desc *desc) {
    if (given == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    size_t size = given->struct_size;
    if ((size != FIRST_DESC_SIZE && size != SECOND_DESC_SIZE && size < sizeof *desc) || size > LARGEST_DESC_SIZE) {
        return FFF_ERROR_STRUCT_SIZE;
    }
    for (size_t i = sizeof *desc; i < size; i++) {
        if (((const unsigned char *)given)[i] != 0) {
            return FFF_ERROR_STRUCT_SIZE;
        }
    }
    /* What fills up a word behind an earlier version's last field may hold anything. */
    size_t known = size == SECOND_DESC_SIZE ? offsetof(fff_layer_desc, sleef) + sizeof desc->sleef : size;
    memset(desc, 0, sizeof *desc);
    memcpy(desc, given, fff_min(known, sizeof *desc));
    return FFF_OK;
}

static fff_status check_weights(const fff_weights *weights, fff_weight_type type, size_t rows, size_t columns) {
    size_t element = fff_element_bytes(type);
    if (weights->data == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    if ((uintptr_t)weights->data % element != 0) {
        return FFF_ERROR_ALIGNMENT;
    }
    size_t bytes, unused;
    if (!fff_size_extent(rows, weights->node_stride, columns, weights->column_stride, element, &bytes) ||
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
        (unsigned)desc->sleef > FFF_SLEEF_ANY || (unsigned)desc->weight_type >= FFF_WEIGHT_TYPE_COUNT ||
        (unsigned)desc->output_weight_type > FFF_CHOOSE_I8 || (unsigned)desc->store_input > FFF_CHOOSE_I8 ||
        (unsigned)desc->store_output > FFF_CHOOSE_I8 || (unsigned)desc->routes > FFF_ROUTES_EXACT) {
        return FFF_ERROR_OPTION;
    }
    size_t rows;
    if (!fff_size_multiply(desc->trees, fff_nodes_per_tree(desc->depth), &rows) || rows > UINT32_MAX) {
        return FFF_ERROR_OVERFLOW;
    }
    fff_status status = check_weights(&desc->input_weights, desc->weight_type, rows, desc->input_width);
    if (status == FFF_OK) {
        status = check_weights(&desc->output_weights, fff_given_output_type(desc), rows, desc->output_width);
    }
    if (status == FFF_OK &&
        ((uintptr_t)desc->biases | (uintptr_t)desc->input_scales | (uintptr_t)desc->output_scales) % sizeof(float) !=
            0) {
        status = FFF_ERROR_ALIGNMENT;
    }
    if (status == FFF_OK && desc->allocator != NULL &&
        (desc->allocator->allocate == NULL || desc->allocator->release == NULL)) {
        status = FFF_ERROR_NULL_POINTER;
    }
    return status;
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
    struct fff_packing packing;
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
    if (!fff_lay_out(&desc, &packing)) {
        return FFF_ERROR_OVERFLOW;
    }

    fff_allocator allocator = desc.allocator != NULL ? *desc.allocator : c_library;
    fff_layer *made = allocator.allocate(allocator.context, sizeof *made, CACHE_LINE);
    if (made == NULL) {
        return FFF_ERROR_OUT_OF_MEMORY;
    }
    void *memory = allocator.allocate(allocator.context, packing.bytes, packing.alignment);
    if (memory == NULL) {
        allocator.release(allocator.context, made, sizeof *made);
        return FFF_ERROR_OUT_OF_MEMORY;
    }
    *made = (fff_layer){
        .kernels = fff_kernels_of(isa),
        .activation = desc.activation,
        .isa = isa,
        .l2_bytes = l2_bytes(),
        .path_length = desc.trees * (desc.depth + 1), /* at most the number of rows */
        .memory_size = packing.bytes,
        .memory = memory,
        .allocator = allocator,
    };
    status = fff_pack(&desc, &packing, made);
    if (status != FFF_OK) {
        fff_layer_destroy(made);
        return status;
    }
    if (made->exact_routes) {
        fff_measure_rows(made);
    }
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

fff_weight_type fff_layer_input_type(const fff_layer *layer) {
    return layer != NULL ? layer->input_type : FFF_WEIGHT_F32;
}

fff_weight_type fff_layer_output_type(const fff_layer *layer) {
    return layer != NULL ? layer->output_type : FFF_WEIGHT_F32;
}

const char *fff_weight_type_name(fff_weight_type type) {
    static const char *const names[FFF_WEIGHT_TYPE_COUNT] = {"f32", "bf16", "f16", "i8"};
    return (unsigned)type < FFF_WEIGHT_TYPE_COUNT ? names[type] : NULL;
}
