#include "layer/plan.h"

#include "layer/size.h"

enum {
    LEAST_BLOCK = 16,
    MOST_BLOCK = 1024,
    MOST_CHUNK = 1 << 16, /* tokens that walk together: 5 MB of workspace at depth 15 */
    L2_TO_L1 = 32,           /* a group's output rows stay in L1, or nearly: 64 KB of 2 MB */
    TOKENS_A_LEAF = 8,    /* enough in a chunk: more share a leaf's row no better to speak of */
    SUBTREES_A_TASK = 8,  /* at least, so that few are cut between two tasks */
    MOST_SPLIT = 12,
    FINISH_FLOATS = 512, /* activations at hand: those of a few paths down one tree, or of one down many */
    CACHES_OF_SMALL_TREE =
        4 /* one of many trees walks alone, all inputs and outputs read anew for it, only if larger */
};

static size_t at_most(size_t value, size_t limit) {
    return value < limit ? value : limit;
}

static size_t at_least(size_t value, size_t limit) {
    return value > limit ? value : limit;
}

/* Room for `count` elements of 4 bytes at *end, which advances to the next cache line. Nothing overflows: the sizes are
 * bounded by those of the layer's weights, which are in memory, and by the constants above. */
static size_t reserve(size_t *end, size_t count) {
    size_t start = *end;
    *end +=
        (count * sizeof(uint32_t) + FFF_WORKSPACE_ALIGNMENT - 1) / FFF_WORKSPACE_ALIGNMENT * FFF_WORKSPACE_ALIGNMENT;
    return start;
}

static struct fff_walk_layout lay_out(const struct fff_plan *plan, size_t levels, size_t tokens) {
    struct fff_walk_layout layout;
    size_t end = 0;
    reserve(&end, tokens * plan->group); /* nodes */
    layout.logits = reserve(&end, tokens * plan->group * levels);
    layout.order = reserve(&end, tokens);
    layout.scratch = reserve(&end, tokens);
    layout.starts = reserve(&end, plan->together ? ((size_t)1 << plan->split) + 1 : 0);
    layout.bytes = end;
    return layout;
}

void fff_plan_layer(struct fff_layer *layer) {
    const struct fff_trees_f32 *trees = &layer->trees;
    size_t floats = layer->l2_bytes / 5 * 2 / sizeof(float); /* as much for tokens as for rows, and some for the rest */
    size_t token_floats = trees->input_width + (trees->trees > 1 ? trees->output_width : 0);
    layer->block = at_most(at_least(floats / token_floats, LEAST_BLOCK), MOST_BLOCK);
    size_t by_rows = layer->l2_bytes / L2_TO_L1 / sizeof(float) / trees->nodes / trees->output_width;
    size_t by_logits = floats / layer->block / (trees->levels + 1);
    layer->group = at_most(at_least(at_most(by_rows, by_logits), 1), trees->trees);
    size_t tree_bytes = trees->nodes * trees->row_stride * sizeof(float);
    layer->large_trees =
        tree_bytes > (trees->trees == 1 ? layer->l2_bytes / 2 : layer->l2_bytes * CACHES_OF_SMALL_TREE);
}

/* Tokens walk together where the trees are large and they are more than a block. */
static void plan_together(const struct fff_layer *layer, size_t batch, struct fff_plan *plan) {
    const struct fff_trees_f32 *trees = &layer->trees;
    size_t leaves = (trees->nodes + 1) / 2, subtrees = plan->tasks > 1 ? SUBTREES_A_TASK * plan->tasks : 1;
    plan->together = true;
    plan->chunk = at_most(batch, at_most(at_least(TOKENS_A_LEAF * leaves, 4 * layer->block), MOST_CHUNK));
    plan->group = 1;
    while (plan->split + 1 < trees->levels && plan->split < MOST_SPLIT &&
           (plan->chunk >> plan->split > layer->block || (size_t)1 << plan->split < subtrees)) {
        plan->split++;
    }
}

size_t fff_plan_batch(const struct fff_layer *layer, size_t batch, size_t concurrency, struct fff_plan *plan) {
    size_t levels = layer->trees.levels;
    *plan = (struct fff_plan){.tasks = at_most(at_least(concurrency, 1), batch), .group = layer->group};
    plan->chunk = at_most(layer->block, batch / plan->tasks + (batch % plan->tasks != 0));
    plan->finish_tokens = at_least(FINISH_FLOATS / (plan->group * levels), 1);

    /* What is needed if tasks have walks of their own: also the least that is asked for if they walk together, so that
     * a workspace for many tokens serves for fewer. */
    struct fff_walk_layout own = lay_out(plan, levels, plan->chunk);
    size_t end = own.bytes;
    plan->activations = reserve(&end, plan->finish_tokens * plan->group * levels);
    plan->path = reserve(&end, plan->group * levels);
    size_t one_token = 0; /* that goes alone has nodes and logits of a whole path in place of all that */
    reserve(&one_token, layer->path_length);
    reserve(&one_token, layer->path_length);
    plan->walk = own;
    plan->slice = at_least(end, one_token);
    size_t apart_bytes;
    if (!fff_size_multiply(plan->tasks, plan->slice, &apart_bytes)) {
        return 0;
    }

    size_t together_bytes = 0;
    if (layer->large_trees && batch > layer->block) {
        plan_together(layer, batch, plan);
        plan->finish_tokens = at_least(FINISH_FLOATS / levels, 1);
        plan->walk = lay_out(plan, levels, plan->chunk);
        plan->slices = plan->walk.bytes;
        end = 0;
        plan->activations = reserve(&end, plan->finish_tokens * levels);
        plan->path = reserve(&end, levels);
        plan->slice = end;
        if (!fff_size_multiply(plan->tasks, plan->slice, &together_bytes) ||
            !fff_size_add(together_bytes, plan->slices, &together_bytes)) {
            return 0;
        }
    }
    size_t bytes;
    return fff_size_add(at_least(apart_bytes, together_bytes), FFF_WORKSPACE_ALIGNMENT - 1, &bytes) ? bytes : 0;
}
