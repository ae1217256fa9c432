#include "layer/plan.h"

#include "layer/size.h"

enum {
    LEAST_BLOCK = 16,
    MOST_BLOCK = 1024,
    BLOCKS_OF_TREES = 8,  /* with several small trees, as many blocks are one */
    MOST_CHUNK = 1 << 16, /* tokens that walk together: 5 MB of workspace at depth 15 */
    L2_TO_GROUP = 8,      /* a group's output rows stay in a part of L2 */
    L2_TO_NEAR = 4,       /* the uppermost levels' input rows, which every token meets, stay in L2 */
    L2_TO_ROOTS = 2,      /* of trees of depth 0, whose kernels are blocked, both rows stay in L2 */
    TOKENS_A_LEAF = 8,    /* enough in a chunk: more share a leaf's row no better to speak of */
    SUBTREES_A_TASK = 4,  /* at least, so that few are cut between two tasks */
    TOKENS_A_TASK = 48,   /* at least, for more than one task to walk together */
    MOST_SPLIT = 12,
    FINISH_FLOATS = 512, /* activations at hand: those of a few paths down one tree, or of one down many */
    /* Several trees walk one by one, all inputs and outputs read anew for each, only if each is so much larger. */
    SMALL_TREE_CACHES = 4,
};

/* Room for `count` elements of 4 bytes at *end, which advances to the next cache line. Nothing overflows: the sizes are
 * bounded by those of the layer's weights, which are in memory, and by the constants above. */
static size_t reserve(size_t *end, size_t count) {
    size_t start = *end;
    *end +=
        (count * sizeof(uint32_t) + FFF_WORKSPACE_ALIGNMENT - 1) / FFF_WORKSPACE_ALIGNMENT * FFF_WORKSPACE_ALIGNMENT;
    return start;
}

void fff_plan_layer(struct fff_layer *layer) {
    const struct fff_trees_f32 *trees = &layer->trees;
    size_t floats = layer->l2_bytes / 5 * 2 / sizeof(float); /* as much for tokens as for rows, and some for the rest */
    size_t tree_bytes = trees->nodes * trees->row_stride * sizeof(float);
    layer->large_trees = tree_bytes > (trees->trees == 1 ? layer->l2_bytes / 2 : layer->l2_bytes * SMALL_TREE_CACHES);
    /* Small trees walk one by one, or group by group, and their rows come from beyond L2 again for each block of
     * tokens. So blocks are larger than L2, though inputs and outputs then come from beyond it, too, for each group. */
    size_t token_floats = trees->trees == 1 || layer->large_trees
                              ? trees->input_width
                              : (trees->input_width + trees->output_width) / BLOCKS_OF_TREES;
    layer->block = fff_at_most(fff_at_least(floats / fff_at_least(token_floats, 1), LEAST_BLOCK), MOST_BLOCK);
    size_t by_rows = trees->levels == 1
                         ? layer->l2_bytes / L2_TO_ROOTS / sizeof(float) / trees->row_stride
                         : layer->l2_bytes / L2_TO_GROUP / sizeof(float) / trees->nodes / trees->output_width;
    size_t by_logits = floats / layer->block / (trees->levels + 1);
    layer->group = fff_at_least(fff_at_most(fff_at_most(by_rows, by_logits), trees->trees), 1);
    if (trees->levels == 1 && layer->group < trees->trees && layer->group > FFF_DOT_TILE_ROWS) {
        layer->group -= layer->group % FFF_DOT_TILE_ROWS;
    }
    size_t by_path = layer->l2_bytes / L2_TO_GROUP / sizeof(float) / trees->levels / trees->output_width;
    layer->group_of_one = fff_at_least(fff_at_most(by_path, trees->trees), 1);
    layer->finish_tokens = fff_at_least(FINISH_FLOATS / (layer->group * trees->levels), 1);
    size_t near_rows = layer->l2_bytes / L2_TO_NEAR / sizeof(float) / trees->input_width / trees->trees;
    layer->trees.near_levels = trees->trees * tree_bytes > layer->l2_bytes / 2 ? 0 : trees->levels;
    while (trees->near_levels + 1 < trees->levels && ((size_t)2 << trees->near_levels) - 1 <= near_rows) {
        layer->trees.near_levels++;
    }
}

