/* The operators fff::forward and fff::route for PyTorch 1.13 and later, and the short way to them from Python.
 *
 * An operator is given the weights as tensors, so that exported and compiled programs are self-contained. The layers
 * packed from them are cached (Packed, below): a call packs only if it has not seen these weights, or if they have
 * changed. libfff itself is opened at run time, since it is the file that the Python package has loaded.
 */
#include <Python.h>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/PythonTorchFunctionTLS.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/StorageImpl.h>
#include <dlfcn.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/autograd/python_variable.h>
#include <torch/csrc/utils/object_ptr.h>
#include <torch/library.h>

#include <array>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <tuple>
#include <vector>

#include "fff/fff.h"

namespace {

/* ---- libfff ---------------------------------------------------------------------------------- */

struct Library {
    decltype(&fff_version) version;
    decltype(&fff_status_text) status_text;
    decltype(&fff_layer_create) layer_create;
    decltype(&fff_layer_destroy) layer_destroy;
    decltype(&fff_layer_memory) layer_memory;
    decltype(&fff_layer_path_length) layer_path_length;
    decltype(&fff_nodes_per_tree) nodes_per_tree;
    decltype(&fff_workspace_size) workspace_size;
    decltype(&fff_forward) forward;
    decltype(&fff_route) route;
};

Library library; /* set once, by open_library(), under Python's lock, before the operators can be called */

void open_library(const char *path) {
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    TORCH_CHECK(handle != nullptr, "libfff cannot be loaded: ", dlerror());
    Library found;
    auto find = [&](const char *name, auto &function) {
        function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(handle, name));
        TORCH_CHECK(function != nullptr, path, " is older than this package: it lacks ", name, "()");
    };
    find("fff_version", found.version);
    find("fff_status_text", found.status_text);
    find("fff_layer_create", found.layer_create);
    find("fff_layer_destroy", found.layer_destroy);
    find("fff_layer_memory", found.layer_memory);
    find("fff_layer_path_length", found.layer_path_length);
    find("fff_nodes_per_tree", found.nodes_per_tree);
    find("fff_workspace_size", found.workspace_size);
    find("fff_forward", found.forward);
    find("fff_route", found.route);
    int major = 0, minor = 0;
    int read = sscanf(found.version(), "%d.%d", &major, &minor);
    TORCH_CHECK(read == 2 && major == FFF_VERSION_MAJOR && minor >= FFF_VERSION_MINOR, path, " is libfff ",
                found.version(), ", where this package wants ", FFF_VERSION_MAJOR, ".", FFF_VERSION_MINOR,
                " or a later minor version");
    library = found;
}

void check(fff_status status, const char *what) {
    TORCH_CHECK(status == FFF_OK, what, ": ", library.status_text(status));
}

/* ---- What an operator is given --------------------------------------------------------------- */

struct Arguments {
    const at::Tensor &input_weight;        /* trees * nodes x input width */
    const c10::optional<at::Tensor> &bias; /* trees * nodes */
    const at::Tensor &output_weight;       /* output width x trees * nodes; if node_major, trees * nodes x output width */
    int64_t depth, trees, activation, routing;
    bool node_major;

    bool has_bias() const { return bias.has_value() && bias->defined(); }
    int64_t input_width() const { return input_weight.size(1); }
    int64_t output_width() const { return output_weight.size(node_major ? 1 : 0); }
};

void check_tensor(const at::Tensor &tensor, const char *name) {
    TORCH_CHECK_TYPE(tensor.scalar_type() == at::kFloat, name, " has dtype ", tensor.dtype(),
                     ", where fff's kernels take float32 alone (the modules' method dense() takes any)");
    TORCH_CHECK_TYPE(tensor.device().is_cpu() && tensor.layout() == at::kStrided, name, " is on ", tensor.device(),
                     " with layout ", tensor.layout(), ", where fff's kernels take dense tensors on the CPU alone");
}

