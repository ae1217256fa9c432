/* A job's work: the batch cut into walks, and those shared among tasks.
 *
 * Three ways, by what tokens have to share:
 * - A token on its own goes down with the kernel for that.
 * - Every task has tokens of its own and takes them block by block. A block goes down a group of trees, whose rows stay
 *   in L2 for all its tokens; with a single tree, so do the block's inputs.
 * - More tokens than a block and a tree larger than L2: all tasks walk together. First each block goes down the upper
 *   levels, whose rows stay in L2; then all tokens are sorted by the subtree they have reached; then each subtree is
 *   finished, with its rows fetched once for all its tokens. */
#include "layer/job.h"

#include "dispatch/fp_environment.h"
#include "kernels/toolbox.h"
#include "layer/exact.h"
#include "layer/leaves.h"
#include "layer/size.h"
#include "layer/walk.h"

#include <string.h>

static const uint32_t ONLY = 0; /* the number of a token that goes alone */

enum { PREPARE_AHEAD = 2 /* tokens whose inputs are fetched while others become integers */ };

/* ---- One call's work ------------------------------------------------------------------------- */

/* Where in the workspace a task's slice is. */
static unsigned char *slice_of(const struct fff_job *job, size_t task) {
    return job->workspace + job->plan.slices + task * job->plan.slice;
}

static float *activations_of(const struct fff_job *job, size_t task) {
    return (float *)(void *)(slice_of(job, task) + job->plan.activations);
}

static uint32_t *paths_of(const struct fff_job *job, size_t task) {
    return (uint32_t *)(void *)(slice_of(job, task) + job->plan.paths);
}

/* Runs all tasks; false if the runner did not run every one once. */
static bool run_tasks(const struct fff_job *job, void (*task)(void *, size_t), void *argument) {
    if (job->round == NULL) {
        task(argument, 0);
        return true;
    }
    return fff_run_round(job->round, &job->runner, task, argument);
}

/* The scales of a path sum's trees from `first` on, if output rows are int8. */
static const float *some_scales(const struct fff_part *part, size_t first) {
    return part->output_scales != NULL && part->leaves.width == 0 ? part->output_scales + first * part->trees.node_count
                                                                  : NULL;
}

/* How a group of trees adds to the outputs. Output that L2 would not hold until the call returns is streamed past it,
 * unless the next group is to add to it. */
static unsigned write_flags(const struct fff_job *job, size_t first_tree, size_t trees) {
    const struct fff_part *part = job->part;
    bool alone = fff_is_one_part(job->layer) && part->leaves.width == 0;
    bool large = alone && job->batch > part->l2_bytes / 2 / sizeof(float) / part->trees.output_width;
    return (first_tree > 0 || job->continues ? FFF_WRITE_CONTINUE : 0u) |
           (large && trees == part->trees.tree_count ? FFF_WRITE_STREAM : 0u);
}

/* At which level a walk down some of a layer's trees asks for the outputs: where only rows that are near have been met
 * and memory has little else to do, but not before tokens are sorted; at the leaves, if the layer has more trees, since
 * what a block of tokens adds to need not fit L2 then; and never, if several trees of the walk come before or if they
 * are streamed. */
static size_t level_of_outputs(const struct fff_job *job, size_t trees, unsigned write) {
    const struct fff_trees *all = &job->part->trees;
    if (trees > 1 || (write & FFF_WRITE_STREAM) != 0) {
        return all->level_count;
    }
    if (all->tree_count > 1) {
        return all->level_count - 1;
    }
    size_t last_near = fff_max(all->near_levels, 1) - 1;
    return fff_max(last_near, job->plan.split);
}

