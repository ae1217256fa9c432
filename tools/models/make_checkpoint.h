/* Seeded models in the published format, of any size. */
#ifndef FFF_TOOLS_MODELS_MAKE_CHECKPOINT_H
#define FFF_TOOLS_MODELS_MAKE_CHECKPOINT_H

#include <stdbool.h>
#include <stddef.h>

struct checkpoint_sizes {
    size_t layers, hidden, heads;
    size_t trees, depth;
    size_t dense; /* neurons of dense layers in place of trees; 0: trees */
    size_t vocabulary, max_length;
    size_t labels; /* of a classifier; 0: a masked-LM model */
    size_t seed;
    bool untied; /* the decoder has weights of its own */
    bool bf16;   /* matrices are bfloat16 */
};

/* UltraFastBERT-1x11's (arXiv 2311.10770). */
#define CHECKPOINT_DEFAULTS                                                                                            \
    {                                                                                                                  \
        .layers = 16, .hidden = 768, .heads = 12, .trees = 1, .depth = 11, .vocabulary = 32768, .max_length = 128,     \
        .seed = 1                                                                                                      \
    }

/* Writes config.json and model.safetensors into a directory, which is made if need be; overwrites nothing, and leaves
 * nothing half written. False after a line on stderr. */
bool make_checkpoint(const char *directory, const struct checkpoint_sizes *sizes);

#endif
