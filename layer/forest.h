/* A call for a whole layer: of one part it is a job; of several, jobs that add to each other's outputs. */
#ifndef FFF_FOREST_H
#define FFF_FOREST_H

#include "layer/job.h"

/* The bytes of workspace for that many tokens, at least 1, and tasks at once; 0 if they overflow. More tokens or tasks
 * never need less. */
size_t fff_forest_workspace(const fff_layer *layer, size_t batch, size_t concurrency);

/* Does a job for all parts of its layer; what it is to do is filled in, but for part, plan and workspace. FFF_OK, or
 * what is wrong with the workspace or the runner; nothing is written then, but with FFF_ERROR_RUNNER. */
fff_status fff_check_forest(const struct fff_job *job, const void *workspace, size_t workspace_size,
                            const fff_runner *runner);
fff_status fff_run_forest(const struct fff_job *job, void *workspace, size_t workspace_size, const fff_runner *runner);

#endif