/* A walk of the tokens from `first` on down a group of trees, with its arrays in `memory`. */
static struct fff_walk make_walk(const struct fff_job *job, size_t first, size_t first_tree, size_t trees,
                                 unsigned char *memory) {
    const struct fff_part *part = job->part;
    struct fff_walk walk = {
        .part = part,
        .first_tree = first_tree,
        .trees = fff_some_trees(&part->trees, first_tree, trees),
        .output_scales = some_scales(part, first_tree),
        .input = job->input + first * job->input_stride,
        .input_stride = job->input_stride * sizeof(float),
        .nodes = (uint32_t *)(void *)memory,
        .finish_tokens = job->plan.finish_tokens,
        .inputs_beyond_l2 = fff_beyond_l2(&part->trees) && (first_tree == 0 || part->large_trees),
    };
    if (part->exact_routes) {
        walk.tokens = (const struct fff_exact_token *)(const void *)(memory + job->plan.walk.tokens);
    }
    if (part->input_type == FFF_WEIGHT_I8) {
        walk.input = memory + job->plan.walk.quantised;
        walk.input_stride = fff_token_bytes(part);
    }
    bool leaves = part->leaves.width > 0;
    walk.finish = leaves ? fff_finish_leaves_forward : fff_finish_forward;
    if (job->routed_nodes != NULL) {
        size_t entry = first_tree * (part->path_length / part->trees.tree_count);
        walk.finish = leaves ? fff_finish_leaves_route : fff_finish_route;
        walk.logits = job->routed_logits + first * job->logit_stride + entry;
        walk.logit_stride = job->logit_stride;
        walk.routed_nodes = job->routed_nodes + first * job->node_stride + entry;
        walk.routed_stride = job->node_stride;
    } else {
        walk.logits = (float *)(void *)(memory + job->plan.walk.logits);
        walk.logit_stride = trees * part->trees.level_count;
    }
    if (job->output != NULL) {
        walk.output = job->output + first * job->output_stride;
        walk.output_stride = job->output_stride;
        walk.write = write_flags(job, first_tree, trees);
        walk.output_level = level_of_outputs(job, trees, walk.write);
    }
    if (job->output != NULL && job->routed_nodes != NULL) {
        walk.finish = leaves ? fff_finish_leaves_paths : fff_finish_paths;
    }
    return walk;
}

/* What int8 rows and exact routes want of the tokens from `first` on, into the arrays of a walk in `memory`, where they
 * are number `place` and on. */
static void prepare_tokens(const struct fff_job *job, size_t first, size_t count, unsigned char *memory, size_t place) {
    const struct fff_part *part = job->part;
    unsigned char *quantised = memory + job->plan.walk.quantised + place * fff_token_bytes(part);
    struct fff_exact_token *tokens = (struct fff_exact_token *)(void *)(memory + job->plan.walk.tokens) + place;
    bool integers = part->input_type == FFF_WEIGHT_I8, far = fff_beyond_l2(&part->trees);
    for (size_t i = 0; i < count && (integers || part->exact_routes); i++, quantised += fff_token_bytes(part)) {
        const float *input = job->input + (first + i) * job->input_stride;
        if (far && i + PREPARE_AHEAD < count) { /* inputs come from beyond L2, too */
            fff_fetch_l2(input + PREPARE_AHEAD * job->input_stride, part->trees.input_width * sizeof(float));
        }
        if (integers) {
            part->kernels->quantise(part->trees.input_width, input, quantised);
        }
        if (part->exact_routes) {
            tokens[i] = fff_measure_token(part, input, integers ? quantised : NULL);
        }
    }
}

/* `count` tokens from `first` on stand at the root of a tree, in their own order. */
static void start_at_root(const struct fff_walk *walk, size_t tree, size_t first, size_t count, uint32_t *order) {
    for (size_t i = 0; i < count; i++) {
        order[i] = (uint32_t)(first + i);
        walk->nodes[(first + i) * walk->trees.tree_count + tree] = 0;
    }
}

/* ---- Every task with tokens of its own ------------------------------------------------------- */

/* A token on its own: its input as input rows meet it, what exact routes want of it, and memory for nodes and logits.
 */
struct alone {
    size_t token;
    const void *input;
    struct fff_exact_token measured;
    unsigned char *memory;
};

static struct alone prepare_token(const struct fff_job *job, size_t token, unsigned char *slice) {
    const struct fff_part *part = job->part;
    const float *given = job->input + token * job->input_stride;
    struct alone alone = {.token = token, .input = given, .memory = slice};
    if (part->input_type == FFF_WEIGHT_I8) {
        part->kernels->quantise(part->trees.input_width, given, slice);
        alone.input = slice;
        alone.memory += fff_token_bytes(part);
    }
    if (part->exact_routes) {
        alone.measured = fff_measure_token(part, given, alone.input == given ? NULL : alone.input);
    }
    return alone;
}