/* All tasks together: how many tokens, and at which level to sort them. */
static void plan_together(const struct fff_layer *layer, size_t batch, struct fff_plan *plan) {
    const struct fff_trees_f32 *trees = &layer->trees;
    size_t leaves = (trees->nodes + 1) / 2, subtrees = plan->tasks > 1 ? SUBTREES_A_TASK * plan->tasks : 1;
    plan->together = true;
    plan->group = 1;
    plan->finish_tokens = fff_at_least(FINISH_FLOATS / trees->levels, 1);
    plan->chunk = fff_at_most(batch, fff_at_most(fff_at_least(TOKENS_A_LEAF * leaves, 4 * layer->block), MOST_CHUNK));
    while (plan->split + 1 < trees->levels && plan->split < MOST_SPLIT &&
           (plan->chunk >> plan->split > layer->block * (plan->split < trees->near_levels ? 1 : FFF_BLOCKS_A_SUBTREE) ||
            (size_t)1 << plan->split < subtrees || plan->split == 1 /* the levels above go two at once */)) {
        plan->split++;
    }
}

/* Lays out the workspace of a plan; its bytes, 0 if they overflow. */
static size_t lay_out(const struct fff_layer *layer, struct fff_plan *plan) {
    size_t entries = plan->group * layer->trees.levels, end = 0;
    reserve(&end, plan->chunk * plan->group); /* nodes */
    plan->walk.logits = reserve(&end, plan->chunk * entries);
    plan->walk.order = reserve(&end, plan->chunk);
    plan->walk.scratch = reserve(&end, plan->chunk);
    plan->walk.starts = reserve(&end, plan->together ? ((size_t)1 << plan->split) + 1 : 0);
    if (plan->together) { /* one walk, then a slice for each task */
        plan->slices = end;
        end = 0;
    }
    plan->activations = reserve(&end, plan->finish_tokens * entries);
    plan->paths = reserve(&end, plan->finish_tokens * entries);
    size_t one_token = 0; /* a token that goes alone has nodes and logits of a whole path in place of all that */
    reserve(&one_token, layer->path_length);
    reserve(&one_token, layer->path_length);
    plan->slice = fff_at_least(end, one_token);
    size_t bytes;
    return fff_size_multiply(plan->tasks, plan->slice, &bytes) && fff_size_add(bytes, plan->slices, &bytes) &&
                   fff_size_add(bytes, FFF_WORKSPACE_ALIGNMENT - 1, &bytes)
               ? bytes
               : 0;
}

size_t fff_plan_batch(const struct fff_layer *layer, size_t batch, size_t concurrency, struct fff_plan *plan) {
    *plan = (struct fff_plan){.tasks = fff_at_most(fff_at_least(concurrency, 1), batch), .group = layer->group};
    plan->chunk = fff_at_most(batch, layer->block); /* for each task, so that fewer tasks never need more */
    plan->finish_tokens = layer->finish_tokens;
    size_t bytes = lay_out(layer, plan);
    if (!layer->large_trees || batch < 2 * TOKENS_A_TASK || bytes == 0) {
        return bytes;
    }
    /* Both ways are provided for, whichever is taken, so that a workspace for many tokens and tasks serves for fewer.
     */
    struct fff_plan together = {.tasks = plan->tasks};
    plan_together(layer, batch, &together);
    size_t together_bytes = lay_out(layer, &together);
    if (batch > layer->block || (plan->tasks > 1 && batch / plan->tasks >= TOKENS_A_TASK)) {
        *plan = together;
    }
    return together_bytes == 0 ? 0 : fff_at_least(bytes, together_bytes);
}
