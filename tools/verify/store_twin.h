/* A layer made to hold another against. */
#ifndef FFF_TOOLS_VERIFY_STORE_TWIN_H
#define FFF_TOOLS_VERIFY_STORE_TWIN_H

#include "tools/verify/store.h"

/* A layer and its workspace. */
struct twin {
    fff_layer *layer;
    void *workspace;
    size_t size;
};

/* A layer of float32, for batches of that size. twin_free() it whatever is returned. */
fff_status twin_make(const struct layer_data *data, size_t batch, struct twin *twin);
/* Of a layer that is there, if the status is FFF_OK; else that status. */
fff_status twin_give_workspace(fff_status status, size_t batch, struct twin *twin);
void twin_free(struct twin *twin);

/* The outputs of the whole batch from routes and logits that are known. */
fff_status twin_accumulate(const struct layer_data *data, const struct twin *twin, const struct layer_results *from,
                           float *output);
/* All results of the whole batch by the layer of float32. layer_results_free() them whatever is returned. */
fff_status twin_compute(const struct layer_data *data, struct layer_results *results);
void layer_results_free(struct layer_results *results);

/* store_exact.c: of a layer whose routes are exact; sets check->wide_entries. */
fff_status store_check_exact(struct store_check *check, const struct layer_results *results,
                             struct store_verdict *verdict);

#endif
