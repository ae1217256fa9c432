/* The operators fff::forward and fff::route for PyTorch 1.13 and later, and the short way to them from Python.
 *
 * An operator is given the weights as tensors, so that exported and compiled programs are self-contained. The layers
 * packed from them are cached (Packed, below): a call packs only if it has not seen these weights, or if they have
 * changed. libfff itself is opened at run time, since it is the file that the Python package has loaded.
 */
#include <Python.h>

#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/Parallel.h>
#include <ATen/PythonTorchFunctionTLS.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/StorageImpl.h>
#include <dlfcn.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/autograd/python_variable.h>
#include <torch/csrc/utils/object_ptr.h>
#include <torch/library.h>

#include <algorithm>
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
    TORCH_CHECK(read == 2 && major == FFF_VERSION_MAJOR && minor == FFF_VERSION_MINOR, path, " is libfff ",
                found.version(), ", where this package wants ", FFF_VERSION_MAJOR, ".", FFF_VERSION_MINOR,
                " (before 1.0 a minor version may change the interface)");
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
    check(library.workspace_size(result->layer, 1, 1, &result->token_workspace), "fff_workspace_size");
    return result;
}

/* Which memory a weight lies in and how, and what is cheap to know of its content. */
struct Weight {
    const void *data = nullptr;
    const c10::StorageImpl *storage = nullptr; /* held weakly beside it, so that no other can have its address */
    uint32_t version = 0;                      /* counts writes by PyTorch; tensors made in inference mode have none */
    uint32_t sample = 0; /* the bits of the root's first weight: most writes past the version, by `.data`, change it */
    std::array<int64_t, 4> layout{};           /* sizes and strides */