void check_arguments(const Arguments &a) {
    check_tensor(a.input_weight, "input_weight");
    check_tensor(a.output_weight, "output_weight");
    TORCH_CHECK_VALUE(a.depth >= 0 && a.depth <= FFF_MAX_DEPTH, "depth ", a.depth, " is not from 0 to ", FFF_MAX_DEPTH);
    TORCH_CHECK_VALUE(a.trees >= 1 && a.trees <= UINT32_MAX, "there are ", a.trees, " trees");
    TORCH_CHECK_VALUE(a.activation >= 0 && a.activation < FFF_ACTIVATION_COUNT, "activation ", a.activation,
                      " is not from 0 to ", FFF_ACTIVATION_COUNT - 1);
    TORCH_CHECK_VALUE(a.routing == FFF_ROUTING_GREATER || a.routing == FFF_ROUTING_GREATER_EQUAL, "routing ", a.routing,
                      " is not 0 or 1");
    int64_t rows = a.trees * static_cast<int64_t>(library.nodes_per_tree(static_cast<size_t>(a.depth)));
    TORCH_CHECK_VALUE(a.input_weight.dim() == 2 && a.input_weight.size(0) == rows, "input_weight has shape ",
                      a.input_weight.sizes(), ", where ", a.trees, " trees of depth ", a.depth, " want ", rows, " rows");
    TORCH_CHECK_VALUE(a.output_weight.dim() == 2 && a.output_weight.size(a.node_major ? 0 : 1) == rows,
                      "output_weight has shape ", a.output_weight.sizes(), ", where ", a.trees, " trees of depth ",
                      a.depth, " want ", rows, a.node_major ? " rows" : " columns");
    if (a.has_bias()) {
        check_tensor(*a.bias, "bias");
        TORCH_CHECK_VALUE(a.bias->dim() == 1 && a.bias->size(0) == rows, "bias has shape ", a.bias->sizes(), ", not [",
                          rows, "]");
    }
}

/* ---- Packed layers --------------------------------------------------------------------------- */

struct Layer {
    fff_layer *layer = nullptr;
    size_t path_length = 0;
    Layer() = default;
    Layer(const Layer &) = delete;
    Layer &operator=(const Layer &) = delete;
    ~Layer() {
        if (layer != nullptr) {
            library.layer_destroy(layer);
        }
    }
};

/* Copies and packs the weights: milliseconds. */
std::shared_ptr<const Layer> pack(const Arguments &a) {
    check_arguments(a);
    at::Tensor bias = a.has_bias() ? a.bias->contiguous() : at::Tensor();
    fff_layer_desc desc{};
    desc.struct_size = sizeof desc;
    desc.input_width = static_cast<size_t>(a.input_width());
    desc.output_width = static_cast<size_t>(a.output_width());
    desc.depth = static_cast<size_t>(a.depth);
    desc.trees = static_cast<size_t>(a.trees);
    desc.activation = static_cast<fff_activation>(a.activation);
    desc.routing = static_cast<fff_routing>(a.routing);
    auto view = [](const at::Tensor &weight, int64_t nodes, int64_t columns) {
        return fff_weights{weight.data_ptr(), static_cast<size_t>(weight.stride(nodes)),
                           static_cast<size_t>(weight.stride(columns))};
    };
    desc.input_weights = view(a.input_weight, 0, 1);
    desc.output_weights = a.node_major ? view(a.output_weight, 0, 1) : view(a.output_weight, 1, 0);
    desc.biases = bias.defined() ? bias.data_ptr<float>() : nullptr;
    auto result = std::make_shared<Layer>();
    check(library.layer_create(&desc, &result->layer), "fff_layer_create");
    result->path_length = library.layer_path_length(result->layer);
    return result;
}

/* Which memory a weight lies in and how, and what is cheap to know of its content. */
struct Weight {
    const void *data = nullptr;
    const c10::StorageImpl *storage = nullptr; /* held weakly beside it, so that no other can have its address */
    uint32_t version = 0;                      /* counts writes by PyTorch; tensors made in inference mode have none */
    std::array<uint32_t, 3> samples{};         /* bits of elements: see changes that go past the version, by `.data` */
    std::array<int64_t, 4> layout{};           /* sizes and strides */

    explicit Weight(const at::Tensor &tensor) {
        data = tensor.data_ptr();
        storage = tensor.storage().unsafeGetStorageImpl();
        version = tensor.is_inference() ? 0 : static_cast<uint32_t>(tensor._version());
        int64_t last = 0;
        for (int64_t d = 0; d < tensor.dim() && d < 2; d++) {
            layout[2 * d] = tensor.size(d);
            layout[2 * d + 1] = tensor.stride(d);
            last += (tensor.size(d) - 1) * tensor.stride(d);
        }
        if (tensor.numel() > 0) { /* the first element is the root's */
            const char *bytes = static_cast<const char *>(data);
            const size_t at[] = {0, static_cast<size_t>(last / 2), static_cast<size_t>(last)};
            for (size_t i = 0; i < samples.size(); i++) {
                std::memcpy(&samples[i], bytes + at[i] * sizeof(float), sizeof(float));
            }
        }
    }
    Weight() = default;
    bool same(const Weight &other) const {
        return data == other.data && storage == other.storage && version == other.version && samples == other.samples &&
               layout == other.layout;
    }
};

