/* What modules of ours hold, read from their dicts without running Python. */
#ifndef FFF_TORCH_MODULES_H
#define FFF_TORCH_MODULES_H

#include <Python.h>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/python_variable.h>
#include <torch/csrc/utils/object_ptr.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "forest.h"

namespace {

/* What know() was given, and interned names. */
PyObject *linear_type;
std::vector<std::pair<PyTypeObject *, PyObject *>> known_types; /* and the forward() that each had */
std::vector<PyObject *> global_hooks; /* nn.Module's dicts of hooks for all modules, which are never exchanged */
enum Name {
    TRAINING,
    PLAN,
    MODULES,
    PARAMETERS,
    LINEAR_IN,
    LINEAR_OUT,
    WEIGHT,
    BIAS,
    DIRECT,
    FORWARD,
    COMPILED,
    STORED,
    LISTED,
    BUFFERS,
    THRESHOLDS_NAME,
    PARTS,
    OUTPUT_BIAS,
    NAMES
};
const char *const name_texts[NAMES] = {
    "training", "_plan",    "_modules",   "_parameters", "linear_in",           "linear_out",
    "weight",   "bias",     "_direct",    "forward",     "_compiled_call_impl", "_stored",
    "_listed",  "_buffers", "thresholds", "parts",       "output_bias"};
PyObject *names[NAMES];
const char *const hook_texts[] = {"_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"};
const char *const global_hook_texts[] = {"_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks",
                                         "_global_backward_pre_hooks"};
std::vector<PyObject *> hook_names;

/* Before anything else. False with a Python error. */
bool intern_names() {
    bool made = true;
    auto intern = [&](const char *text) {
        PyObject *name = PyUnicode_InternFromString(text);
        made = made && name != nullptr;
        return name;
    };
    std::transform(name_texts, name_texts + NAMES, names, intern);
    for (const char *text : hook_texts) {
        hook_names.push_back(intern(text));
    }
    return made;
}

PyObject *new_reference(PyObject *object) {
    Py_INCREF(object);
    return object;
}

/* Borrowed; null if there is none. The keys are interned strings, whose lookup cannot fail. */
PyObject *get(PyObject *dict, PyObject *name) {
    return dict == nullptr || !PyDict_Check(dict) ? nullptr : PyDict_GetItemWithError(dict, name);
}

bool has_entries(PyObject *dict) {
    return dict != nullptr && (!PyDict_Check(dict) || PyDict_GET_SIZE(dict) > 0);
}

/* What quantize() has told; zeros if nothing. False for what it cannot have been. */
bool read_stored(PyObject *dict, int64_t (&stored)[3]) {
    PyObject *told = get(dict, names[STORED]);
    for (Py_ssize_t i = 0; told != nullptr && i < 3; i++) {
        if (!PyTuple_Check(told) || PyTuple_GET_SIZE(told) != 3) {
            return false;
        }
        stored[i] = PyLong_AsLongLong(PyTuple_GET_ITEM(told, i));
    }
    return true;
}

/* Whether a module has thresholds, which are a buffer or a parameter. */
bool has_thresholds(PyObject *dict) {
    for (Name where : {BUFFERS, PARAMETERS}) {
        PyObject *thresholds = get(get(dict, names[where]), names[THRESHOLDS_NAME]);
        if (thresholds != nullptr && thresholds != Py_None) {
            return true;
        }
    }
    return false;
}

/* A module whose forward() is the operator's and nothing else. */
struct Plain {
    PyObject *input_weight = nullptr, *bias = nullptr, *output_weight = nullptr; /* borrowed */
    int64_t numbers[5] = {};
    int64_t stored[3] = {}; /* of input rows, of output rows, exact routes */
    bool unsqueeze = false; /* the output is (..., 1, width) */

    /* False for anything else: training, weights that are not plain parameters. */
    bool read(PyObject *dict) {
        PyObject *plan = get(dict, names[PLAN]);
        if (get(dict, names[TRAINING]) != Py_False || plan == nullptr || !PyTuple_Check(plan) ||
            PyTuple_GET_SIZE(plan) != 5 || has_thresholds(dict)) {
            return false;
        }
        for (Py_ssize_t i = 0; i < 5; i++) {
            numbers[i] = PyLong_AsLongLong(PyTuple_GET_ITEM(plan, i));
        }
        if (!read_stored(dict, stored)) {
            return false;
        }
        if (numbers[4] != 0) { /* node-major */
            PyObject *direct = get(dict, names[DIRECT]), *parameters = get(dict, names[PARAMETERS]);
            if (direct == nullptr || !PyTuple_Check(direct) || PyTuple_GET_SIZE(direct) != 4) {
                return false;
            }
            PyObject *bias_name = PyTuple_GET_ITEM(direct, 1);
            input_weight = get(parameters, PyTuple_GET_ITEM(direct, 0));
            bias = bias_name == Py_None ? Py_None : get(parameters, bias_name);
            output_weight = get(parameters, PyTuple_GET_ITEM(direct, 2));
            unsqueeze = PyTuple_GET_ITEM(direct, 3) == Py_True;
        } else {
            PyObject *modules = get(dict, names[MODULES]);
            PyObject *in = get(modules, names[LINEAR_IN]), *out = get(modules, names[LINEAR_OUT]);
            if (in == nullptr || out == nullptr || reinterpret_cast<PyObject *>(Py_TYPE(in)) != linear_type ||
                reinterpret_cast<PyObject *>(Py_TYPE(out)) != linear_type) {
                return false;
            }
            THPObjectPtr in_dict(PyObject_GenericGetDict(in, nullptr)), out_dict(PyObject_GenericGetDict(out, nullptr));
            PyObject *into = get(in_dict, names[PARAMETERS]), *onto = get(out_dict, names[PARAMETERS]);
            input_weight = get(into, names[WEIGHT]);
            bias = get(into, names[BIAS]);
            output_weight = get(onto, names[BIAS]) == Py_None ? get(onto, names[WEIGHT]) : nullptr;
        }
        return input_weight != nullptr && THPVariable_Check(input_weight) && output_weight != nullptr &&
               THPVariable_Check(output_weight) && bias != nullptr && (bias == Py_None || THPVariable_Check(bias));
    }
};

/* Likewise a module of leaves or of several parts, for fff::forest. */
struct Listed {
    std::vector<at::Tensor> weights;
    std::vector<int64_t> plan;
    c10::optional<at::Tensor> output_bias;
    int64_t stored[3] = {};

