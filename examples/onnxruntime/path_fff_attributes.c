/* A node's attributes, and how errors are worded. */
#include "path_fff.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

OrtStatus *path_fff_fail(const path_fff_kernel *kernel, OrtErrorCode code, const char *format, ...) {
    char text[512];
    int length = snprintf(text, sizeof text, "fff:%s node '%s': ", kernel->kind->name, kernel->node);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + length, sizeof text - (size_t)length, format, arguments);
    va_end(arguments);
    return kernel->api->CreateStatus(code, text);
}

OrtStatus *path_fff_fail_status(const path_fff_kernel *kernel, const char *what, fff_status status) {
    return path_fff_fail(kernel, status == FFF_ERROR_OUT_OF_MEMORY ? ORT_FAIL : ORT_INVALID_ARGUMENT, "%s: %s", what,
                         fff_status_text(status));
}

/* Whether an attribute of that name is there, of whatever type. */
static int has_attribute(const OrtApi *api, const OrtKernelInfo *info, const char *name) {
    int64_t integer;
    float real;
    size_t size[3] = {0, 0, 0};
    OrtStatus *tries[] = {
        api->KernelInfoGetAttribute_int64(info, name, &integer),
        api->KernelInfoGetAttribute_float(info, name, &real),
        api->KernelInfoGetAttribute_string(info, name, NULL, &size[0]),
        api->KernelInfoGetAttributeArray_int64(info, name, NULL, &size[1]),
        api->KernelInfoGetAttributeArray_float(info, name, NULL, &size[2]),
    };
    int found = 0;
    for (size_t i = 0; i < sizeof tries / sizeof *tries; i++) {
        /* A missing list reads as an empty one in some versions. */
        found |= tries[i] == NULL && (i < 3 || size[i - 2] > 0);
        if (tries[i] != NULL)
            api->ReleaseStatus(tries[i]);
    }
    return found;
}

/* An integer from `low` to `high`; `fallback` where it is absent, unless that lies below `low`. */
static OrtStatus *read_integer(const path_fff_kernel *kernel, const OrtKernelInfo *info, const char *name, int64_t low,
                               int64_t high, int64_t fallback, size_t *out) {
    int64_t value = fallback;
    OrtStatus *status = kernel->api->KernelInfoGetAttribute_int64(info, name, &value);
    if (status != NULL) {
        kernel->api->ReleaseStatus(status);
        if (has_attribute(kernel->api, info, name))
            return path_fff_fail(kernel, ORT_INVALID_GRAPH, "attribute %s is no integer", name);
        if (fallback < low)
            return path_fff_fail(kernel, ORT_INVALID_GRAPH, "attribute %s is missing", name);
        value = fallback;
    }
    if (value < low || value > high)
        return path_fff_fail(kernel, ORT_INVALID_GRAPH, "attribute %s is %lld, not from %lld to %lld", name,
                             (long long)value, (long long)low, (long long)high);
    *out = (size_t)value;
    return NULL;
}

enum { MAX_STRING = 32 };

/* A string, or an empty one where what is there is too long, or no string; *found tells whether anything is. */
static void read_string(const path_fff_kernel *kernel, const OrtKernelInfo *info, const char *name,
                        char value[MAX_STRING], int *found) {
    size_t size = MAX_STRING;
    value[0] = '\0';
    *found = 1;
    OrtStatus *status = kernel->api->KernelInfoGetAttribute_string(info, name, value, &size);
    if (status != NULL) {
        kernel->api->ReleaseStatus(status);
        value[0] = '\0';
        *found = has_attribute(kernel->api, info, name);
    }
}

/* The index of a string in `names`; `fallback` where it is absent. */
static OrtStatus *read_choice(const path_fff_kernel *kernel, const OrtKernelInfo *info, const char *name,
                              const char *const *names, size_t count, size_t fallback, size_t *out) {
    char value[MAX_STRING], all[100] = "";
    int found;
    *out = fallback;
    read_string(kernel, info, name, value, &found);
    if (!found)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(value, names[i]) == 0) {
            *out = i;
            return NULL;
        }
        strncat(all, i == 0 ? "" : ", ", sizeof all - strlen(all) - 1);
        strncat(all, names[i], sizeof all - strlen(all) - 1);
    }
    return path_fff_fail(kernel, ORT_INVALID_GRAPH, "attribute %s is '%s', not one of the strings %s", name, value,
                         all);
}

/* The type whose name is the first `length` characters; FFF_CHOOSE_DEFAULT if none is. */
static fff_weight_choice find_type(const char *name, size_t length) {
    for (int type = 0; type < FFF_WEIGHT_TYPE_COUNT; type++) {
        const char *known = fff_weight_type_name((fff_weight_type)type);
        if (strlen(known) == length && memcmp(known, name, length) == 0)
            return (fff_weight_choice)(type + 1);
    }
    return FFF_CHOOSE_DEFAULT;
}

/* "bf16", or "bf16+i8" for input and output rows; as given where it is absent. */
static OrtStatus *read_store(path_fff_kernel *kernel, const OrtKernelInfo *info) {
    char value[MAX_STRING], all[64] = "";
    int found;
    read_string(kernel, info, "store", value, &found);
    if (!found)
        return NULL;
    size_t first = strcspn(value, "+");
    const char *second = value[first] == '+' ? value + first + 1 : value;
    kernel->store_input = find_type(value, first);
    kernel->store_output = find_type(second, strlen(second));
    if (kernel->store_input != FFF_CHOOSE_DEFAULT && kernel->store_output != FFF_CHOOSE_DEFAULT)
        return NULL;
    for (int type = 0; type < FFF_WEIGHT_TYPE_COUNT; type++) {
        strncat(all, type == 0 ? "" : ", ", sizeof all - strlen(all) - 1);
        strncat(all, fff_weight_type_name((fff_weight_type)type), sizeof all - strlen(all) - 1);
    }
    return path_fff_fail(kernel, ORT_INVALID_GRAPH,
                         "attribute store is '%s', not one of the strings %s, nor two of them with a + between", value,
                         all);
}

OrtStatus *path_fff_read_attributes(path_fff_kernel *kernel, const OrtKernelInfo *info) {
    static const char *const activations[] = {"gelu", "gelu_tanh", "relu", "relu2", "silu", "identity"};
    static const char *const routings[] = {">", ">="};
    _Static_assert(sizeof activations / sizeof *activations == FFF_ACTIVATION_COUNT, "in the order of fff_activation");
    const operator_kind *kind = kernel->kind;
    size_t activation = 0, routing = 0, exact_routes = 0;
    TRY(read_integer(kernel, info, "depth", 0, FFF_MAX_DEPTH, -1, &kernel->depth));
    TRY(read_integer(kernel, info, "trees", 1, UINT32_MAX, 1, &kernel->trees));
    TRY(read_choice(kernel, info, "activation", activations, FFF_ACTIVATION_COUNT, kind->activation, &activation));
    TRY(read_choice(kernel, info, "routing", routings, 2, kind->routing, &routing));
    TRY(read_store(kernel, info));
    TRY(read_integer(kernel, info, "exact_routes", 0, 1, 0, &exact_routes));
    kernel->routes = exact_routes ? FFF_ROUTES_EXACT : FFF_ROUTES_STORED;
    kernel->activation = (fff_activation)activation;
    kernel->routing = (fff_routing)routing;
    return NULL;
}