struct Key {
    const void *input_weight, *bias, *output_weight;
    int64_t depth, trees, activation, routing, node_major;
    bool operator<(const Key &other) const {
        return std::tie(input_weight, bias, output_weight, depth, trees, activation, routing, node_major) <
               std::tie(other.input_weight, other.bias, other.output_weight, other.depth, other.trees, other.activation,
                        other.routing, other.node_major);
    }
};

using WeakStorage = c10::weak_intrusive_ptr<c10::StorageImpl>;

struct Entry {
    std::array<Weight, 3> weights;
    std::vector<WeakStorage> storages;
    std::shared_ptr<const Layer> layer;
};

/* A packed layer stays until its weights' memory is freed (noticed when the next one is packed), until they change, or
 * until release(). A call that is under way keeps its own. */
class Packed {
  public:
    std::shared_ptr<const Layer> find(const Arguments &a) {
        check_tensor(a.input_weight, "input_weight"); /* before their memory is looked at */
        check_tensor(a.output_weight, "output_weight");
        if (a.has_bias()) {
            check_tensor(*a.bias, "bias");
        }
        std::array<Weight, 3> now{Weight(a.input_weight), a.has_bias() ? Weight(*a.bias) : Weight(),
                                  Weight(a.output_weight)};
        Key key{now[0].data, now[1].data, now[2].data, a.depth, a.trees, a.activation, a.routing, a.node_major};
        {
            std::shared_lock<std::shared_mutex> lock(mutex_);
            auto found = entries_.find(key);
            if (found != entries_.end() && found->second.weights[0].same(now[0]) &&
                found->second.weights[1].same(now[1]) && found->second.weights[2].same(now[2])) {
                return found->second.layer;
            }
        }
        release(nullptr); /* of weights that are gone */
        Entry entry{now, {}, pack(a)};
        entry.storages.push_back(a.input_weight.storage().getWeakStorageImpl());
        entry.storages.push_back(a.output_weight.storage().getWeakStorageImpl());
        if (a.has_bias()) {
            entry.storages.push_back(a.bias->storage().getWeakStorageImpl());
        }
        std::shared_ptr<const Layer> layer = entry.layer;
        std::unique_lock<std::shared_mutex> lock(mutex_);
        std::swap(entries_[key], entry); /* the old one, if any, is freed after the lock */
        lock.unlock();
        return layer;
    }

    /* Frees what was packed from memory that is gone, and from `storage`. */
    void release(const c10::StorageImpl *storage) {
        std::vector<Entry> gone;
        std::unique_lock<std::shared_mutex> lock(mutex_);
        for (auto entry = entries_.begin(); entry != entries_.end();) {
            bool stale = false;
            for (const WeakStorage &weak : entry->second.storages) {
                stale |= weak.expired();
            }
            for (const Weight &weight : entry->second.weights) {
                stale |= storage != nullptr && weight.storage == storage;
            }
            if (stale) {
                gone.push_back(std::move(entry->second));
                entry = entries_.erase(entry);
            } else {
                ++entry;
            }
        }
        lock.unlock(); /* `gone` is freed after it */
    }

    void release_all() {
        std::map<Key, Entry> gone;
        std::unique_lock<std::shared_mutex> lock(mutex_);
        std::swap(entries_, gone);
        lock.unlock();
    }

    std::pair<size_t, size_t> count_and_bytes() {
        std::shared_lock<std::shared_mutex> lock(mutex_);
        size_t bytes = 0;
        for (const auto &entry : entries_) {
            bytes += library.layer_memory(entry.second.layer->layer);
        }
        return {entries_.size(), bytes};
    }

  private:
    std::shared_mutex mutex_;
    std::map<Key, Entry> entries_;
};

Packed &packed() {
    static Packed *const all = new Packed; /* never destroyed: libfff may be gone by then */
    return *all;
}

/* ---- Calls ----------------------------------------------------------------------------------- */

