/* A layer's parts, in order. Those that stay in a core's caches go together: each task takes its tokens block by block
 * down all of them, so that a block's inputs and outputs are read once. A part that all tasks are to walk together
 * (layer/job.c) has a job of its own. */
#include "layer/forest.h"

#include "layer/size.h"

#include <string.h>

enum { LINE = FFF_WORKSPACE_ALIGNMENT };

/* How a workspace is cut for phases. */
struct layout {
    size_t states, slices; /* where they begin; what tasks share comes first */
    size_t tasks, block;   /* at once; tokens that a task takes down all parts before the next */
    size_t slice, bytes;   /* of a task; of all */
};

/* Some parts of a layer, which tasks with tokens of their own go down. */
struct phase {
    struct fff_job job; /* for all tokens */
    struct layout layout;
    unsigned char *memory; /* the workspace, aligned */
    size_t first_part, end_part, first_entry;
};

/* What tasks share, at the beginning of the workspace: the round of all phases and of the jobs between them, one that
 * stays for calls of tasks that come late, and the phase, while it lasts. */
struct shared {
    struct fff_round round;
    struct phase phase;
};

static size_t block_of(const fff_layer *layer, size_t batch) {
    size_t block = batch;
    for (size_t i = 0; i < layer->part_count; i++) {
        block = fff_min(block, layer->parts[i].block);
    }
    return block;
}

/* Slices have room for a block, however many tasks there are: so more tasks never need less. */
static bool lay_out(const fff_layer *layer, size_t batch, size_t concurrency, struct layout *layout) {
    size_t end, of_slices, largest = 0;
    *layout = (struct layout){.tasks = fff_min(fff_max(concurrency, 1), batch), .block = block_of(layer, batch)};
    for (size_t i = 0; i < layer->part_count; i++) {
        struct fff_plan plan;
        size_t bytes = fff_plan_batch(&layer->parts[i], layout->block, 1, &plan);
        if (bytes == 0) {
            return false;
        }
        largest = fff_max(largest, bytes);
    }
    return fff_size_round_up(largest, LINE, &layout->slice) &&
           fff_size_round_up(sizeof(struct shared), LINE, &layout->states) &&
           fff_size_add(layout->states, layout->tasks, &end) && fff_size_round_up(end, LINE, &layout->slices) &&
           fff_size_multiply(layout->tasks, layout->slice, &of_slices) &&
           fff_size_add(layout->slices, of_slices, &end) && fff_size_add(end, LINE - 1, &layout->bytes);
}

size_t fff_forest_workspace(const fff_layer *layer, size_t batch, size_t concurrency) {
    struct fff_plan plan;
    if (fff_is_one_part(layer)) {
        return fff_plan_batch(&layer->parts[0], batch, concurrency, &plan);
    }
    struct layout layout;
    if (!lay_out(layer, batch, concurrency, &layout)) {
        return 0;
    }
    size_t bytes = layout.bytes;
    for (size_t i = 0; i < layer->part_count; i++) {
        size_t alone = layer->parts[i].large_trees ? fff_plan_batch(&layer->parts[i], batch, concurrency, &plan) : 1;
        if (alone == 0 || !fff_size_add(alone, layout.slices + LINE - 1, &alone)) {
            return 0;
        }
        bytes = fff_max(bytes, alone);
    }
    return bytes;
}

/* The job of `count` tokens from `first` on for one part, whose entries begin at `entry`. */
static struct fff_job part_job(const struct fff_job *all, size_t first, size_t count, size_t index, size_t entry) {
    struct fff_job job = *all;
    job.part = &all->layer->parts[index];
    job.continues = index > 0 || all->layer->output_bias != NULL;
    job.batch = count;
    if (job.input != NULL) {
        job.input += first * job.input_stride;
    }
    if (job.output != NULL) {
        job.output += first * job.output_stride;
    }
    if (job.routed_nodes != NULL) {
        job.routed_nodes += first * job.node_stride + entry;
        job.routed_logits += first * job.logit_stride + entry;
    }
    if (job.nodes != NULL) {
        job.nodes += first * job.node_stride + entry;
        job.logits += first * job.logit_stride + entry;
    }
    return job;
}

static void begin_outputs(const struct fff_job *job, size_t first, size_t count) {
    const fff_layer *layer = job->layer;
    for (size_t t = first; t < first + count && layer->output_bias != NULL && job->output != NULL; t++) {
        memcpy(job->output + t * job->output_stride, layer->output_bias, layer->output_width * sizeof(float));
    }
}

