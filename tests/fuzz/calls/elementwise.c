/* fff_activate(), fff_differentiate(), fff_adam_rows(). */
#include "tests/fuzz/calls/calls.h"

#include <math.h>

/* fff_activate(), fff_differentiate(); results may be where their logits are. */
void call_activation(struct choices *choices, const struct subject *subject, bool derivative) {
    struct call call = {.free = subject->free};
    size_t count = choose_near(choices, choose(choices, 100));
    fff_activation activation = (fff_activation)choose(choices, FFF_ACTIVATION_COUNT + 1);
    fff_sleef sleef = (fff_sleef)(choose(choices, 8) == 1 ? choose(choices, 4) : FFF_SLEEF_RECORDED);
    const float *logits = add_list(choices, &call, sizeof(float), count, false), *upstream = NULL;
    if (derivative) {
        upstream = add_list(choices, &call, sizeof(float), count, false);
    }
    float *results;
    size_t in_place = choose(choices, 3);
    if (in_place == 0 || count == 0) {
        results = add_list(choices, &call, sizeof(float), count, true);
    } else {
        const float *same = derivative && in_place == 2 ? upstream : logits;
        results = (float *)(uintptr_t)same;
        call.matrices[call.count] = call.matrices[0];
        call.matrices[call.count++].data = same;
    }
    for (size_t i = 0; i + 1 < call.count && !call.refused; i++) {
        if (call.matrices[i].data == results) {
            call.matrices[i].rows = 0; /* in place */
        }
    }
    call.matrices[call.count - 1].written = true;
    if (count == 0) {
        call.count = 0;
        call.refused = false;
    }
    call.refused = call.refused || activation >= FFF_ACTIVATION_COUNT || sleef > FFF_SLEEF_ANY;
    if (!is_tried(subject, &call, false)) {
        return;
    }
    fff_status status = derivative
                            ? fff_differentiate(FFF_ISA_GENERIC, activation, sleef, count, logits, upstream, results)
                            : fff_activate(FFF_ISA_GENERIC, activation, sleef, count, logits, results);
    check(&call, derivative ? "differentiate" : "activate", status);
}

/* 1e300 is no float, as a rate or an epsilon. */
static double choose_number(struct choices *choices, double usual, bool below_1, bool *refused) {
    const double bad[] = {-1e-9, NAN, INFINITY, -INFINITY};
    switch (choose(choices, 32)) {
    case 1: *refused = true; return bad[choose(choices, 4)];
    case 2: return 0.0;
    case 3: *refused = *refused || below_1; return 1.0;
    case 4: *refused = true; return 1e300;
    default: return usual;
    }
}

void call_adam(struct choices *choices, const struct subject *subject) {
    struct call call = {.free = subject->free};
    bool refused = false;
    fff_adam settings = {.struct_size = choose_near(choices, sizeof settings)};
    settings.learning_rate = choose_number(choices, 0.01, false, &refused);
    settings.beta1 = choose_number(choices, 0.9, true, &refused);
    settings.beta2 = choose_number(choices, 0.999, true, &refused);
    settings.epsilon = choose_number(choices, 1e-8, false, &refused);
    settings.weight_decay = choose(choices, 2) == 0 ? 0.0 : 0.1;
    settings.step = choose_near(choices, 1);
    if (settings.struct_size > sizeof settings && settings.struct_size <= 4096) {
        return; /* what is behind the settings is not theirs */
    }
    refused = refused || settings.struct_size != sizeof settings || settings.step == 0;
    size_t limit = choose_near(choices, 1 + choose(choices, 10)), width = choose_near(choices, 1 + choose(choices, 12));
    size_t count = choose_near(choices, choose(choices, 4)), strides[4];
    float *weights = add_rows(choices, &call, sizeof(float), limit, width, true, &strides[0]);
    float *first = add_rows(choices, &call, sizeof(float), limit, width, true, &strides[1]);
    float *second = add_rows(choices, &call, sizeof(float), limit, width, true, &strides[2]);
    const float *gradients = add_rows(choices, &call, sizeof(float), count, width, false, &strides[3]);
    const uint32_t *rows = NULL;
    size_t list = call.count;
    if (choose(choices, 2) == 1) {
        bool before_it = call.refused;
        rows = add_list(choices, &call, sizeof(uint32_t), count, false);
        if (rows == NULL) {
            call.count = list;
            call.refused = before_it;
        }
    }
    if (count == 0) {
        call.count = 0;
        call.refused = false;
    } else {
        call.refused = call.refused || width == 0 || count > limit;
    }
    call.refused = call.refused || refused;
    if (call.count > list && !call.refused && matrix_is_there(&call.matrices[list])) {
        for (size_t i = 0; i < count; i++) {
            row_of(&call.matrices[list], 0)[i] = (uint32_t)(i + (limit - count) * choose(choices, 2));
        }
        spoil(choices, &call.matrices[list]);
        call.wrong_numbers = !rows_are_below(&call.matrices[list], limit, true);
    }
    if (!is_tried(subject, &call, false)) {
        return;
    }
    fff_status status = fff_adam_rows(FFF_ISA_GENERIC, &settings, count, rows, limit, width, gradients, strides[3],
                                      weights, strides[0], first, strides[1], second, strides[2]);
    check(&call, "adam_rows", status);
}
