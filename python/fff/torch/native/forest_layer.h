/* The layer that is packed from what fff::forest is given. */
#ifndef FFF_TORCH_FOREST_LAYER_H
#define FFF_TORCH_FOREST_LAYER_H

#include <ATen/ATen.h>

#include <deque>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "forest.h"
#include "layer.h"
#include "watch.h"

namespace {

/* The descriptions of a layer's parts, and what they point into. */
class Descriptions {
  public:
    explicit Descriptions(const Forest &a) {
        for (const PartGiven &part : a.parts) {
            describe(part, a);
        }
        for (size_t i = 0; i + 1 < all_.size(); i++) {
            all_[i].next = &all_[i + 1];
        }
        all_[0].output_bias = floats(a.output_bias);
    }

    const fff_layer_desc &first() const {
        return all_[0];
    }

    /* Says where the weight is that was refused. */
    void check_weights(const Forest &a, fff_status status) const {
        for (size_t i = 0; i < bad_.size() && status == FFF_ERROR_WEIGHT; i++) {
            const PartGiven &part = a.parts[i];
            size_t row = bad_[i].row, width = static_cast<size_t>(part[LEAF_WIDTH]);
            if (bad_[i].of_output >= 0) {
                bool neuron = bad_[i].of_output > 0 && part.is_leaf();
                std::string at = neuron
                                     ? "leaf " + std::to_string(row / width) + ", neuron " + std::to_string(row % width)
                                     : "neuron " + std::to_string(row);
                int slot = bad_[i].of_output == 0 ? NODES : bad_[i].of_output == 1 ? OUTPUTS : LEAVES;
                TORCH_CHECK(false, "fff_layer_create: ", library.status_text(status), " (part ", i, ": ",
                            part.name(slot), ", ", at, ", column ", bad_[i].column, ")");
            }
        }
        check(status, "fff_layer_create");
    }

  private:
    std::deque<fff_layer_desc> all_; /* which do not move */
    std::deque<fff_bad_weight> bad_;
    std::vector<at::Tensor> held_;

    const float *floats(const at::Tensor &tensor) {
        if (!tensor.defined()) {
            return nullptr;
        }
        held_.push_back(aligned(tensor.to(at::kFloat).contiguous()));
        return held_.back().data_ptr<float>();
    }

    /* A matrix; of none, or an empty one, nothing. */
    fff_weights view(const at::Tensor &weight, int64_t rows, int64_t columns) {
        if (!weight.defined() || weight.numel() == 0) {
            return {};
        }
        held_.push_back(aligned(weight));
        return view_of(held_.back(), rows, columns);
    }

    void describe(const PartGiven &part, const Forest &a) {
        all_.emplace_back();
        bad_.push_back({-1, 0, 0});
        fff_layer_desc &desc = all_.back();
        desc.struct_size = sizeof desc;
        desc.input_width = static_cast<size_t>(a.input_width());
        desc.output_width = static_cast<size_t>(a.output_width());
        desc.depth = static_cast<size_t>(part[DEPTH]);
        desc.trees = static_cast<size_t>(part[TREES]);
        desc.activation = static_cast<fff_activation>(part[ACTIVATION]);
        desc.routing = static_cast<fff_routing>(part[ROUTING]);
        desc.weight_type = weight_type(part.inputs());
        desc.output_weight_type = static_cast<fff_weight_choice>(1 + weight_type(part.weights[OUTPUTS]));
        desc.store_input = static_cast<fff_weight_choice>(a.store_input);
        desc.store_output = static_cast<fff_weight_choice>(a.store_output);
        desc.routes = a.exact_routes ? FFF_ROUTES_EXACT : FFF_ROUTES_STORED;
        desc.bad_weight = &bad_.back();
        desc.input_weights = view(part.weights[NODES], 0, 1);
        desc.biases = floats(part.weights[NODE_BIASES]);
        desc.thresholds = floats(part.weights[THRESHOLDS]);
        desc.factor = factor(part);
        if (part.is_leaf()) {
            describe_leaves(part, desc);
        } else {
            desc.output_weights =
                part[NODE_MAJOR] != 0 ? view(part.weights[OUTPUTS], 0, 1) : view(part.weights[OUTPUTS], 1, 0);
        }
    }

    void describe_leaves(const PartGiven &part, fff_layer_desc &desc) {
        auto width = static_cast<size_t>(part[LEAF_WIDTH]);
        at::Tensor first = aligned(part.weights[LEAVES]), second = aligned(part.weights[OUTPUTS]);
        if (first.stride(0) < (first.size(1) - 1) * first.stride(1) + (first.size(2) - 1) * first.stride(2) + 1) {
            first = first.contiguous(); /* leaves must lie apart */
        }
        second = second.reshape({second.size(0) * second.size(1), second.size(2)}); /* a view, if contiguous */
        held_.insert(held_.end(), {first, second});
        desc.leaf_width = width;
        desc.leaf_weights = view_of(first, 2, 1);
        desc.leaf_stride = static_cast<size_t>(first.stride(0));
        desc.output_weights = view_of(second, 0, 1);
        desc.leaf_biases = floats(part.weights[LEAF_BIASES]);
        if (const float *biases = floats(part.weights[OUTPUT_BIASES])) {
            desc.leaf_output_biases = {biases, desc.output_width, 1};
        }
    }

    const float *factor(const PartGiven &part) {
        const at::Tensor &given = part.weights[FACTOR];
        if (!given.defined() || part[FACTOR_IS] == PLAIN) {
            return floats(given);
        }
        at::Tensor share = at::sigmoid(given.detach().to(at::kFloat));
        return floats(part[FACTOR_IS] == SIGMOID ? share : 1 - share);
    }
};

std::shared_ptr<const Layer> pack(const Forest &a) {
    at::NoGradGuard plain;
    Descriptions descriptions(a);
    fff_status status = FFF_OK;
    std::shared_ptr<Layer> result = create(descriptions.first(), &status);
    descriptions.check_weights(a, status);
    return result;
}

std::vector<Place> places_of(const Forest &a) {
    std::vector<Place> places;
    for (const PartGiven &part : a.parts) {
        for (const at::Tensor &weight : part.weights) {
            places.push_back(weight.defined() ? Place(weight) : Place());
        }
    }
    places.push_back(a.output_bias.defined() ? Place(a.output_bias) : Place());
    return places;
}

std::tuple<std::vector<const void *>, std::vector<int64_t>> key_of(const Forest &a, const std::vector<Place> &places) {
    std::vector<const void *> data;
    for (const Place &place : places) {
        data.push_back(place.data);
    }
    std::vector<int64_t> numbers = a.plan.vec();
    numbers.insert(numbers.end(), {a.store_input, a.store_output, a.exact_routes});
    return {data, numbers};
}

} // namespace

#endif
