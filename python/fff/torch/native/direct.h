/* The short way from a call of a module in Python to its operator. */
#ifndef FFF_TORCH_DIRECT_H
#define FFF_TORCH_DIRECT_H

#include <Python.h>

#include <ATen/ATen.h>
#include <ATen/PythonTorchFunctionTLS.h>
#include <ATen/TracerMode.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/Exceptions.h>

#include <algorithm>

#include "inference.h"
#include "modules.h"

namespace {

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
        PyObject *y = dict && only_forward(Py_TYPE(module), dict) ? direct(dict, PyTuple_GET_ITEM(args, 0)) : nullptr;
        if (y != nullptr || PyErr_Occurred()) {
            return y;
        }
    }
    return usual_call(module, args, kwargs);
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
        known_types.emplace_back(type, new_reference(_PyType_Lookup(type, names[FORWARD])));
        usual_call = type->tp_call;
        type->tp_call = call_slot;
        PyType_Modified(type);
    }
    Py_RETURN_NONE;
}

} // namespace

#endif
