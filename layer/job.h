/* One call of fff_forward(), fff_route() or fff_accumulate(): what it is to do, once its arguments are checked. */
#ifndef FFF_JOB_H
#define FFF_JOB_H

#include "layer/layer.h"
#include "layer/plan.h"
#include "layer/round.h"

/* Forward has an output, routing nodes and logits, accumulation no input; fff_forward_paths() has both. */
struct fff_job {
    const fff_layer *layer;
    const struct fff_part *part; /* of it, which the job is for */
    bool continues;              /* outputs hold what other parts have added */
    size_t batch;                /* 1 or more */
    const float *input;
    size_t input_stride;
    uint32_t *routed_nodes; /* paths, if they are asked for */
    float *routed_logits;
    const uint32_t *nodes; /* fff_accumulate's arguments */
    const float *logits;
    size_t node_stride, logit_stride;
    float *output;
    size_t output_stride;

    struct fff_plan plan;
    unsigned char *workspace;        /* aligned */
    fff_runner runner;               /* a copy: the caller's may lie in memory that the job writes */
    struct fff_round *round;         /* NULL with a single task, which runs on the calling thread */
    struct fff_round *callers_round; /* NULL, or one of as many tasks, which stays when the job's memory goes */
};

/* Plans the job for its part: FFF_OK, or what is wrong with the workspace or the runner. Nothing is written but the
 * job.
 */
fff_status fff_plan_job(struct fff_job *job, void *workspace, size_t workspace_size, const fff_runner *runner);

/* Does it. FFF_ERROR_RUNNER, with outputs partly written, if the runner did not run every task once. */
fff_status fff_run_job(struct fff_job *job);

#endif
