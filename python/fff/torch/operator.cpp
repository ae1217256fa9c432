/* The operators fff::forward and fff::route, fff::forest and fff::forest_route for layers of any parts, and fff::train,
 * fff::backward and fff::backward_rows for training, for PyTorch 1.13 and later, and the short way to them from Python.
 *
 * An operator is given the weights as tensors, so that exported and compiled programs are self-contained. The layers
 * packed from them are cached (packed.h): a call packs only if it has not seen these weights, or if they have changed.
 */
#include <Python.h>

#include <ATen/ATen.h>
#include <ATen/PythonTorchFunctionTLS.h>
#include <ATen/TracerMode.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/autograd/python_variable.h>
#include <torch/csrc/utils/object_ptr.h>
#include <torch/library.h>

#include <algorithm>
#include <vector>

#include "calls.h"
#include "library.h"
#include "packed.h"
#include "train.h"
#include "watch.h"

namespace {

#define FFF_ARGUMENTS                                                                                                  \
    "(Tensor x, Tensor input_weight, Tensor? bias, Tensor output_weight, int depth, int trees=1, int activation=0, "   \
    "int routing=0, bool node_major=False, int store_input=0, int store_output=0, bool exact_routes=False"

#define FFF_FOREST                                                                                                     \
    "(Tensor x, Tensor[] weights, int[] plan, Tensor? output_bias=None, int store_input=0, int store_output=0, "       \
    "bool exact_routes=False"

#define FFF_PLAN "int depth, int trees=1, int activation=0, int routing=0, bool node_major=False"

#define FFF_TRAIN                                                                                                      \
    "(Tensor x, Tensor input_weight, Tensor? bias, Tensor output_weight, " FFF_PLAN ", Tensor? thresholds=None) -> "   \
    "(Tensor, Tensor, Tensor)"

#define FFF_BACKWARD                                                                                                   \
    "(Tensor grad, Tensor x, Tensor input_weight, Tensor? bias, Tensor output_weight, Tensor nodes, Tensor "           \
    "logits, " FFF_PLAN ", int wanted=15) -> (Tensor, Tensor, Tensor, Tensor"

TORCH_LIBRARY(fff, m) {
    m.def("forward" FFF_ARGUMENTS ") -> Tensor");
    m.def("forward.out" FFF_ARGUMENTS ", *, Tensor(a!) out) -> ()");
    m.def("route" FFF_ARGUMENTS ") -> (Tensor, Tensor)");
    m.def("forest" FFF_FOREST ") -> Tensor");
    m.def("forest.out" FFF_FOREST ", *, Tensor(a!) out) -> ()");
    m.def("forest_route" FFF_FOREST ") -> (Tensor, Tensor)");
    m.def("train" FFF_TRAIN);
    m.def("backward" FFF_BACKWARD ")");
    m.def("backward_rows" FFF_BACKWARD ", Tensor)");
}

TORCH_LIBRARY_IMPL(fff, CPU, m) {
    m.impl("forward", TORCH_FN(forward));
    m.impl("forward.out", TORCH_FN(forward_out));
    m.impl("route", TORCH_FN(route));
    m.impl("forest", TORCH_FN(forest));
    m.impl("forest.out", TORCH_FN(forest_out));
    m.impl("forest_route", TORCH_FN(forest_route));
    m.impl("train", TORCH_FN(train));
    m.impl("backward", TORCH_FN(backward));
    m.impl("backward_rows", TORCH_FN(backward_rows));
}

/* ---- Python ---------------------------------------------------------------------------------- */

/* What open() was given, and interned names. */
PyObject *linear_type;
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

/* Python's lock is free while this lives. */
struct Unlocked {
    PyThreadState *state = PyEval_SaveThread();
    Unlocked() = default;
    Unlocked(const Unlocked &) = delete;
    Unlocked &operator=(const Unlocked &) = delete;
    ~Unlocked() {
        PyEval_RestoreThread(state);
    }
};

constexpr int64_t FEW_TOKENS = 4;

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
 * on it. */
bool only_forward(PyObject *dict) {
    PyObject *compiled = get(dict, names[COMPILED]);
    return get(dict, names[FORWARD]) == nullptr && (compiled == nullptr || compiled == Py_None) &&
           std::none_of(hook_names.begin(), hook_names.end(),
                        [&](PyObject *name) { return has_entries(get(dict, name)); }) &&
           std::none_of(global_hooks.begin(), global_hooks.end(), has_entries);
}

/* Whether a derivative of a tensor is wanted, in reverse or forward mode. */
bool differentiated(const at::Tensor &tensor) {
    return (at::GradMode::is_enabled() && tensor.requires_grad()) || tensor._fw_grad(0).defined();
}

/* Whether somebody follows what is computed: functions that override PyTorch's, torch.func, torch.jit.trace. */
bool observed() {
    return at::impl::PythonTorchFunctionTLS::stack_len() > 0 || at::tracer::impl::is_dispatch_enabled() ||
           c10::impl::tls_is_dispatch_key_included(c10::DispatchKey::FuncTorchDynamicLayerFrontMode);
}

/* Calls call() without derivatives, and for more than a few tokens without Python's lock. */
template <typename Call> at::Tensor below_autograd(const at::Tensor &x, const Call &call) {
    c10::optional<Unlocked> unlocked; /* for a few tokens that would take a good part of the time that they take */
    if (x.dim() > 0 && x.numel() > FEW_TOKENS * x.size(-1)) {
        unlocked.emplace();
    }
    at::AutoDispatchBelowADInplaceOrView guard; /* no gradient is wanted, and the way to one is through Python */
    return call();
}

/* direct() for fff::forest. */
PyObject *direct_forest(PyObject *dict, PyObject *input) {
    HANDLE_TH_ERRORS
    Listed listed;
    if (!listed.read(dict)) {
        return nullptr;
    }
    const at::Tensor x = THPVariable_Unpack(input);
    if (differentiated(x) || std::any_of(listed.weights.begin(), listed.weights.end(), differentiated) ||
        (listed.output_bias.has_value() && differentiated(*listed.output_bias))) {
        return nullptr;
    }
    static const auto operation =
        c10::Dispatcher::singleton().findSchemaOrThrow("fff::forest", "").typed<decltype(forest)>();
    return THPVariable_Wrap(below_autograd(x, [&] {
        return operation.call(x, listed.weights, listed.plan, listed.output_bias, listed.stored[0], listed.stored[1],
                              listed.stored[2] != 0);
    }));
    END_HANDLE_TH_ERRORS
}

/* The module's output by PyTorch's dispatcher, but without torch.ops' way through Python, which takes longer than the
 * kernel does for a token. Null without an error where anything asks for more than that: derivatives, training, tensor
 * subclasses, an observer. */
PyObject *direct(PyObject *dict, PyObject *input) {
    HANDLE_TH_ERRORS
    Plain plain;
    if (!THPVariable_CheckExact(input) || observed()) {
        return nullptr;
    }
    if (get(dict, names[LISTED]) != nullptr) {
        return direct_forest(dict, input);
    }
    if (!plain.read(dict)) {
        return nullptr;
    }
    const at::Tensor x = THPVariable_Unpack(input); /* these hold what Python may let go of meanwhile */
    const at::Tensor input_weight = THPVariable_Unpack(plain.input_weight);
    const at::Tensor output_weight = THPVariable_Unpack(plain.output_weight);
    c10::optional<at::Tensor> bias;
    if (plain.bias != Py_None) {
        bias = THPVariable_Unpack(plain.bias);
    }
    if (differentiated(x) || differentiated(input_weight) || differentiated(output_weight) ||
        (bias.has_value() && differentiated(*bias))) {
        return nullptr;
    }
    static const auto operation =
        c10::Dispatcher::singleton().findSchemaOrThrow("fff::forward", "").typed<decltype(forward)>();
    at::Tensor y = below_autograd(x, [&] {
        at::Tensor made = operation.call(x, input_weight, bias, output_weight, plain.numbers[0], plain.numbers[1],
                                         plain.numbers[2], plain.numbers[3], plain.numbers[4] != 0, plain.stored[0],
                                         plain.stored[1], plain.stored[2] != 0);
        return plain.unsqueeze ? made.unsqueeze(-2) : made;
    });
    return THPVariable_Wrap(std::move(y));
    END_HANDLE_TH_ERRORS
}

/* call(module, x), for forward(): the output, or NotImplemented where it takes torch.ops or dense(). */
PyObject *call(PyObject *, PyObject *const *args, Py_ssize_t count) {
    if (count != 2) {
        return PyErr_Format(PyExc_TypeError, "call(module, x)");
    }
    THPObjectPtr dict(PyObject_GenericGetDict(args[0], nullptr));
    PyObject *y = dict ? direct(dict, args[1]) : nullptr;
    return y == nullptr && !PyErr_Occurred() ? new_reference(Py_NotImplemented) : y;
}

ternaryfunc usual_call; /* Python's: looks up __call__, nn.Module's, and calls it */

/* The slot behind module(x), for our own types. nn.Module.__call__ and a forward() in Python take half as long as the
 * kernel does for a token; where they would do nothing but that, they are left out. Python itself puts the usual
 * function back in the slot if somebody replaces nn.Module.__call__, as torch.fx does, and gives it to subclasses. */
PyObject *call_slot(PyObject *module, PyObject *args, PyObject *kwargs) {
    if (PyTuple_GET_SIZE(args) == 1 && (kwargs == nullptr || PyDict_GET_SIZE(kwargs) == 0)) {
        THPObjectPtr dict(PyObject_GenericGetDict(module, nullptr));
        PyObject *y = dict && only_forward(dict) ? direct(dict, PyTuple_GET_ITEM(args, 0)) : nullptr;
        if (y != nullptr || PyErr_Occurred()) {
            return y;
        }
    }
    return usual_call(module, args, kwargs);
}

/* open(path of libfff): before anything else. */
PyObject *open(PyObject *, PyObject *path) {
    HANDLE_TH_ERRORS
    const char *text = PyUnicode_AsUTF8(path);
    if (text == nullptr) {
        return nullptr;
    }
    open_library(text);
    Py_RETURN_NONE;
    END_HANDLE_TH_ERRORS
}

/* know(torch.nn.Linear, torch.nn.modules.module's globals, types...): our types of module, called by the slot above. */
PyObject *know(PyObject *, PyObject *const *args, Py_ssize_t count) {
    if (count < 2 || !PyDict_Check(args[1])) {
        return PyErr_Format(PyExc_TypeError, "know(Linear, globals, types...)");
    }
    linear_type = new_reference(args[0]);
    for (const char *text : global_hook_texts) {
        PyObject *hooks = PyDict_GetItemString(args[1], text);
        if (hooks != nullptr) { /* 1.13 lacks one */
            global_hooks.push_back(new_reference(hooks));
        }
    }
    for (Py_ssize_t i = 2; i < count; i++) {
        if (!PyType_Check(args[i])) {
            return PyErr_Format(PyExc_TypeError, "a type is wanted");
        }
        auto *type = reinterpret_cast<PyTypeObject *>(args[i]);
        usual_call = type->tp_call;
        type->tp_call = call_slot;
        PyType_Modified(type);
    }
    Py_RETURN_NONE;
}

/* release(tensor): frees the layers packed from its memory, and those whose weights are gone; release(None): all. */
PyObject *release(PyObject *, PyObject *tensor) {
    HANDLE_TH_ERRORS
    TORCH_CHECK_TYPE(tensor == Py_None || THPVariable_Check(tensor), "release(tensor or None)");
    if (tensor == Py_None) {
        packed<Arguments>().release_all();
        packed<Forest>().release_all();
    } else if (THPVariable_Unpack(tensor).has_storage()) {
        const c10::StorageImpl *storage = THPVariable_Unpack(tensor).storage().unsafeGetStorageImpl();
        packed<Arguments>().release(storage);
        packed<Forest>().release(storage);
    }
    Py_RETURN_NONE;
    END_HANDLE_TH_ERRORS
}

/* packed(): how many layers are held, and their bytes. */
PyObject *count_and_bytes(PyObject *, PyObject *) {
    HANDLE_TH_ERRORS
    std::pair<size_t, size_t> trees = packed<Arguments>().count_and_bytes(),
                              forests = packed<Forest>().count_and_bytes();
    return Py_BuildValue("(nn)", static_cast<Py_ssize_t>(trees.first + forests.first),
                         static_cast<Py_ssize_t>(trees.second + forests.second));
    END_HANDLE_TH_ERRORS
}

/* watch(0: PyTorch's count of writes, 1: a sample, 2: all elements). */
PyObject *set_watch(PyObject *, PyObject *how) {
    HANDLE_TH_ERRORS
    long number = PyLong_AsLong(how);
    TORCH_CHECK_VALUE(number >= 0 && number <= 2, "watch(0, 1 or 2)");
    watch = static_cast<Watch>(number);
    Py_RETURN_NONE;
    END_HANDLE_TH_ERRORS
}

PyMethodDef methods[] = {
    {"open", open, METH_O, nullptr},
    {"know", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(know)), METH_FASTCALL, nullptr},
    {"call", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(call)), METH_FASTCALL, nullptr},
    {"release", release, METH_O, nullptr},
    {"watch", set_watch, METH_O, nullptr},
    {"packed", count_and_bytes, METH_NOARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_fff_operator", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

} // namespace

PyMODINIT_FUNC PyInit__fff_operator() {
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
    return made ? PyModule_Create(&definition) : nullptr;
}
