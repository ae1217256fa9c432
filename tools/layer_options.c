#include "tools/layer_options.h"

#include <string.h>

/* The type whose name is the first `length` characters. */
static bool find_type(const char *name, size_t length, fff_weight_choice *choice) {
    for (int type = 0; type < FFF_WEIGHT_TYPE_COUNT; type++) {
        const char *known = fff_weight_type_name((fff_weight_type)type);
        if (strlen(known) == length && memcmp(known, name, length) == 0) {
            *choice = (fff_weight_choice)(type + 1);
            return true;
        }
    }
    return false;
}

bool read_store(const struct command *command, const char *text, bool exact_routes, struct store *store) {
    *store = (struct store){.routes = exact_routes ? FFF_ROUTES_EXACT : FFF_ROUTES_STORED};
    if (text == NULL) {
        return true;
    }
    size_t first = strcspn(text, "+");
    const char *second = text[first] == '+' ? text + first + 1 : text;
    if (find_type(text, first, &store->input) && find_type(second, strlen(second), &store->output)) {
        return true;
    }
    char names[64] = "";
    for (int type = 0; type < FFF_WEIGHT_TYPE_COUNT; type++) {
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", type > 0 ? ", " : "",
                 fff_weight_type_name((fff_weight_type)type));
    }
    usage_error(command, "option '--store': '%s' is none of %s, nor two of them with a + between", text, names);
    return false;
}

const char *describe_store(fff_weight_type input, fff_weight_type output, bool exact_routes, char text[STORE_TEXT]) {
    bool both = input != output;
    snprintf(text, STORE_TEXT, "%s%s%s%s", fff_weight_type_name(input), both ? "+" : "",
             both ? fff_weight_type_name(output) : "", exact_routes ? ", exact routes" : "");
    return text;
}

const char *describe_refusal(fff_status status, const fff_bad_weight *bad, char text[REFUSAL_TEXT]) {
    static const char *const matrices[] = {"input", "output", "leaf"};
    const char *matrix = matrices[bad->of_output];
    if (status == FFF_ERROR_WEIGHT) {
        snprintf(text, REFUSAL_TEXT, "%s weights, row %zu, column %zu: %s", matrix, bad->row, bad->column,
                 fff_status_text(status));
    } else if (status == FFF_ERROR_SCALE) {
        snprintf(text, REFUSAL_TEXT, "scales of the %s weights, row %zu: %s", matrix, bad->row,
                 fff_status_text(status));
    } else {
        snprintf(text, REFUSAL_TEXT, "%s", fff_status_text(status));
    }
    return text;
}
