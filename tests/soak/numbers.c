/* The functions that need no layer: fff_activate(), fff_differentiate() and fff_adam_rows(). */
#include "tests/soak/mode.h"
#include "tests/soak/run.h"

#include <stdlib.h>

/* ---- Activations ---------------------------------------------------------------------------------- */

enum { MOST_LOGITS = 200 };

/* Into memory of its own or, as is allowed, in place. */
static void try_activations(struct soak_run *run, uint64_t *state) {
    size_t count = between(state, 1, MOST_LOGITS);
    fff_activation kind = (fff_activation)random_below(state, FFF_ACTIVATION_COUNT);
    float logits[MOST_LOGITS], upstream[MOST_LOGITS], activations[MOST_LOGITS], gradients[MOST_LOGITS];
    soak_fill(logits, count, soak_any_kind(state), state);
    soak_fill(upstream, count, soak_any_kind(state), state);
    for (size_t i = 0; i < count; i++) {
        activations[i] = reference_activation(kind, logits[i]);
        gradients[i] = upstream[i] * reference_derivative(kind, logits[i]);
    }
    struct soak_rows first = soak_make_rows(1, count, sizeof(float), state);
    struct soak_rows second = soak_make_rows(1, count, sizeof(float), state);
    const float *from = logits, *by = upstream;
    run->doing = "fff_activate()";
    if (chance(state, 3)) {
        soak_fill_rows(&first, logits);
        from = first.data;
    }
    uint64_t entered = mode_enter(mode_draw(state));
    soak_leave(run, fff_activate(run->isa, kind, FFF_SLEEF_ANY, count, from, first.data), FFF_OK, entered);
    soak_compare_floats(run, "activation", 1, count, first.data, count, activations, count);
    run->doing = "fff_differentiate()";
    from = logits;
    if (chance(state, 3)) {
        soak_fill_rows(&second, logits);
        from = second.data;
    } else if (chance(state, 3)) {
        soak_fill_rows(&second, upstream);
        by = second.data;
    }
    entered = mode_enter(mode_draw(state));
    soak_leave(run, fff_differentiate(run->isa, kind, FFF_SLEEF_ANY, count, from, by, second.data), FFF_OK, entered);
    soak_compare_floats(run, "gradient", 1, count, second.data, count, gradients, count);
    soak_free_rows(run, "written beside the activations", &first);
    soak_free_rows(run, "written beside the gradients", &second);
}

/* ---- AdamW ---------------------------------------------------------------------------------------- */

static double any_decay(uint64_t *state) {
    static const double DECAYS[] = {0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.999999999};
    return DECAYS[random_below(state, sizeof DECAYS / sizeof *DECAYS)];
}

/* Steps are few or, rarely, any number there is. */
static fff_adam any_settings(uint64_t *state) {
    static const double EPSILONS[] = {0.0, 1e-8, 1e-6, 1e-12, 1.0};
    return (fff_adam){
        .struct_size = sizeof(fff_adam),
        .learning_rate = chance(state, 8) ? 0.0 : (double)between(state, 1, 1000) * 1e-5,
        .beta1 = any_decay(state),
        .beta2 = any_decay(state),
        .epsilon = EPSILONS[random_below(state, sizeof EPSILONS / sizeof *EPSILONS)],
        .weight_decay = chance(state, 3) ? 0.0 : (double)between(state, 1, 1000) * 1e-4,
        .step = chance(state, 8) ? random_bits(state) | 1 : between(state, 1, 1000),
    };
}

/* The matrices of a step: weights and the two moments, which change, and the gradients of the listed rows. */
struct step {
    size_t limit, width, count;
    uint32_t *rows; /* of the weights, count of them; NULL: the first ones */
    float *matrices[3], *gradients;
};

static struct step draw_step(uint64_t *state) {
    struct step step = {.limit = between(state, 1, 12), .width = between(state, 1, chance(state, 8) ? 600 : 70)};
    enum numbers kind = soak_any_kind(state);
    step.gradients = soak_allocate(step.limit * step.width, sizeof(float));
    soak_fill(step.gradients, step.limit * step.width, kind, state);
    for (size_t i = 0; i < 3; i++) {
        step.matrices[i] = soak_allocate(step.limit * step.width, sizeof(float));
        soak_fill(step.matrices[i], step.limit * step.width, kind, state);
    }
    if (chance(state, 3)) {
        step.count = random_below(state, step.limit + 1);
        return step;
    }
    step.rows = soak_allocate(step.limit, sizeof *step.rows);
    for (uint32_t row = 0; row < step.limit; row++) {
        if (chance(state, 2)) {
            step.rows[step.count++] = row;
        }
    }
    return step;
}

static void take_step(const struct step *step, const struct reference_adam *adam) {
    for (size_t i = 0; i < step->count; i++) {
        size_t row = step->rows != NULL ? step->rows[i] : i;
        for (size_t j = 0; j < step->width; j++) {
            size_t at = row * step->width + j;
            reference_adam_weight(adam, step->gradients[i * step->width + j], &step->matrices[0][at],
                                  &step->matrices[1][at], &step->matrices[2][at]);
        }
    }
}

static void try_adam(struct soak_run *run, uint64_t *state) {
    static const char *const NAMES[3] = {"weight", "first moment", "second moment"};
    struct step step = draw_step(state);
    fff_adam settings = any_settings(state);
    struct soak_rows matrices[3], gradients = soak_make_rows(step.limit, step.width, sizeof(float), state);
    soak_fill_rows(&gradients, step.gradients);
    for (size_t i = 0; i < 3; i++) {
        matrices[i] = soak_make_rows(step.limit, step.width, sizeof(float), state);
        soak_fill_rows(&matrices[i], step.matrices[i]);
    }
    struct reference_adam adam = reference_adam_step(&settings);
    take_step(&step, &adam);
    run->doing = "fff_adam_rows()";
    uint64_t entered = mode_enter(mode_draw(state));
    soak_leave(run,
               fff_adam_rows(run->isa, &settings, step.count, step.rows, step.limit, step.width, gradients.data,
                             gradients.stride, matrices[0].data, matrices[0].stride, matrices[1].data,
                             matrices[1].stride, matrices[2].data, matrices[2].stride),
               FFF_OK, entered);
    for (size_t i = 0; i < 3; i++) {
        soak_compare_floats(run, NAMES[i], step.limit, step.width, matrices[i].data, matrices[i].stride,
                            step.matrices[i], step.width);
        soak_free_rows(run, "written beside weights or moments", &matrices[i]);
        free(step.matrices[i]);
    }
    soak_free_rows(run, "written beside the gradients, which are read", &gradients);
    free(step.gradients);
    free(step.rows);
}

void soak_try_numbers(struct soak_run *run, uint64_t *state) {
    try_activations(run, state);
    try_adam(run, state);
}
