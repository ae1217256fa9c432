/* What the layers of a model store. */
#ifndef FFF_TOOLS_MODELS_STORE_H
#define FFF_TOOLS_MODELS_STORE_H

#include "bert/bert.h"
#include "tools/files/layer_data.h"

/* The types that the kernels' layer stores, by the file's and the options of an open model. */
void model_stores(const fff_bert *model, size_t layer, fff_weight_type *input, fff_weight_type *output);

/* Whether any of the kernels' layers computes another function than the float32 layer of the file's weights. */
bool model_store_differs(const fff_bert *model);

#endif
