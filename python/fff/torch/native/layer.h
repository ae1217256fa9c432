/* A layer of libfff's, made and held. */
#ifndef FFF_TORCH_LAYER_H
#define FFF_TORCH_LAYER_H

#include <ATen/ATen.h>

#include <memory>

#include "library.h"

namespace {

struct Layer {
    fff_layer *layer = nullptr;
    size_t path_length = 0;
    size_t token_workspace = 0; /* for a batch of 1 */
    Layer() = default;
    Layer(const Layer &) = delete;
    Layer &operator=(const Layer &) = delete;
    ~Layer() {
        if (layer != nullptr) {
            library.layer_destroy(layer);
        }
    }
};

fff_weights view_of(const at::Tensor &weight, int64_t rows, int64_t columns) {
    return {weight.data_ptr(), static_cast<size_t>(weight.stride(rows)), static_cast<size_t>(weight.stride(columns))};
}

/* Creates what is described, by one description or several. */
std::shared_ptr<Layer> create(const fff_layer_desc &desc, fff_status *status) {
    auto result = std::make_shared<Layer>();
    *status = library.layer_create(&desc, &result->layer);
    if (*status == FFF_OK) {
        result->path_length = library.layer_path_length(result->layer);
        check(library.workspace_size(result->layer, 1, 1, &result->token_workspace), "fff_workspace_size");
    }
    return result;
}

} // namespace

#endif
