#include "layer/plan.h"

#include "kernels/toolbox.h"
#include "layer/exact.h"
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
    FINISH_FLOATS = 512,   /* activations computed at once: those of a few paths down one tree, or of one down many */
    LEAF_FLOATS = 1 << 14, /* likewise, of neurons of tokens at their leaves */
    /* Several trees walk one by one, all inputs and outputs read anew for each, only if each is so much larger. */
    SMALL_TREE_CACHES = 4,
};

/* Room for `count` elements of 4 bytes at *end, which advances to the next cache line. Nothing overflows: the sizes are
 * bounded by those of the layer's weights, which are in memory, and by the constants above. One is not, that of a
 * walk's tokens as int8 rows meet them: lay_out() checks it. */
static size_t reserve(size_t *end, size_t count) {
    size_t start = *end;
    *end +=
        (count * sizeof(uint32_t) + FFF_WORKSPACE_ALIGNMENT - 1) / FFF_WORKSPACE_ALIGNMENT * FFF_WORKSPACE_ALIGNMENT;
    return start;
}

/* How many tokens' activations are computed at once, of so many entries each. */
static size_t finish_tokens(size_t entries) {
    return fff_max(FINISH_FLOATS / entries, 1);
}

size_t fff_token_bytes(const struct fff_part *part) {
    size_t width = part->trees.input_width;
    return part->input_type == FFF_WEIGHT_I8 ? fff_quantised_bytes(width) : width * sizeof(float);
}

/* What a token takes besides, where rows are int8 and where routes are exact. */
static size_t quantised_bytes(const struct fff_part *part) {
    return part->input_type == FFF_WEIGHT_I8 ? fff_token_bytes(part) : 0;
}
static size_t exact_bytes(const struct fff_part *part) {
    return part->exact_routes ? sizeof(struct fff_exact_token) : 0;
}

/* What a walk's finish() has of a token at once: the entries of all its trees, or of a leaf, the neurons; there is room
 * for the path of nodes, too. */
static size_t finish_entries(const struct fff_part *part, size_t group) {
    size_t nodes = group * part->trees.level_count;
    return part->leaves.width > 0 ? fff_max(part->leaves.at_once, nodes) : nodes;
}

/* The memory that a row takes: of borrowed rows, whatever their strides, what is read of them. */
static size_t row_memory(const struct fff_part *part, const struct fff_trees *rows) {
    return part->borrowed ? rows->input_bytes + rows->output_bytes : rows->row_stride;
}

/* Rows of nodes of so many uppermost levels stay in L2, of trees that do not as a whole. */
static size_t near_levels(const struct fff_part *part, size_t tree_bytes) {
    const struct fff_trees *trees = &part->trees;
    if (trees->tree_count * tree_bytes <= part->l2_bytes / 2) {
        return trees->level_count;
    }
    size_t near_rows = part->l2_bytes / L2_TO_NEAR / fff_max(trees->input_bytes, 1) / trees->tree_count, levels = 0;
    while (levels + 1 < trees->level_count && ((size_t)2 << levels) - 1 <= near_rows) {
        levels++;
    }
    return levels;
}

/* As much of L2 for tokens as for rows, and some for the rest. */
static size_t bytes_of_tokens(const struct fff_part *part) {
    return part->l2_bytes / 5 * 2;
}

/* A block's tokens. Small trees walk one by one, or group by group, and their rows
 * come from beyond L2 again for each block of tokens. So blocks are larger than L2, though inputs and outputs then come
 * from beyond it, too, for each group. */
static size_t block_of(const struct fff_part *part) {
    size_t input_bytes = fff_token_bytes(part), output_bytes = part->trees.output_width * sizeof(float);
    bool one_by_one = part->trees.tree_count > 1 && !part->large_trees;
    size_t token_bytes = one_by_one ? (input_bytes + output_bytes) / BLOCKS_OF_TREES : input_bytes;
    return fff_min(fff_max(bytes_of_tokens(part) / fff_max(token_bytes, 1), LEAST_BLOCK), MOST_BLOCK);
}

/* Leaves: trees walk one by one. */
static void plan_leaves(struct fff_part *part) {
    struct fff_leaves *leaves = &part->leaves;
    size_t row_bytes = row_memory(part, &leaves->neurons);
    size_t tree_bytes =
        part->trees.node_count * row_memory(part, &part->trees) + leaves->count * leaves->width * row_bytes;
    bool near = tree_bytes * part->trees.tree_count <= part->l2_bytes / 2;
    part->large_trees = part->trees.level_count > 0 && tree_bytes > part->l2_bytes / 2;
    part->trees.near_levels = near_levels(part, tree_bytes);
    leaves->neurons.near_levels = near ? 1 : 0;
    leaves->at_once = fff_min(fff_max(part->l2_bytes / L2_TO_ROOTS / row_bytes, 1), leaves->width);
    if (leaves->at_once < leaves->width && leaves->at_once > FFF_DOT_TILE_ROWS) {
        leaves->at_once -= leaves->at_once % FFF_DOT_TILE_ROWS;
    }
    part->block = block_of(part);
    part->group = 1;
    part->group_of_token = part->trees.tree_count;
    part->finish_tokens = fff_max(LEAF_FLOATS / fff_max(finish_entries(part, 1), 1), LEAST_BLOCK);
}