    explicit Weight(const at::Tensor &tensor) {
        data = tensor.data_ptr();
        storage = tensor.storage().unsafeGetStorageImpl();
        const c10::VariableVersion &counter = tensor.unsafeGetTensorImpl()->version_counter();
        version = tensor.is_inference() ? 0 : static_cast<uint32_t>(counter.current_version());
        for (int64_t d = 0; d < tensor.dim() && d < 2; d++) {
            layout[2 * d] = tensor.size(d);
            layout[2 * d + 1] = tensor.stride(d);
        }
        if (tensor.numel() > 0) {
            std::memcpy(&sample, data, sizeof sample);
        }
    }
    Weight() = default;
    bool same(const Weight &other) const {
        return data == other.data && storage == other.storage && version == other.version && sample == other.sample &&
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
    if (batch == 1) {
        call(scratch(layer.token_workspace), layer.token_workspace, nullptr);
        return;
    }
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

/* Past the dispatcher, which would find nothing else: this is the CPU's kernel already. */
at::Tensor new_tensor(at::IntArrayRef sizes, at::ScalarType type = at::kFloat) {
    return at::detail::empty_cpu(sizes, type);
}

at::Tensor forward(const at::Tensor &x, const at::Tensor &input_weight, const c10::optional<at::Tensor> &bias,
                   const at::Tensor &output_weight, int64_t depth, int64_t trees, int64_t activation, int64_t routing,
                   bool node_major) {
    Arguments a{input_weight, bias, output_weight, depth, trees, activation, routing, node_major};
    std::shared_ptr<const Layer> layer = packed().find(a);
    Tokens in = tokens(x, a.input_width());
    size_t out_width = static_cast<size_t>(a.output_width());
    at::Tensor y = x.dim() == 2 ? new_tensor({x.size(0), a.output_width()}) : new_tensor(shape(x, {a.output_width()}));
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
    at::Tensor nodes = new_tensor(sizes, at::kInt), logits = new_tensor(sizes);
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

/* What open() was given, and interned names. */
PyObject *linear_type;
std::vector<PyObject *> global_hooks; /* nn.Module's dicts of hooks for all modules, which are never exchanged */
enum Name { TRAINING, PLAN, MODULES, PARAMETERS, LINEAR_IN, LINEAR_OUT, WEIGHT, BIAS, W1S, W2S, FORWARD, COMPILED, NAMES };
const char *const name_texts[NAMES] = {"training", "_plan", "_modules", "_parameters", "linear_in", "linear_out",
                                       "weight", "bias", "w1s", "w2s", "forward", "_compiled_call_impl"};
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
    ~Unlocked() { PyEval_RestoreThread(state); }
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

/* A module whose forward() is the operator's and nothing else. */
struct Plain {
    PyObject *input_weight = nullptr, *bias = nullptr, *output_weight = nullptr; /* borrowed */
    int64_t numbers[5] = {};

    /* False for anything else: training, weights that are not plain parameters. */
    bool read(PyObject *dict) {
        PyObject *plan = get(dict, names[PLAN]);
        if (get(dict, names[TRAINING]) != Py_False || plan == nullptr || !PyTuple_Check(plan) ||
            PyTuple_GET_SIZE(plan) != 5) {
            return false;
        }
        for (Py_ssize_t i = 0; i < 5; i++) {
            numbers[i] = PyLong_AsLongLong(PyTuple_GET_ITEM(plan, i));
        }
        if (numbers[4] != 0) { /* node-major */
            PyObject *parameters = get(dict, names[PARAMETERS]);
            input_weight = get(parameters, names[W1S]);
            output_weight = get(parameters, names[W2S]);
            bias = Py_None;
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

/* Whether calling a module of ours means forward() and nothing else: no hooks, no other forward() or compiled one put on it. */
bool only_forward(PyObject *dict) {
    PyObject *compiled = get(dict, names[COMPILED]);
    return get(dict, names[FORWARD]) == nullptr && (compiled == nullptr || compiled == Py_None) &&
           std::none_of(hook_names.begin(), hook_names.end(), [&](PyObject *name) { return has_entries(get(dict, name)); }) &&
           std::none_of(global_hooks.begin(), global_hooks.end(), has_entries);
}

/* The module's output by PyTorch's dispatcher, but without torch.ops' way through Python, which takes longer than the kernel
 * does for a token. Null without an error where anything asks for more than that: gradients, training, tensor subclasses,
 * function modes. */
PyObject *direct(PyObject *dict, PyObject *input) {
    HANDLE_TH_ERRORS
    Plain plain;
    if (!THPVariable_CheckExact(input) || at::impl::PythonTorchFunctionTLS::stack_len() > 0 || !plain.read(dict)) {
        return nullptr;
    }
    const at::Tensor x = THPVariable_Unpack(input); /* these hold what Python may let go of meanwhile */
    const at::Tensor input_weight = THPVariable_Unpack(plain.input_weight);
    const at::Tensor output_weight = THPVariable_Unpack(plain.output_weight);
    c10::optional<at::Tensor> bias;
    if (plain.bias != Py_None) {
        bias = THPVariable_Unpack(plain.bias);
    }
    if (at::GradMode::is_enabled() && (x.requires_grad() || input_weight.requires_grad() ||
                                       output_weight.requires_grad() || (bias.has_value() && bias->requires_grad()))) {
        return nullptr;
    }
    static const auto operation =
        c10::Dispatcher::singleton().findSchemaOrThrow("fff::forward", "").typed<decltype(forward)>();
    at::Tensor y;
    {
        c10::optional<Unlocked> unlocked; /* for a few tokens that would take a good part of the time that they take */
        if (x.dim() > 0 && x.numel() > FEW_TOKENS * x.size(-1)) {
            unlocked.emplace();
        }
        at::AutoDispatchBelowADInplaceOrView guard; /* no gradient is wanted, and the way to one is through Python */
        y = operation.call(x, input_weight, bias, output_weight, plain.numbers[0], plain.numbers[1], plain.numbers[2],
                           plain.numbers[3], plain.numbers[4] != 0);
    }
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

/* The slot behind module(x), for our own types. nn.Module.__call__ and a forward() in Python take half as long as the kernel
 * does for a token; where they would do nothing but that, they are left out. Python itself puts the usual function back in
 * the slot if somebody replaces nn.Module.__call__, as torch.fx does, and gives it to subclasses. */
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
    {"open", open, METH_O, nullptr},
    {"know", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(know)), METH_FASTCALL, nullptr},
    {"call", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(call)), METH_FASTCALL, nullptr},
    {"release", release, METH_O, nullptr},
    {"packed", count_and_bytes, METH_NOARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_fff_operator", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

}  // namespace

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
