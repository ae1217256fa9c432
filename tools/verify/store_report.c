/* What was found of a layer that stores narrow rows. */
#include "tools/layer_options.h"
#include "tools/verify/report.h"

#include <math.h>
#include <stdio.h>

/* The differences' root mean square, and the largest one, of the float32 outputs' root mean square. */
static double difference_rms(const struct store_verdict *store) {
    return store->difference_squares > 0 ? sqrt(store->difference_squares / store->output_squares) : 0;
}

static double difference_worst(const struct store_verdict *store) {
    double output_rms = sqrt(store->output_squares / (double)store->values);
    return store->difference_worst > 0 ? store->difference_worst / output_rms : 0;
}

/* What is compared bit for bit: logits not of int8 input rows, outputs not of int8 output rows. */
static bool routes_compared(const struct store_verdict *store) {
    return store->input != FFF_WEIGHT_I8 && !store->exact_routes;
}

static bool outputs_compared(const struct store_verdict *store) {
    return store->output != FFF_WEIGHT_I8;
}

void print_store(const struct store_verdict *store) {
    char text[STORE_TEXT];
    if (!stores_narrow(store)) {
        return;
    }
    printf("  stored: %s", describe_store(store->input, store->output, store->exact_routes, text));
    if (routes_compared(store) || outputs_compared(store)) {
        fputs("; differing from the float32 layer of the rounded weights: ", stdout);
    }
    if (routes_compared(store)) {
        printf("%zu nodes and logits%s", store->differing_routes, outputs_compared(store) ? ", " : "");
    }
    if (outputs_compared(store)) {
        printf("%zu outputs", store->differing_outputs);
    }
    printf("\n  from float32: %zu of %zu tokens take another route, %zu of %zu nodes differ; outputs differ by %.2g "
           "(rms) and %.2g (worst) of their rms\n",
           store->tokens_apart, store->tokens, store->nodes_apart, store->nodes, difference_rms(store),
           difference_worst(store));
    if (store->exact_routes) {
        printf("  exact routes: %zu of %zu logits that decide are the float32 row's, bit for bit, and not the stored "
               "one's",
               store->float32_rows, store->deciding);
        if (store->other_logits > 0) {
            printf("; %zu logits are neither's", store->other_logits);
        }
        puts("");
    }
    if (store->exact_routes && store->nodes_apart > 0) {
        puts("  why: routes are to be exact, and are not the float32 layer's");
    }
}

static json_t *count_or_null(bool known, size_t count) {
    return known ? json_integer((json_int_t)count) : json_null();
}

json_t *store_json(const struct store_verdict *store) {
    if (!stores_narrow(store)) {
        return json_null();
    }
    return json_pack("{s:s, s:s, s:b, s:b, s:o, s:o, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o}", "input",
                     fff_weight_type_name(store->input), "output", fff_weight_type_name(store->output), "exact_routes",
                     store->exact_routes, "ok", store_verdict_holds(store), "differing_routes",
                     count_or_null(routes_compared(store), store->differing_routes), "differing_outputs",
                     count_or_null(outputs_compared(store), store->differing_outputs), "tokens",
                     (json_int_t)store->tokens, "tokens_apart", (json_int_t)store->tokens_apart, "nodes",
                     (json_int_t)store->nodes, "nodes_apart", (json_int_t)store->nodes_apart, "difference_rms",
                     json_number(difference_rms(store)), "difference_worst", json_number(difference_worst(store)),
                     "deciding", count_or_null(store->exact_routes, store->deciding), "float32_rows",
                     count_or_null(store->exact_routes, store->float32_rows), "other_logits",
                     count_or_null(store->exact_routes, store->other_logits));
}