void fff_plan_part(struct fff_part *part) {
    if (part->leaves.width > 0) {
        plan_leaves(part);
        return;
    }
    const struct fff_trees *trees = &part->trees;
    size_t row_bytes = row_memory(part, trees), tree_bytes = trees->node_count * row_bytes;
    part->large_trees = tree_bytes > (trees->tree_count == 1 ? part->l2_bytes / 2 : part->l2_bytes * SMALL_TREE_CACHES);
    part->block = block_of(part);
    size_t by_rows = trees->level_count == 1 ? part->l2_bytes / L2_TO_ROOTS / row_bytes
                                             : part->l2_bytes / L2_TO_GROUP / trees->node_count / trees->output_bytes;
    size_t by_logits = bytes_of_tokens(part) / sizeof(float) / part->block / (trees->level_count + 1);
    part->group = fff_max(fff_min(fff_min(by_rows, by_logits), trees->tree_count), 1);
    if (trees->level_count == 1 && part->group < trees->tree_count && part->group > FFF_DOT_TILE_ROWS) {
        part->group -= part->group % FFF_DOT_TILE_ROWS;
    }
    size_t by_path = part->l2_bytes / L2_TO_GROUP / trees->level_count / trees->output_bytes;
    part->group_of_token = fff_max(fff_min(by_path, trees->tree_count), 1);
    part->finish_tokens = finish_tokens(part->group * trees->level_count);
    part->trees.near_levels = near_levels(part, tree_bytes);
}

/* ---- A batch --------------------------------------------------------------------------------- */

static size_t share_of(size_t count, size_t tasks) {
    return (count - 1) / tasks + 1;
}

/* Every task with tokens of its own: its share, block by block. */
static void plan_own(const struct fff_part *part, size_t batch, struct fff_plan *plan) {
    plan->group = part->group;
    plan->chunk = fff_min(share_of(batch, plan->tasks), part->block);
    plan->finish_tokens = fff_min(part->finish_tokens, plan->chunk);
}

/* All tasks together: how many tokens, and at which level to sort them. */
static void plan_together(const struct fff_part *part, size_t batch, struct fff_plan *plan) {
    const struct fff_trees *trees = &part->trees;
    size_t leaves = (size_t)1 << fff_routing_levels(part),
           subtrees = plan->tasks > 1 ? SUBTREES_A_TASK * plan->tasks : 1;
    plan->together = true;
    plan->group = 1;
    plan->chunk = fff_min(batch, fff_min(fff_max(TOKENS_A_LEAF * leaves, 4 * part->block), MOST_CHUNK));
    size_t at_once = part->leaves.width > 0 ? part->finish_tokens : finish_tokens(trees->level_count);
    plan->finish_tokens = fff_min(at_once, share_of(plan->chunk, plan->tasks));
    while (plan->split + 1 < trees->level_count && plan->split < MOST_SPLIT &&
           (plan->chunk >> plan->split > part->block * (plan->split < trees->near_levels ? 1 : FFF_BLOCKS_A_SUBTREE) ||
            (size_t)1 << plan->split < subtrees || plan->split == 1 /* the levels above go two at once */)) {
        plan->split++;
    }
}

/* A token that goes alone has nodes and logits of its own kind of group in place of a walk. */
static size_t one_token_bytes(const struct fff_part *part) {
    size_t end = 0;
    reserve(&end, quantised_bytes(part) / sizeof(uint32_t));
    reserve(&end, 2 * part->group_of_token * part->trees.level_count);
    reserve(&end, part->leaves.width > 0 ? 2 * finish_entries(part, 1) : 0);
    return end;
}

/* Lays out a walk, from *end on. */
static void lay_out_walk(const struct fff_part *part, struct fff_plan *plan, size_t *end) {
    reserve(end, plan->chunk * plan->group); /* nodes */
    plan->walk.logits = reserve(end, plan->chunk * plan->group * part->trees.level_count);
    plan->walk.order = reserve(end, plan->chunk);
    plan->walk.scratch = reserve(end, plan->chunk);
    plan->walk.quantised = reserve(end, plan->chunk * (quantised_bytes(part) / sizeof(uint32_t)));
    plan->walk.tokens = reserve(end, plan->chunk * (exact_bytes(part) / sizeof(uint32_t)));
    plan->walk.starts = reserve(end, plan->together ? ((size_t)1 << plan->split) + 1 : 0);
}

