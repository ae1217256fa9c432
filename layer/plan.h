/* How a batch is cut into walks and tasks, and what lies where in the workspace. */
#ifndef FFF_PLAN_H
#define FFF_PLAN_H

#include "layer/layer.h"

/* Byte offsets of the arrays of a walk (layer/walk.h). `nodes` comes first. */
struct fff_walk_layout {
    size_t logits, order, scratch, quantised, tokens, starts;
};

/* Blocks of tokens of a subtree that are taken at once, at most: rather than to sort at a level whose rows do not stay
 * in L2, or to leave a few tokens that share little. */
enum { FFF_BLOCKS_A_SUBTREE = 2 };

/* Room for what tasks share, if there are several. */
enum { FFF_SHARED_BYTES = 1024 };

struct fff_plan {
    bool together;        /* all tasks share each walk; else every task has walks of its own */
    size_t tasks;         /* at most */
    size_t chunk;         /* tokens of a walk, at most */
    size_t split;         /* together: the level at which tokens are sorted; else 0 */
    size_t group;         /* trees of a walk, at most */
    size_t finish_tokens; /* tokens whose activations are computed at once */
    struct fff_walk_layout walk;
    size_t shared, states;     /* byte offsets of what several tasks share, after a shared walk; of a byte for each */
    size_t slices, slice;      /* where the tasks' slices begin; bytes of each */
    size_t activations, paths; /* byte offsets in a task's slice; a walk of its own comes first */
};

/* The bytes of a token as a part's input rows meet it. */
size_t fff_token_bytes(const struct fff_part *part);

/* What of all plans for a part is the same, from its l2_bytes. */
void fff_plan_part(struct fff_part *part);

/* Where a workspace begins, aligned; there is room for that. */
enum { FFF_WORKSPACE_ALIGNMENT = 64 };
static inline unsigned char *fff_align_workspace(void *workspace) {
    size_t misaligned = (uintptr_t)workspace % FFF_WORKSPACE_ALIGNMENT;
    return (unsigned char *)workspace + (misaligned == 0 ? 0 : FFF_WORKSPACE_ALIGNMENT - misaligned);
}

/* The plan for that many tokens, at least 1, and tasks at once. Returns the bytes of workspace, with room to align
 * its start to FFF_WORKSPACE_ALIGNMENT, or 0 if that overflows. More tokens or tasks never need less. */
size_t fff_plan_batch(const struct fff_part *part, size_t batch, size_t concurrency, struct fff_plan *plan);

#endif