/* Down some trees. */
static void descend_alone(const struct fff_part *part, const struct alone *alone, const struct fff_trees *some,
                          size_t first_tree, bool fetch_output, uint32_t *nodes, float *logits) {
    fff_input_kernels(part)->descend(some, alone->input, fetch_output, nodes, logits);
    if (part->exact_routes &&
        fff_fetch_undecided(part, first_tree, some->tree_count, &alone->measured, nodes, logits)) {
        fff_settle(part, first_tree, some->tree_count, &alone->measured, alone->input, nodes, logits);
    }
}

static void route_alone(const struct fff_job *job, const struct alone *alone) {
    uint32_t *nodes = job->routed_nodes + alone->token * job->node_stride;
    descend_alone(job->part, alone, &job->part->trees, 0, false, nodes,
                  job->routed_logits + alone->token * job->logit_stride);
}

/* Group of trees by group of trees, so that a group's output rows, which its descent fetches, are still in L2 for its
 * sums. */
static void forward_alone(const struct fff_job *job, const struct alone *alone) {
    const struct fff_part *part = job->part;
    size_t all = part->trees.tree_count;
    uint32_t *nodes = (uint32_t *)(void *)alone->memory;
    float *logits = (float *)(void *)(nodes + part->group_of_token * part->trees.level_count);
    float *output = job->output + alone->token * job->output_stride;
    for (size_t tree = 0, trees; tree < all; tree += trees) {
        trees = fff_min(all - tree, part->group_of_token);
        const struct fff_trees some = fff_some_trees(&part->trees, tree, trees);
        descend_alone(part, alone, &some, tree, true, nodes, logits);
        part->kernels->activate(part->activation, trees * some.level_count, logits, logits);
        fff_scale_factors(part, &some, some_scales(part, tree), nodes, logits);
        fff_output_kernels(part)->accumulate(&some, 1, &ONLY, nodes, logits, write_flags(job, tree, trees), output,
                                             job->output_stride);
    }
}

/* Down all trees of a leaf layer, then leaf by leaf. */
static void run_alone_at_leaves(const struct fff_job *job, const struct alone *alone) {
    const struct fff_part *part = job->part;
    size_t all = part->trees.tree_count, levels = part->trees.level_count;
    uint32_t *nodes = (uint32_t *)(void *)alone->memory;
    float *logits = (float *)(void *)(nodes + all * levels), *activations = logits + all * levels;
    uint32_t *zeros = (uint32_t *)(void *)(activations + part->leaves.at_once);
    if (levels > 0) {
        descend_alone(part, alone, &part->trees, 0, false, nodes, logits);
    }
    for (size_t tree = 0; tree < all; tree++, nodes += levels, logits += levels) {
        uint32_t leaf = (uint32_t)part->trees.node_count; /* as a child of the last node */
        if (levels > 0) {
            size_t row = tree * part->trees.node_count + nodes[levels - 1];
            leaf = fff_child(nodes[levels - 1], logits[levels - 1], fff_threshold_of(&part->trees, row));
        }
        struct fff_walk walk = {
            .part = part,
            .first_tree = tree,
            .trees = fff_some_trees(&part->trees, tree, 1),
            .input = alone->input,
            .nodes = &leaf,
        };
        if (job->routed_nodes != NULL) {
            size_t entry = tree * (levels + part->leaves.width);
            walk.routed_nodes = job->routed_nodes + alone->token * job->node_stride + entry;
            walk.logits = job->routed_logits + alone->token * job->logit_stride + entry;
            memcpy(walk.logits, logits, levels * sizeof *logits);
            fff_finish_leaves_route(&walk, 1, &ONLY, activations, zeros);
        } else {
            walk.output = job->output + alone->token * job->output_stride;
            walk.write = write_flags(job, tree, 1);
            fff_finish_leaves_forward(&walk, 1, &ONLY, activations, zeros);
        }
    }
}

