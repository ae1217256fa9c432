/* The operators fff::forward and fff::route, fff::forest and fff::forest_route for layers of any parts, and fff::train,
 * fff::backward and fff::backward_rows for training, for PyTorch 1.13 and later; and the module that Python imports.
 * What they do is in the headers: inference.h, train.h, and direct.h, the short way to them from Python.
 *
 * An operator is given the weights as tensors, so that exported and compiled programs are self-contained. The layers
 * packed from them are cached (packed.h): a call packs only if it has not seen these weights, or if they have changed.
 */
#include <Python.h>

#include <torch/csrc/Exceptions.h>
#include <torch/csrc/autograd/python_variable.h>
#include <torch/library.h>

#include <utility>

#include "direct.h"
#include "inference.h"
#include "library.h"
#include "packed.h"
#include "train.h"
#include "watch.h"

namespace {

/* ---- Registration ---------------------------------------------------------------------------- */

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

/* ---- For Python ------------------------------------------------------------------------------ */

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
    return intern_names() ? PyModule_Create(&definition) : nullptr;
}
