/* fff make-checkpoint: a seeded model of any size. */
#include "tools/commands.h"
#include "tools/models/make_checkpoint.h"

#include <stdint.h>

#define NOT_TOLD SIZE_MAX /* above what SIZE() allows */
#define SIZE(member)                                                                                                   \
    .type = OPTION_NUMBER, .argument = "N", .most = SIZE_MAX / 2, .offset = offsetof(struct checkpoint_sizes, member)

static const struct command_option options[] = {
    {.name = "layers", SIZE(layers), .text = "Encoder layers; 16 unless told."},
    {.name = "hidden", SIZE(hidden), .text = "The model's width; 768 unless told."},
    {.name = "heads", SIZE(heads), .text = "Attention heads, which divide the width; 12 unless told."},
    {.name = "trees", SIZE(trees), .text = "Trees of a feedforward layer; 1 unless told."},
    {.name = "depth", SIZE(depth), .text = "Their depth; 11 unless told. 0: every node is a root."},
    {.name = "dense", SIZE(dense), .text = "Dense feedforward layers of N neurons in place of trees."},
    {.name = "vocab", SIZE(vocabulary), .text = "Size of the vocabulary; 32768 unless told."},
    {.name = "max-length", SIZE(max_length), .text = "Tokens of the longest sequence; 128 unless told."},
    {.name = "labels", SIZE(labels), .text = "A classifier of N labels in place of a masked-word model."},
    {.name = "seed",
     SIZE(seed),
     .text = "Of the random weights; 1 unless told. A seed makes the same files everywhere."},
    {.name = "untied",
     .offset = offsetof(struct checkpoint_sizes, untied),
     .text = "Give the decoder weights of its own, in place of the embedding's."},
    {.name = "bf16",
     .offset = offsetof(struct checkpoint_sizes, bf16),
     .text = "Write matrices as bfloat16, rounded from the numbers that they have without it."},
    {0},
};

static int run(int argc, char **argv) {
    const struct checkpoint_sizes defaults = CHECKPOINT_DEFAULTS;
    struct checkpoint_sizes sizes = defaults;
    sizes.trees = sizes.depth = NOT_TOLD;
    struct operands operands;
    int status;
    if (!read_options(&make_checkpoint_command, argc, argv, &sizes, &operands, &status)) {
        return status;
    }
    if (sizes.dense > 0 && (sizes.trees != NOT_TOLD || sizes.depth != NOT_TOLD)) {
        return usage_error(&make_checkpoint_command, "--dense layers have no trees, which --trees and --depth are for");
    }
    if (sizes.labels > 0 && sizes.untied) {
        return usage_error(&make_checkpoint_command, "a classifier (--labels) has no decoder, which --untied is for");
    }
    sizes.trees = sizes.trees != NOT_TOLD ? sizes.trees : defaults.trees;
    sizes.depth = sizes.depth != NOT_TOLD ? sizes.depth : defaults.depth;
    return make_checkpoint(operands.values[0], &sizes) ? EXIT_HOLDS : EXIT_BAD_INPUT;
}

const struct command make_checkpoint_command = {
    .name = "make-checkpoint",
    .operands = "DIRECTORY",
    .least_operands = 1,
    .most_operands = 1,
    .summary = "write a seeded model of any size",
    .text =
        "Writes a seeded model in the published format, config.json and model.safetensors, into a directory, which "
        "is made if need be. Its shape is UltraFastBERT-1x11's unless options say otherwise. Nothing is overwritten.",
    .options = options,
    .run = run,
};