/* Rows of tokens as fff_forward() takes them. */
struct Tokens {
    at::Tensor held;
    const float *data;
    size_t batch, stride;
};

Tokens tokens(const at::Tensor &x, int64_t width) {
    check_tensor(x, "x");
    TORCH_CHECK_VALUE(x.dim() >= 1 && x.size(-1) == width, "x has shape ", x.sizes(), ", not [..., ", width, "]");
    bool rows = x.dim() == 2 && x.stride(1) == 1 && x.stride(0) >= width; /* any stride between them */
    at::Tensor held = rows ? x : x.contiguous();
    size_t batch = width == 0 ? 0 : static_cast<size_t>(held.numel() / width);
    return {held, held.data_ptr<float>(), batch, static_cast<size_t>(rows ? x.stride(0) : width)};
}

/* This thread's scratch; grows, up to the bound that fff_workspace_size() has, and is freed with the thread. */
void *scratch(size_t size) {
    thread_local std::vector<char> memory;
    if (memory.size() < size) {
        memory.resize(size);
    }
    return memory.data();
}

/* Tasks on PyTorch's own threads. */
void run_tasks(void *, size_t count, void (*task)(void *, size_t), void *argument) {
    at::parallel_for(0, static_cast<int64_t>(count), 1, [=](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++) {
            task(argument, static_cast<size_t>(i));
        }
    });
}

/* Calls call(workspace, size, runner) as torch.set_num_threads() and the amount of work ask for. */
template <typename Call> void with_workspace(const Layer &layer, size_t batch, size_t widths, const Call &call) {
    constexpr size_t LEAST_WORK = 1 << 18; /* multiplications: some 30 us, several times what threads cost */
    int64_t threads = at::in_parallel_region() ? 1 : at::get_num_threads();
    size_t concurrency = batch * layer.path_length * widths < LEAST_WORK ? 1 : static_cast<size_t>(threads);
    size_t size = 0;
    check(library.workspace_size(layer.layer, batch, concurrency, &size), "fff_workspace_size");
    fff_runner runner{run_tasks, nullptr, concurrency};
    call(scratch(size), size, concurrency > 1 ? &runner : nullptr);
}

std::vector<int64_t> shape(const at::Tensor &x, std::initializer_list<int64_t> last) {
    std::vector<int64_t> sizes(x.sizes().begin(), x.sizes().end() - 1);
    sizes.insert(sizes.end(), last);
    return sizes;
}

at::Tensor forward(const at::Tensor &x, const at::Tensor &input_weight, const c10::optional<at::Tensor> &bias,
                   const at::Tensor &output_weight, int64_t depth, int64_t trees, int64_t activation, int64_t routing,
                   bool node_major) {
    Arguments a{input_weight, bias, output_weight, depth, trees, activation, routing, node_major};
    std::shared_ptr<const Layer> layer = packed().find(a);
    Tokens in = tokens(x, a.input_width());
    size_t out_width = static_cast<size_t>(a.output_width());
    at::Tensor y = x.dim() == 2 ? at::empty({x.size(0), a.output_width()}, x.options())
                                : at::empty(shape(x, {a.output_width()}), x.options());
    if (in.batch > 0) {
        float *out = y.data_ptr<float>();
        with_workspace(*layer, in.batch, static_cast<size_t>(a.input_width()) + out_width,
                       [&](void *workspace, size_t size, const fff_runner *runner) {
                           check(library.forward(layer->layer, in.batch, in.data, in.stride, out, out_width, workspace,
                                                 size, runner),
                                 "fff_forward");
                       });
    }
    return y;
}

std::tuple<at::Tensor, at::Tensor> route(const at::Tensor &x, const at::Tensor &input_weight,
                                         const c10::optional<at::Tensor> &bias, const at::Tensor &output_weight,
                                         int64_t depth, int64_t trees, int64_t activation, int64_t routing,
                                         bool node_major) {
    Arguments a{input_weight, bias, output_weight, depth, trees, activation, routing, node_major};
    std::shared_ptr<const Layer> layer = packed().find(a);
    Tokens in = tokens(x, a.input_width());
    std::vector<int64_t> sizes = shape(x, {trees, depth + 1});
    at::Tensor nodes = at::empty(sizes, x.options().dtype(at::kInt)), logits = at::empty(sizes, x.options());
    if (in.batch > 0) {
        auto *node = reinterpret_cast<uint32_t *>(nodes.data_ptr<int32_t>()); /* below 2^31: depth is at most 30 */
        float *logit = logits.data_ptr<float>();
        size_t length = layer->path_length;
        with_workspace(*layer, in.batch, static_cast<size_t>(a.input_width()),
                       [&](void *workspace, size_t size, const fff_runner *runner) {
                           check(library.route(layer->layer, in.batch, in.data, in.stride, node, length, logit, length,
                                               workspace, size, runner),
                                 "fff_route");
                       });
    }
    return {nodes, logits};
}

