/* What was found of a model in several ways. */
#include "tools/bert/bench_ways.h"

#include "tools/commands.h"
#include "tools/layer_options.h"
#include "tools/models/store.h"

#include <math.h>
#include <stdio.h>
#include <sys/resource.h>

/* Of the rounds that nobody disturbed, or of all if there are none; `stride` values lie between those of two rounds. */
static struct spread of_rounds(const struct way *way, size_t rounds, const double *values, size_t stride) {
    double kept[MOST_TIMES] = {0};
    size_t count = 0, clean = 0;
    for (size_t i = 0; i < rounds; i++) {
        clean += way->clean[i];
    }
    for (size_t i = 0; i < rounds; i++) {
        if (way->clean[i] || clean == 0) {
            kept[count++] = values[i * stride];
        }
    }
    return spread_of(kept, count);
}

static double median_part(const struct way *way, size_t rounds, int part) {
    return of_rounds(way, rounds, &way->parts[0][part], FFF_BERT_PARTS).median;
}

static void print_way(const struct bench *bench, size_t sequences, const struct way *way) {
    size_t rounds = bench->settings.rounds;
    struct spread encoder = of_rounds(way, rounds, way->encoder, 1);
    double logits = of_rounds(way, rounds, way->logits, 1).median, all = encoder.median + logits;
    double per_sequence = 1e3 / (double)sequences;
    printf("  %-24s %9.2f (%.2f to %.2f) %9.2f %8.1f%% %8.1f%% %8.1f%% %6.1f%%", way->name,
           encoder.median * per_sequence, encoder.least * per_sequence, encoder.most * per_sequence,
           1e6 * encoder.median / (double)(sequences * bench->settings.length),
           100 * median_part(way, rounds, FFF_BERT_PROJECTIONS) / all,
           100 * median_part(way, rounds, FFF_BERT_ATTENTION) / all,
           100 * median_part(way, rounds, FFF_BERT_FEEDFORWARD) / all,
           100 * median_part(way, rounds, FFF_BERT_REST) / all);
    printf(" %7.1f%%\n", 100 * logits / all);
}

/* Each ratio is of two times of the same round, in which nobody disturbed either. None, and why, if the machine was
 * busy. */
static void print_ratio(const struct bench *bench, const struct way *fast, const struct way *dense,
                        struct machine_load load) {
    double ratios[MOST_TIMES] = {0}, ceilings[MOST_TIMES] = {0}, whole[MOST_TIMES] = {0};
    size_t rounds = bench->settings.rounds, clean = 0;
    for (size_t i = 0; i < rounds; i++) {
        if (fast->clean[i] && dense->clean[i]) {
            double rest = dense->encoder[i] - dense->parts[i][FFF_BERT_FEEDFORWARD];
            ratios[clean] = dense->encoder[i] / fast->encoder[i];
            ceilings[clean] = dense->encoder[i] / rest;
            whole[clean++] = (dense->encoder[i] + dense->logits[i]) / (fast->encoder[i] + fast->logits[i]);
        }
    }
    struct spread ratio = {0, 0, 0};
    char why[256];
    if (clean > 0) {
        ratio = spread_of(ratios, clean);
    }
    if (is_busy(clean, rounds, ratio, load, why, sizeof why)) {
        printf("  %s: the machine is busy: %s; these figures are not to be believed\n", dense->name, why);
        return;
    }
    double ceiling = spread_of(ceilings, clean).median;
    printf("  %s: the encoder is %.2f times faster (%.2f to %.2f); were feedforward free, %.2f (%.0f %% of it)",
           dense->name, ratio.median, ratio.least, ratio.most, ceiling, 100 * ratio.median / ceiling);
    if (bench->words != NULL) {
        printf("; with logits %.2f times", spread_of(whole, clean).median);
    }
    puts("");
}

int print_ways(const struct bench *bench, size_t sequences, struct machine_load load) {
    size_t rounds = bench->settings.rounds;
    const struct way *fast = &bench->ways[0], *masked = &bench->ways[1];
    printf("\n%zu x %zu tokens, %zu rounds, one thread\n", sequences, bench->settings.length, rounds);
    printf("  %-24s %9s %-16s %7s %9s %9s %9s %7s %8s\n", "feedforward", "encoder", "ms a sequence", "us/token",
           "projections", "attention", "feedfwd", "rest", "logits");
    for (size_t i = 0; i < bench->way_count; i++) {
        print_way(bench, sequences, &bench->ways[i]);
    }
    for (size_t i = 1; i < bench->way_count; i++) {
        print_ratio(bench, fast, &bench->ways[i], load);
    }
    if (model_store_differs(fast->model)) {
        double distance = ways_distance(bench, sequences, fast, masked);
        printf("  The timed output: the same bits in every round; from the masked dense model's, with the file's "
               "weights,\n"
               "  hidden states differ by %.2g of their root mean square.\n",
               distance);
        return isfinite(distance) ? EXIT_HOLDS : bench_disagrees("the output holds a NaN or an infinity");
    }
    size_t agree = ways_agreeing(bench, sequences, fast, masked);
    printf("  The timed output: the same bits in every round; %zu of %zu sequences agree with the masked dense model\n"
           "  within %g of the largest value; in the others a route parts at a tie, if `fff verify` holds.\n",
           agree, sequences, WAYS_TOLERANCE);
    return 10 * agree >= 9 * sequences ? EXIT_HOLDS : bench_disagrees("too few sequences agree");
}

void print_store_of_ways(const struct bench *bench) {
    const fff_bert *model = bench->ways[0].model;
    fff_weight_type input, output, other_input, other_output;
    char text[STORE_TEXT];
    model_stores(model, 0, &input, &output);
    for (size_t layer = 1; layer < bench->config.layers; layer++) {
        model_stores(model, layer, &other_input, &other_output);
        if (other_input != input || other_output != output) {
            puts("The kernels' layers store: several types");
            return;
        }
    }
    if (input != FFF_WEIGHT_F32 || output != FFF_WEIGHT_F32) {
        printf("The kernels' layers store: %s\n",
               describe_store(input, output, bench->settings.store.routes == FFF_ROUTES_EXACT, text));
    }
}

void print_memory_of_kernels(const struct bench *bench) {
    struct rusage usage;
    const fff_bert *model = bench->ways[0].model;
    double file = (double)fff_bert_file_size(model);
    if (getrusage(RUSAGE_SELF, &usage) == 0) {
        double peak = 1024.0 * (double)usage.ru_maxrss;
        printf(
            "Memory: the file has %.0f MB, packed feedforward layers %.0f MB; after a run by the kernels the peak is "
            "%.0f MB, %.2f of the file\n",
            file / 1e6, (double)fff_bert_packed_size(model) / 1e6, peak / 1e6, peak / file);
    }
}