/* Lays out the workspace of a plan; false if no memory is as large. */
static bool lay_out(const struct fff_part *part, struct fff_plan *plan) {
    size_t entries = finish_entries(part, plan->group), end = 0, quantised;
    if (!fff_size_multiply(plan->chunk, quantised_bytes(part), &quantised) || quantised > PTRDIFF_MAX) {
        return false;
    }
    if (plan->together) {
        lay_out_walk(part, plan, &end);
    }
    if (plan->tasks > 1) {
        plan->shared = reserve(&end, FFF_SHARED_BYTES / sizeof(uint32_t));
        plan->states = reserve(&end, share_of(plan->tasks, sizeof(uint32_t)));
    }
    plan->slices = end;
    end = 0;
    if (!plan->together) {
        lay_out_walk(part, plan, &end);
    }
    plan->activations = reserve(&end, plan->finish_tokens * entries);
    plan->paths = reserve(&end, plan->finish_tokens * entries);
    plan->slice = fff_max(end, plan->together ? 0 : one_token_bytes(part));
    return true;
}

/* ---- Its workspace ---------------------------------------------------------------------------
 *
 * What slices take falls and rises with the number of tasks, as shares are rounded up. What is asked for is somewhat
 * more: a bound of that which never falls, so that a workspace for many tokens and tasks serves for fewer.
 */

/* The tokens of all tasks' shares of `count`, of each at most `limit`. At least tasks * min(share, limit): rounding up
 * makes each share less than one token larger. */
static size_t tokens_of_slices(size_t tasks, size_t count, size_t limit) {
    size_t by_limit, by_share;
    if (!fff_size_multiply(tasks, fff_min(count, limit), &by_limit)) {
        by_limit = SIZE_MAX;
    }
    if (!fff_size_add(count, tasks - 1, &by_share)) {
        by_share = SIZE_MAX;
    }
    return fff_min(by_limit, by_share);
}

static bool add_product(size_t *sum, size_t a, size_t b) {
    size_t product;
    return fff_size_multiply(a, b, &product) && fff_size_add(*sum, product, sum);
}

/* The bytes of workspace of a plan for `count` tokens; 0 if they overflow. Nothing is smaller for more tokens or tasks.
 */
static size_t workspace_of(const struct fff_part *part, const struct fff_plan *plan, size_t count) {
    enum { WALK_ARRAYS = 4, FINISH_ARRAYS = 2, LINE = FFF_WORKSPACE_ALIGNMENT };
    if (plan->tasks == 1) { /* that grows with the tokens as it is, and is less than the bound */
        return plan->slices + plan->slice + LINE - 1;
    }
    size_t entries = finish_entries(part, plan->group), slices = 0, alone = 0, bytes = plan->slices;
    size_t at_once = plan->together && part->leaves.width == 0 ? finish_tokens(entries) : part->finish_tokens;
    size_t to_finish = tokens_of_slices(plan->tasks, count, at_once);
    bool fits = add_product(&slices, to_finish, FINISH_ARRAYS * entries * sizeof(float)) &&
                add_product(&slices, plan->tasks, FINISH_ARRAYS * LINE);
    if (!plan->together) {
        size_t arrays = WALK_ARRAYS + (quantised_bytes(part) > 0) + (exact_bytes(part) > 0);
        size_t logits = plan->group * part->trees.level_count;
        size_t a_token = (plan->group + logits + 2) * sizeof(float) /* nodes, logits, order, scratch */
                         + quantised_bytes(part) + exact_bytes(part);
        fits = fits && add_product(&slices, tokens_of_slices(plan->tasks, count, part->block), a_token) &&
               add_product(&slices, plan->tasks, arrays * LINE) &&
               add_product(&alone, plan->tasks, one_token_bytes(part));
    }
    fits = fits && fff_size_add(bytes, fff_max(slices, alone), &bytes) && fff_size_add(bytes, LINE - 1, &bytes);
    return fits ? bytes : 0;
}

size_t fff_plan_batch(const struct fff_part *part, size_t batch, size_t concurrency, struct fff_plan *plan) {
    size_t tasks = fff_min(fff_max(concurrency, 1), batch);
    if (tasks > PTRDIFF_MAX / FFF_WORKSPACE_ALIGNMENT) {
        return 0; /* each has a slice; and nothing below overflows but what is checked */
    }
    /* As many tokens as tasks of a large tree ever have to themselves. */
    size_t own = part->large_trees ? fff_min(batch, fff_max(part->block, 2 * TOKENS_A_TASK - 1)) : batch;
    *plan = (struct fff_plan){.tasks = fff_min(tasks, own)};
    plan_own(part, own, plan);
    size_t bytes = lay_out(part, plan) ? workspace_of(part, plan, own) : 0;
    if (!part->large_trees || batch < 2 * TOKENS_A_TASK || bytes == 0) {
        return bytes;
    }
    /* Both ways are provided for, whichever is taken, so that a workspace for many tokens and tasks serves for fewer.
     */
    struct fff_plan together = {.tasks = tasks};
    plan_together(part, batch, &together);
    size_t together_bytes = lay_out(part, &together) ? workspace_of(part, &together, together.chunk) : 0;
    if (batch > part->block || (tasks > 1 && batch / tasks >= TOKENS_A_TASK)) {
        *plan = together;
    }
    return together_bytes == 0 ? 0 : fff_max(bytes, together_bytes);
}
