#include "tests/soak/run.h"

#include "tests/soak/mode.h"

#include <stdio.h>

enum { MOST_REPORTED = 3 /* messages about one case that are printed */ };

uint64_t soak_evaluations(const struct soak_counts *counts, enum soak_pass pass) {
    uint64_t sum = 0;
    for (size_t isa = 0; isa < FFF_ISA_COUNT; isa++) {
        sum += counts->evaluations[pass][isa];
    }
    return sum;
}

static bool first_reports(struct soak_run *run) {
    if (run->reported == 0) {
        printf("seed %llu: repeat with --seed %llu --cases 1%s\n", (unsigned long long)run->seed,
               (unsigned long long)run->seed, run->of->quick ? ", and FFF_TEST_SHORT set" : "");
        soak_print_case(run->of);
    }
    return run->reported++ < MOST_REPORTED;
}

void soak_fail(struct soak_run *run, const char *what) {
    run->counts->other_failures++;
    if (first_reports(run)) {
        printf("  %s, %s: %s\n", fff_isa_name(run->isa), run->doing, what);
    }
}

void soak_expect(struct soak_run *run, fff_status status, fff_status expected) {
    if (status != expected) {
        soak_fail(run, fff_status_text(status));
    }
}

void soak_leave(struct soak_run *run, fff_status status, fff_status expected, uint64_t entered) {
    if (!mode_leave(entered)) {
        soak_fail(run, "the caller's floating-point mode is another one afterwards");
    }
    soak_expect(run, status, expected);
}

void soak_differ(struct soak_run *run, const char *what, size_t row, size_t column, uint32_t bits, double actual,
                 double expected) {
    run->counts->differing_bits += (uint64_t)__builtin_popcount(bits);
    if (first_reports(run)) {
        printf("  %s, %s: %s %zu, %zu: %a, should be %a\n", fff_isa_name(run->isa), run->doing, what, row, column,
               actual, expected);
    }
}