    /* False for anything else, as Plain's. Of leaves `_listed` has the names of parameters, and the plan; of a forest
     * it is empty. */
    bool read(PyObject *dict) {
        PyObject *listed = get(dict, names[LISTED]);
        if (listed == nullptr || !PyTuple_Check(listed) || !read_stored(dict, stored)) {
            return false;
        }
        return PyTuple_GET_SIZE(listed) == 0 ? add_forest(dict) : add_leaves(dict, listed);
    }

  private:
    bool add(PyObject *weight) {
        if (weight == nullptr || !THPVariable_Check(weight)) {
            return false;
        }
        weights.push_back(THPVariable_Unpack(weight));
        return true;
    }

    bool add_leaves(PyObject *dict, PyObject *listed) {
        PyObject *parameters = get(dict, names[PARAMETERS]);
        if (get(dict, names[TRAINING]) != Py_False || PyTuple_GET_SIZE(listed) != 2 || has_thresholds(dict)) {
            return false;
        }
        PyObject *of_weights = PyTuple_GET_ITEM(listed, 0), *numbers = PyTuple_GET_ITEM(listed, 1);
        if (!PyTuple_Check(of_weights) || !PyTuple_Check(numbers)) {
            return false;
        }
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(of_weights); i++) {
            if (!add(get(parameters, PyTuple_GET_ITEM(of_weights, i)))) {
                return false;
            }
        }
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(numbers); i++) {
            plan.push_back(PyLong_AsLongLong(PyTuple_GET_ITEM(numbers, i)));
        }
        return true;
    }

    bool add_path_sums(PyObject *dict) {
        Plain plain;
        if (!plain.read(dict) || plain.unsqueeze || !add(plain.input_weight)) {
            return false;
        }
        bool biased = plain.bias != Py_None;
        plan.insert(plan.end(), plain.numbers, plain.numbers + 5);
        plan.insert(plan.end(), {0, PLAIN, 1 << NODES | (biased ? 1 << NODE_BIASES : 0) | 1 << OUTPUTS});
        return (!biased || add(plain.bias)) && add(plain.output_weight);
    }

    bool add_forest(PyObject *dict) {
        PyObject *list = get(get(dict, names[MODULES]), names[PARTS]),
                 *bias = get(get(dict, names[PARAMETERS]), names[OUTPUT_BIAS]);
        if (get(dict, names[TRAINING]) != Py_False || list == nullptr || bias == nullptr) {
            return false;
        }
        THPObjectPtr list_dict(PyObject_GenericGetDict(list, nullptr));
        PyObject *parts = get(list_dict, names[MODULES]), *name, *part;
        if (parts == nullptr || !PyDict_Check(parts)) {
            return false;
        }
        for (Py_ssize_t at = 0; PyDict_Next(parts, &at, &name, &part) != 0;) {
            THPObjectPtr part_dict(PyObject_GenericGetDict(part, nullptr));
            PyObject *listed = part_dict ? get(part_dict, names[LISTED]) : nullptr;
            bool leaves = listed != nullptr && PyTuple_Check(listed) && PyTuple_GET_SIZE(listed) == 2;
            if (!part_dict || !(leaves ? add_leaves(part_dict, listed) : add_path_sums(part_dict))) {
                return false;
            }
        }
        if (bias != Py_None) {
            if (!THPVariable_Check(bias)) {
                return false;
            }
            output_bias = THPVariable_Unpack(bias);
        }
        return true;
    }
};

/* Whether calling a module of ours means forward() and nothing else: no hooks, no other forward() or compiled one put
 * on it, or on its type. */
bool only_forward(PyTypeObject *type, PyObject *dict) {
    PyObject *compiled = get(dict, names[COMPILED]);
    std::pair<PyTypeObject *, PyObject *> usual(type, _PyType_Lookup(type, names[FORWARD]));
    return std::find(known_types.begin(), known_types.end(), usual) != known_types.end() &&
           get(dict, names[FORWARD]) == nullptr && (compiled == nullptr || compiled == Py_None) &&
           std::none_of(hook_names.begin(), hook_names.end(),
                        [&](PyObject *name) { return has_entries(get(dict, name)); }) &&
           std::none_of(global_hooks.begin(), global_hooks.end(), has_entries);
}

} // namespace

#endif