#define FFF_ARGUMENTS                                                                                                  \
    "(Tensor x, Tensor input_weight, Tensor? bias, Tensor output_weight, int depth, int trees=1, int activation=0, "   \
    "int routing=0, bool node_major=False)"

TORCH_LIBRARY(fff, m) {
    m.def("forward" FFF_ARGUMENTS " -> Tensor");
    m.def("route" FFF_ARGUMENTS " -> (Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(fff, CPU, m) {
    m.impl("forward", TORCH_FN(forward));
    m.impl("route", TORCH_FN(route));
}

/* ---- Python ---------------------------------------------------------------------------------- */

/* Interned names, and torch.nn.Linear; set by open(). */
PyObject *linear_type, *name_training, *name_plan, *name_modules, *name_parameters, *name_linear_in, *name_linear_out,
    *name_weight, *name_bias, *name_w1s, *name_w2s;

/* An object's attributes: a new reference, or null. */
using Dict = THPObjectPtr;

/* Python's lock is free while this lives. */
struct Unlocked {
    PyThreadState *state = PyEval_SaveThread();
    ~Unlocked() { PyEval_RestoreThread(state); }
};

/* Borrowed: the tensor under that name among a module's own parameters; null if there is none. */
PyObject *parameter(PyObject *dict, PyObject *name) {
    PyObject *parameters = PyDict_GetItemWithError(dict, name_parameters);
    return parameters == nullptr ? nullptr : PyDict_GetItemWithError(parameters, name);
}

/* The module's layer as call() wants it; false if it is not the plain case. */
struct Plain {
    PyObject *input_weight = nullptr, *bias = nullptr, *output_weight = nullptr;
    int64_t numbers[5];

    bool read(PyObject *module) {
        Dict dict(PyObject_GenericGetDict(module, nullptr));
        if (!dict || PyDict_GetItemWithError(dict, name_training) != Py_False) {
            return false;
        }
        PyObject *plan = PyDict_GetItemWithError(dict, name_plan);
        if (plan == nullptr || !PyTuple_Check(plan) || PyTuple_GET_SIZE(plan) != 5) {
            return false;
        }
        for (Py_ssize_t i = 0; i < 5; i++) {
            numbers[i] = PyLong_AsLongLong(PyTuple_GET_ITEM(plan, i));
        }
        if (numbers[4] != 0) { /* node-major: w1s, w2s */
            input_weight = parameter(dict, name_w1s);
            output_weight = parameter(dict, name_w2s);
            bias = Py_None;
        } else {
            PyObject *modules = PyDict_GetItemWithError(dict, name_modules);
            PyObject *in = modules == nullptr ? nullptr : PyDict_GetItemWithError(modules, name_linear_in);
            PyObject *out = modules == nullptr ? nullptr : PyDict_GetItemWithError(modules, name_linear_out);
            if (in == nullptr || out == nullptr || reinterpret_cast<PyObject *>(Py_TYPE(in)) != linear_type ||
                reinterpret_cast<PyObject *>(Py_TYPE(out)) != linear_type) {
                return false;
            }
            Dict in_dict(PyObject_GenericGetDict(in, nullptr)), out_dict(PyObject_GenericGetDict(out, nullptr));
            if (!in_dict || !out_dict || parameter(out_dict, name_bias) != Py_None) {
                return false;
            }
            input_weight = parameter(in_dict, name_weight);
            bias = parameter(in_dict, name_bias);
            output_weight = parameter(out_dict, name_weight);
        }
        return input_weight != nullptr && THPVariable_Check(input_weight) && output_weight != nullptr &&
               THPVariable_Check(output_weight) && bias != nullptr && (bias == Py_None || THPVariable_Check(bias));
    }
};

/* call(module, x): the module's output, by the dispatcher but without torch.ops' way through Python, which takes longer
 * than the kernel does for a token. NotImplemented, where anything asks for more than that: training, gradients, tensor
 * subclasses, function modes, modules within that are not plain. */
PyObject *call(PyObject *, PyObject *const *args, Py_ssize_t count) {
    HANDLE_TH_ERRORS
    TORCH_CHECK_TYPE(count == 2, "call(module, x)");
    Plain plain;
    if (!THPVariable_CheckExact(args[1]) || at::impl::PythonTorchFunctionTLS::stack_len() > 0 || !plain.read(args[0])) {
        if (PyErr_Occurred()) {
            return nullptr;
        }
        Py_RETURN_NOTIMPLEMENTED;
    }
    const at::Tensor x = THPVariable_Unpack(args[1]);
    const at::Tensor input_weight = THPVariable_Unpack(plain.input_weight);
    const at::Tensor output_weight = THPVariable_Unpack(plain.output_weight);
    c10::optional<at::Tensor> bias;
    if (plain.bias != Py_None) {
        bias = THPVariable_Unpack(plain.bias);
    }
    if (at::GradMode::is_enabled() && (x.requires_grad() || input_weight.requires_grad() ||
                                       output_weight.requires_grad() || (bias.has_value() && bias->requires_grad()))) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    static const auto operation =
        c10::Dispatcher::singleton().findSchemaOrThrow("fff::forward", "").typed<decltype(forward)>();
    at::Tensor y;
    {
        Unlocked unlocked;
        at::AutoDispatchBelowADInplaceOrView guard; /* no gradient is wanted, and the way to one is through Python */
        y = operation.call(x, input_weight, bias, output_weight, plain.numbers[0], plain.numbers[1], plain.numbers[2],
                           plain.numbers[3], plain.numbers[4] != 0);
    }
    return THPVariable_Wrap(std::move(y));
    END_HANDLE_TH_ERRORS
}

/* open(path, torch.nn.Linear): before anything else. */
PyObject *open(PyObject *, PyObject *arguments) {
    HANDLE_TH_ERRORS
    const char *path;
    PyObject *linear;
    if (!PyArg_ParseTuple(arguments, "sO", &path, &linear)) {
        return nullptr;
    }
    open_library(path);
    Py_INCREF(linear);
    linear_type = linear;
    Py_RETURN_NONE;
    END_HANDLE_TH_ERRORS
}

/* release(tensor): frees the layers packed from its memory, and those whose weights are gone; release(None): all. */
PyObject *release(PyObject *, PyObject *tensor) {
    HANDLE_TH_ERRORS
    TORCH_CHECK_TYPE(tensor == Py_None || THPVariable_Check(tensor), "release(tensor or None)");
    if (tensor == Py_None) {
        packed().release_all();
    } else if (THPVariable_Unpack(tensor).has_storage()) {
        packed().release(THPVariable_Unpack(tensor).storage().unsafeGetStorageImpl());
    }
    Py_RETURN_NONE;
    END_HANDLE_TH_ERRORS
}

/* packed(): how many layers are held, and their bytes. */
PyObject *count_and_bytes(PyObject *, PyObject *) {
    HANDLE_TH_ERRORS
    std::pair<size_t, size_t> held = packed().count_and_bytes();
    return Py_BuildValue("(nn)", static_cast<Py_ssize_t>(held.first), static_cast<Py_ssize_t>(held.second));
    END_HANDLE_TH_ERRORS
}

PyMethodDef methods[] = {
    {"open", open, METH_VARARGS, nullptr},
    {"call", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(call)), METH_FASTCALL, nullptr},
    {"release", release, METH_O, nullptr},
    {"packed", count_and_bytes, METH_NOARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_fff_operator", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__fff_operator() {
    const std::pair<PyObject **, const char *> names[] = {
        {&name_training, "training"},       {&name_plan, "_plan"},           {&name_modules, "_modules"},
        {&name_parameters, "_parameters"},  {&name_linear_in, "linear_in"},  {&name_linear_out, "linear_out"},
        {&name_weight, "weight"},           {&name_bias, "bias"},            {&name_w1s, "w1s"},
        {&name_w2s, "w2s"},
    };
    for (const auto &name : names) {
        *name.first = PyUnicode_InternFromString(name.second);
        if (*name.first == nullptr) {
            return nullptr;
        }
    }
    return PyModule_Create(&definition);
}