/* Task `index`: its even share of the tokens. */
static void run_phase_tokens(void *argument, size_t index) {
    const struct phase *phase = argument;
    const struct fff_job *all = &phase->job;
    size_t first = fff_share_start(all->batch, phase->layout.tasks, index);
    size_t end = fff_share_start(all->batch, phase->layout.tasks, index + 1);
    unsigned char *slices = phase->memory + phase->layout.slices;
    for (size_t count; first < end; first += count) {
        count = fff_min(end - first, phase->layout.block);
        if (phase->first_part == 0) {
            begin_outputs(all, first, count);
        }
        size_t entry = phase->first_entry;
        for (size_t i = phase->first_part; i < phase->end_part; i++) {
            struct fff_job job = part_job(all, first, count, i, entry);
            /* Neither fails: the layout has room, and there is no runner. */
            (void)fff_plan_job(&job, slices + index * phase->layout.slice, phase->layout.slice, NULL);
            (void)fff_run_job(&job);
            entry += all->layer->parts[i].path_length;
        }
    }
}

/* Whether all tasks are to walk a part together. */
static bool goes_together(const struct fff_part *part, const struct fff_job *job, size_t concurrency) {
    struct fff_plan plan;
    return part->large_trees && job->nodes == NULL && fff_plan_batch(part, job->batch, concurrency, &plan) != 0 &&
           plan.together;
}

static struct shared *shared_of(const struct phase *phase) {
    return (struct shared *)(void *)phase->memory;
}

static fff_status run_phase(const struct phase *given, const fff_runner *runner) {
    if (given->layout.tasks == 1) {
        struct phase alone = *given;
        run_phase_tokens(&alone, 0);
        return FFF_OK;
    }
    struct shared *shared = shared_of(given);
    shared->phase = *given;
    return fff_run_round(&shared->round, runner, run_phase_tokens, &shared->phase) ? FFF_OK : FFF_ERROR_RUNNER;
}

fff_status fff_check_forest(const struct fff_job *job, const void *workspace, size_t workspace_size,
                            const fff_runner *runner) {
    bool shared = runner != NULL && runner->concurrency > 1;
    if (shared && runner->run == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    size_t needed = fff_forest_workspace(job->layer, job->batch, shared ? runner->concurrency : 1);
    if (needed == 0) {
        return FFF_ERROR_OVERFLOW;
    }
    if (workspace == NULL) {
        return FFF_ERROR_NULL_POINTER;
    }
    return workspace_size < needed ? FFF_ERROR_WORKSPACE : FFF_OK;
}

fff_status fff_run_forest(const struct fff_job *job, void *workspace, size_t workspace_size, const fff_runner *runner) {
    const fff_layer *layer = job->layer;
    fff_status status = FFF_OK;
    if (fff_is_one_part(layer)) {
        struct fff_job only = *job;
        only.part = &layer->parts[0];
        status = fff_plan_job(&only, workspace, workspace_size, runner);
        return status == FFF_OK ? fff_run_job(&only) : status;
    }
    const fff_runner callers = runner != NULL ? *runner : (fff_runner){0}; /* it may lie in memory that jobs write */
    size_t concurrency = fff_max(callers.concurrency, 1);
    struct phase phase = {.job = *job, .memory = fff_align_workspace(workspace)};
    if (!lay_out(layer, job->batch, concurrency, &phase.layout)) {
        return FFF_ERROR_OVERFLOW;
    }
    struct fff_round *round = &shared_of(&phase)->round;
    round->count = phase.layout.tasks;
    round->states = (atomic_uchar *)(void *)(phase.memory + phase.layout.states);
    unsigned char *slices = phase.memory + phase.layout.slices;
    size_t slices_size = workspace_size - (size_t)(slices - (unsigned char *)workspace);
    for (size_t entry = 0, i = 0; i < layer->part_count && status == FFF_OK; i++) {
        phase.first_part = i;
        phase.first_entry = entry;
        for (; i < layer->part_count && !goes_together(&layer->parts[i], job, concurrency); i++) {
            entry += layer->parts[i].path_length;
        }
        phase.end_part = i;
        if (phase.end_part > phase.first_part || i == 0) {
            status = run_phase(&phase, &callers);
        }
        if (i < layer->part_count && status == FFF_OK) {
            struct fff_job together = part_job(job, 0, job->batch, i, entry);
            together.callers_round = round;
            status = fff_plan_job(&together, slices, slices_size, &callers);
            status = status == FFF_OK ? fff_run_job(&together) : status;
            entry += layer->parts[i].path_length;
        }
    }
    return status;
}
