/* Why a layer file's results do not hold. */
#include "tools/verify/report.h"

void add_sentence(json_t *why, json_t *sentence) {
    json_array_append_new(why, sentence);
}

void list_isas(const struct verdict *verdicts, size_t count, char *list) {
    size_t used = verdicts[0].isa != FFF_ISA_GENERIC ? (size_t)snprintf(list, LONGEST_LIST, "generic") : 0;
    for (size_t i = 0; i < count && used < LONGEST_LIST; i++) {
        used += (size_t)snprintf(list + used, LONGEST_LIST - used, "%s%s", used > 0 ? ", " : "",
                                 fff_isa_name(verdicts[i].isa));
    }
}

static void say_output(const struct file_comparison *file, json_t *why) {
    const struct value_difference *output = &file->output;
    add_sentence(why,
                 json_sprintf("the file's results are wrong for %zu of %zu tokens", file->tokens_wrong, file->tokens));
    if (output->count > 0) {
        add_sentence(
            why, json_sprintf("the largest difference of their outputs is %.3g, at token %zu, column %zu: %.9g here, "
                              "%.9g in the file",
                              output->difference, output->row, output->column, output->here, output->there));
    }
}

static void say_route(const struct file_comparison *file, json_t *why) {
    const struct route_difference *route = &file->route;
    char decided[256] = "; every path begins at node 0";
    if (route->parent >= 0 && (route->there - 1) / 2 != route->parent) {
        snprintf(decided, sizeof decided, ", which is no child of node %lld", (long long)route->parent);
    } else if (route->parent >= 0) {
        snprintf(decided, sizeof decided,
                 "; the logit of node %lld decides, %.9g here, %.9g exactly, to within %.2g: %s",
                 (long long)route->parent, route->logit, route->exact, route->bound, route->tie ? "a tie" : "no tie");
    }
    add_sentence(why,
                 json_sprintf("%zu of %zu tokens take another way than the file's path, %s token %zu, in tree %zu at "
                              "level %zu: node %lld here, node %lld in the file%s",
                              route->tokens, file->tokens, route->tie ? "all at ties, first" : "first", route->token,
                              route->tree, route->level, (long long)route->here, (long long)route->there, decided));
}

bool kernels_hold(const struct verdict *verdicts, size_t count) {
    bool hold = true;
    for (size_t i = 0; i < count; i++) {
        hold = hold && verdicts[i].differing_values == 0 && agreement_holds(&verdicts[i].dense);
    }
    return hold;
}

static bool same_bits(const struct verdict *verdicts, size_t count) {
    bool same = true;
    for (size_t i = 0; i < count; i++) {
        same = same && verdicts[i].differing_values == 0;
    }
    return same;
}

json_t *layer_file_why(const struct verdict *verdicts, size_t count) {
    json_t *why = json_array();
    const struct verdict *v = &verdicts[0];
    char isas[LONGEST_LIST] = "";
    list_isas(verdicts, count, isas);
    if (v->file.tokens_wrong > 0) {
        say_output(&v->file, why);
    }
    if (v->file.route.tokens > 0) {
        say_route(&v->file, why);
    }
    if (v->file.tokens_wrong == 0) {
        return why;
    }
    if (kernels_hold(verdicts, count)) {
        add_sentence(
            why, json_sprintf("the kernels agree among themselves, bit for bit (%s), and with the exact results within "
                              "the proven bound: the file differs, not the library",
                              isas));
    } else if (same_bits(verdicts, count)) {
        add_sentence(why,
                     json_sprintf("the kernels agree among themselves, bit for bit (%s), but do not all lie within a "
                                  "proven bound",
                                  isas));
    } else {
        add_sentence(why, json_sprintf("the kernels do not agree among themselves (%s): the library is wrong", isas));
    }
    return why;
}