/* Both halves of a group of trees of depth 0, blocked matrix products; `walk.logits` are known. */
static void sum_roots(const struct fff_walk *walk, size_t count, const uint32_t *order) {
    const struct fff_part *part = walk->part;
    size_t trees = walk->trees.tree_count;
    part->kernels->activate(part->activation, count * trees, walk->logits, walk->logits);
    for (size_t t = 0; t < count; t++) {
        fff_scale_factors(part, &walk->trees, walk->output_scales, NULL, walk->logits + t * trees);
    }
    fff_output_kernels(part)->add_roots(&walk->trees, count, order, walk->logits, trees,
                                        walk->write & FFF_WRITE_CONTINUE, walk->output, walk->output_stride);
}

/* A block of tokens, group of trees by group of trees. */
static void run_block(const struct fff_job *job, size_t first, size_t count, size_t task) {
    unsigned char *slice = slice_of(job, task);
    uint32_t *order = (uint32_t *)(void *)(slice + job->plan.walk.order);
    uint32_t *scratch = (uint32_t *)(void *)(slice + job->plan.walk.scratch);
    size_t all = job->part->trees.tree_count;
    prepare_tokens(job, first, count, slice, 0);
    for (size_t tree = 0, trees; tree < all; tree += trees) {
        trees = fff_min(all - tree, job->plan.group);
        struct fff_walk walk = make_walk(job, first, tree, trees, slice);
        bool dense = trees > 1 && walk.trees.level_count == 1 && walk.output != NULL && walk.routed_nodes == NULL;
        if (trees > 1) {
            start_at_root(&walk, 0, 0, count, order);
            fff_input_kernels(walk.part)->roots(&walk.trees, count, order, walk.input, walk.input_stride, dense,
                                                walk.logits, walk.logit_stride);
            walk.roots_known = true;
        }
        if (dense) {
            sum_roots(&walk, count, order);
            continue;
        }
        for (size_t t = 0; t < trees; t++) {
            start_at_root(&walk, t, 0, count, order);
            fff_walk_down(&walk, t, 0, walk.trees.level_count, count, order, scratch,
                          trees == 1 ? activations_of(job, task) : NULL, paths_of(job, task));
        }
        if (trees > 1) {
            fff_walk_finish(&walk, count, order, activations_of(job, task), paths_of(job, task));
        }
    }
}

/* A token whose nodes and logits are given. */
static void accumulate_token(const struct fff_job *job, size_t token, float *activations) {
    const struct fff_part *part = job->part;
    size_t all = part->trees.tree_count, levels = part->trees.level_count;
    for (size_t tree = 0, trees; tree < all; tree += trees) {
        trees = fff_min(all - tree, job->plan.group);
        const struct fff_trees some = fff_some_trees(&part->trees, tree, trees);
        const uint32_t *nodes = job->nodes + token * job->node_stride + tree * levels;
        part->kernels->activate(part->activation, trees * levels,
                                job->logits + token * job->logit_stride + tree * levels, activations);
        fff_scale_factors(part, &some, some_scales(part, tree), nodes, activations);
        fff_output_kernels(part)->accumulate(&some, 1, &ONLY, nodes, activations, write_flags(job, tree, trees),
                                             job->output + token * job->output_stride, job->output_stride);
    }
}

/* Likewise, of a leaf layer: by its first neuron in a tree, the leaf is known. */
static void accumulate_leaves(const struct fff_job *job, size_t token, float *activations, uint32_t *zeros) {
    const struct fff_part *part = job->part;
    size_t levels = part->trees.level_count, width = part->leaves.width;
    for (size_t tree = 0; tree < part->trees.tree_count; tree++) {
        size_t entry = tree * (levels + width) + levels;
        const struct fff_walk walk = {
            .part = part,
            .first_tree = tree,
            .output = job->output + token * job->output_stride,
            .write = write_flags(job, tree, 1),
        };
        size_t neuron = job->nodes[token * job->node_stride + entry] - part->trees.node_count;
        fff_leaf_accumulate(&walk, neuron / width, job->logits + token * job->logit_stride + entry, activations, zeros);
    }
}

