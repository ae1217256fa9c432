/* Options about layers that several commands have, each row of a table written once. Macros, since a row holds the
 * offset of its value in the command's own structure, whose fields are called isa, store and exact_routes. */
#ifndef FFF_TOOLS_LAYER_OPTIONS_H
#define FFF_TOOLS_LAYER_OPTIONS_H

#include "tools/files/layer_data.h"
#include "tools/options.h"

/* For read_isas(). */
#define ISAS_OPTION(request)                                                                                           \
    {                                                                                                                  \
        .name = "isa", .type = OPTION_TEXT, .argument = "NAME", .offset = offsetof(request, isa),                      \
        .text = "The instruction set: all (every one that is usable here; unless told), auto, generic, x86_avx2, "     \
                "x86_avx512 or arm_neon."                                                                              \
    }

/* For read_store(). */
#define STORE_OPTION(request)                                                                                          \
    {                                                                                                                  \
        .name = "store", .type = OPTION_TEXT, .argument = "TYPE", .offset = offsetof(request, store),                  \
        .text =                                                                                                        \
            "What the kernels store a layer's weights as: f32, bf16, f16 or i8; or two of them, of input and output "  \
            "weights, as in bf16+i8. Unless told, as they are given."                                                  \
    }
#define EXACT_ROUTES_OPTION(request)                                                                                   \
    {                                                                                                                  \
        .name = "exact-routes", .offset = offsetof(request, exact_routes),                                             \
        .text = "Keep float32 input weights beside narrower ones, so that every route is that of the float32 layer."   \
    }

/* What these two say; `text` NULL: nothing. False after usage_error(). */
bool read_store(const struct command *command, const char *text, bool exact_routes, struct store *store);

/* What a layer stores, in words: "bf16", "bf16+i8, exact routes". Returns `text`. */
enum { STORE_TEXT = 64 };
const char *describe_store(fff_weight_type input, fff_weight_type output, bool exact_routes, char text[STORE_TEXT]);

/* Why a layer could not be made; of FFF_ERROR_WEIGHT and FFF_ERROR_SCALE which weight it was. Returns `text`. */
enum { REFUSAL_TEXT = 256 };
const char *describe_refusal(fff_status status, const fff_bad_weight *bad, char text[REFUSAL_TEXT]);

#endif