/* A block of tokens whose nodes and logits are given. */
static void accumulate_block(const struct fff_job *job, size_t first, size_t count, size_t task) {
    for (size_t token = first; token < first + count; token++) {
        if (job->part->leaves.width > 0) {
            accumulate_leaves(job, token, activations_of(job, task), paths_of(job, task));
        } else {
            accumulate_token(job, token, activations_of(job, task));
        }
    }
}

/* A token on its own. Of one whose path is asked for, too, that comes first, and its sums are then those of a path that
 * is given. */
static void run_token(const struct fff_job *job, size_t token, size_t task) {
    const struct alone alone = prepare_token(job, token, slice_of(job, task));
    if (job->part->leaves.width > 0) {
        run_alone_at_leaves(job, &alone);
    } else if (job->routed_nodes != NULL) {
        route_alone(job, &alone);
    } else {
        forward_alone(job, &alone);
    }
    if (job->routed_nodes != NULL && job->output != NULL) {
        struct fff_job given = *job;
        given.nodes = job->routed_nodes;
        given.logits = job->routed_logits;
        accumulate_block(&given, token, 1, task);
    }
}

/* Task `index`: its even share of the tokens. Every token costs the same, whatever its route. */
static void run_own_tokens(void *argument, size_t index) {
    const struct fff_job *job = argument;
    size_t first = fff_share_start(job->batch, job->plan.tasks, index);
    size_t end = fff_share_start(job->batch, job->plan.tasks, index + 1);

    fff_fp_environment callers = fff_fp_enter();
    while (first < end) {
        size_t count = fff_min(end - first, job->plan.chunk);
        if (job->nodes != NULL) {
            accumulate_block(job, first, count, index);
        } else if (count == 1) {
            run_token(job, first, index);
        } else {
            run_block(job, first, count, index);
        }
        first += count;
    }
    fff_store_fence();
    fff_fp_leave(callers);
}

/* ---- All tasks together ---------------------------------------------------------------------- */

/* A chunk of tokens on its way down one tree. */
struct chunk {
    const struct fff_job *job;
    struct fff_walk walk;
    size_t first, count;
    bool first_time; /* in their first tree */
    uint32_t *order, *scratch, *starts;
};

/* Task `index`: its share of the chunk down the upper levels, block by block. */
static void run_upper_levels(void *argument, size_t index) {
    const struct chunk *chunk = argument;
    const struct fff_plan *plan = &chunk->job->plan;
    size_t block = chunk->job->part->block;
    size_t end = fff_share_start(chunk->count, plan->tasks, index + 1);
    fff_fp_environment callers = fff_fp_enter();
    for (size_t first = fff_share_start(chunk->count, plan->tasks, index), count; first < end; first += count) {
        count = fff_min(end - first, block);
        if (chunk->first_time) {
            prepare_tokens(chunk->job, chunk->first + first, count, chunk->job->workspace, first);
        }
        start_at_root(&chunk->walk, 0, first, count, chunk->order + first);
        fff_walk_down(&chunk->walk, 0, 0, plan->split, count, chunk->order + first, chunk->scratch + first, NULL, NULL);
    }
    fff_fp_leave(callers);
}

/* Orders a chunk's tokens by the node that they have reached, all of one level. */
static void sort_by_node(struct chunk *chunk) {
    size_t subtrees = (size_t)1 << chunk->job->plan.split, first_node = subtrees - 1;
    const uint32_t *nodes = chunk->walk.nodes;
    uint32_t *starts = chunk->starts;
    memset(starts, 0, (subtrees + 1) * sizeof *starts);
    for (size_t token = 0; token < chunk->count; token++) {
        starts[nodes[token] - first_node + 1]++;
    }
    for (size_t i = 0; i < subtrees; i++) {
        starts[i + 1] += starts[i];
    }
    for (size_t token = 0; token < chunk->count; token++) {
        chunk->order[starts[nodes[token] - first_node]++] = (uint32_t)token;
    }
}

/* Task `index`: its share of the sorted tokens, subtree by subtree, to the end. A subtree that many tokens have reached
 * is taken block by block, so that inputs stay in L2 however skewed the routes. */
static void run_subtrees(void *argument, size_t index) {
    const struct chunk *chunk = argument;
    const struct fff_job *job = chunk->job;
    const uint32_t *nodes = chunk->walk.nodes;
    size_t block = job->part->block, most = FFF_BLOCKS_A_SUBTREE * block;
    size_t end = fff_share_start(chunk->count, job->plan.tasks, index + 1);
    fff_fp_environment callers = fff_fp_enter();
    for (size_t first = fff_share_start(chunk->count, job->plan.tasks, index), count; first < end; first += count) {
        uint32_t *order = chunk->order + first;
        for (count = 1; count <= most && first + count < end && nodes[order[count]] == nodes[order[0]];) {
            count++;
        }
        if (count > most) {
            count = block;
        }
        fff_walk_down(&chunk->walk, 0, job->plan.split, chunk->walk.trees.level_count, count, order,
                      chunk->scratch + first, activations_of(job, index), paths_of(job, index));
    }
    fff_store_fence();
    fff_fp_leave(callers);
}

/* What tasks share lies in the workspace, as fff_round does and for the same reason. */
struct shared {
    struct fff_round round;
    struct fff_job job;
    struct chunk chunk;
};
_Static_assert(sizeof(struct shared) <= FFF_SHARED_BYTES, "the plan has room for it");

static struct shared *shared_of(const struct fff_job *job) {
    return (struct shared *)(void *)(job->workspace + job->plan.shared);
}

static bool run_together(const struct fff_job *job) {
    const struct fff_walk_layout *layout = &job->plan.walk;
    struct chunk of_one_task, *chunk = &of_one_task;
    if (job->round != NULL) {
        chunk = &shared_of(job)->chunk;
    }
    for (size_t first = 0, count; first < job->batch; first += count) {
        count = fff_min(job->batch - first, job->plan.chunk);
        for (size_t tree = 0; tree < job->part->trees.tree_count; tree++) {
            *chunk = (struct chunk){
                .job = job,
                .walk = make_walk(job, first, tree, 1, job->workspace),
                .first = first,
                .count = count,
                .first_time = tree == 0,
                .order = (uint32_t *)(void *)(job->workspace + layout->order),
                .scratch = (uint32_t *)(void *)(job->workspace + layout->scratch),
                .starts = (uint32_t *)(void *)(job->workspace + layout->starts),
            };
            if (!run_tasks(job, run_upper_levels, chunk)) {
                return false; /* some tokens have reached no node to be sorted by */
            }
            sort_by_node(chunk);
            chunk->walk.first_level = job->plan.split;
            if (!run_tasks(job, run_subtrees, chunk)) {
                return false;
            }
        }
    }
    return true;
}

/* ---- The whole job --------------------------------------------------------------------------- */

fff_status fff_plan_job(struct fff_job *job, void *workspace, size_t workspace_size, const fff_runner *runner) {
    bool shared = runner != NULL && runner->concurrency > 1;
    if (shared && runner->run == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    size_t needed = fff_plan_batch(job->part, job->batch, shared ? runner->concurrency : 1, &job->plan);
    if (needed == 0) {
        return FFF_ERROR_OVERFLOW;
    }
    if (workspace == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    if (workspace_size < needed) {
        return FFF_ERROR_WORKSPACE;
    }
    job->workspace = fff_align_workspace(workspace);
    job->round = NULL;
    if (shared && job->plan.tasks > 1) {
        job->runner = *runner;
        job->round = job->callers_round != NULL ? job->callers_round : &shared_of(job)->round;
    }
    return FFF_OK;
}

fff_status fff_run_job(struct fff_job *job) {
    if (job->round != NULL) {
        struct shared *shared = shared_of(job);
        if (job->callers_round == NULL) {
            shared->round.count = job->plan.tasks;
            shared->round.states = (atomic_uchar *)(void *)(job->workspace + job->plan.states);
        }
        shared->job = *job;
        job = &shared->job;
    }
    bool together = job->plan.together && job->nodes == NULL;
    bool complete = together ? run_together(job) : run_tasks(job, run_own_tokens, job);
    return complete ? FFF_OK : FFF_ERROR_RUNNER;
}
