"""Fast feedforward layers on the CPU: libfff for NumPy.

    import numpy as np, fff

    layer = fff.Layer(linear_in_weight, linear_out_weight.T, biases=linear_in_bias, depth=11)
    y = layer(x)                      # x: (batch, input width), float32

Arrays are used where they lie, never copied or converted: what does not fit is a TypeError or ValueError that says
so. Errors of the library are fff.Error. The interpreter's lock is released while the library works; a layer may be
used by any number of threads at once. Results have the same bits on every instruction set, batch size and number of
threads (docs/numerics.md).
"""

from __future__ import annotations

import concurrent.futures
import ctypes
import threading
from typing import NamedTuple, Optional

import numpy as np

from . import _c

__all__ = ["Cpu", "Error", "Layer", "Threads", "activate", "cpu", "isas", "nodes_per_tree", "version"]

_library = _c.load()

ACTIVATIONS = ("gelu", "gelu_tanh", "relu", "relu2", "silu", "identity")  # in the order of fff_activation
ROUTINGS = (">", ">=")  # of fff_routing
_OK, _OUT_OF_MEMORY = 0, 14


class Error(RuntimeError):
    """The library refused; `status` is its fff_status."""

    def __init__(self, status: int, what: str):
        super().__init__(f"{what}: {_library.fff_status_text(status).decode()}")
        self.status = status


def _check(status: int, what: str) -> None:
    if status == _OUT_OF_MEMORY:
        raise MemoryError(what)
    if status != _OK:
        raise Error(status, what)


def _index(name: str, names: tuple, what: str) -> int:
    if name not in names:
        raise ValueError(f"{what} {name!r}: one of {', '.join(names)}")
    return names.index(name)


def _isa(name: str) -> int:
    isa = ctypes.c_int()
    _check(_library.fff_isa_by_name(str(name).encode(), ctypes.byref(isa)), f"isa {name!r}")
    return isa.value


def version() -> str:
    """The version of the library that runs."""
    return _library.fff_version().decode()


def nodes_per_tree(depth: int) -> int:
    """2 ** (depth + 1) - 1; ValueError for a depth outside 0 to 30."""
    if not 0 <= depth <= _c.MAX_DEPTH:
        raise ValueError(f"depth {depth} is not from 0 to {_c.MAX_DEPTH}")
    return _library.fff_nodes_per_tree(depth)


class Cpu(NamedTuple):
    """What fff.cpu() found."""

    features: dict[str, bool]  # those that some instruction set needs, and whether they are here
    usable: list[str]  # instruction sets, the best last
    chosen: str  # where nothing else is asked for (the environment's FFF_ISA counts)


def isas() -> list[str]:
    """The usable instruction sets, the best last."""
    return [_library.fff_isa_name(isa).decode() for isa in range(1, _c.ISA_COUNT)
            if _library.fff_isa_usable(isa) == _OK]


def cpu() -> Cpu:
    """The CPU's features, the usable instruction sets, and the one chosen."""
    count = _library.fff_cpu_features(None, 0)
    features = (_c.CpuFeature * max(count, 1))()
    _library.fff_cpu_features(features, count)
    chosen = ctypes.c_int()
    _check(_library.fff_isa_choose(0, ctypes.byref(chosen)), "FFF_ISA")
    return Cpu({features[i].name.decode(): bool(features[i].present) for i in range(count)}, isas(),
               _library.fff_isa_name(chosen.value).decode())


class Threads:
    """A pool of threads that share a layer's work; `with fff.Threads(4) as threads: layer(x, threads=threads)`.

    A call costs some tens of microseconds more with it: it pays for batches of hundreds of tokens. One call at a time
    uses it well."""

    def __init__(self, count: int):
        if count < 1:
            raise ValueError(f"{count} threads")
        self._pool = concurrent.futures.ThreadPoolExecutor(count, thread_name_prefix="fff")

        def run(_context, tasks, task, argument):
            # `task` is a C function: the lock is free while it runs.
            for future in [self._pool.submit(task, argument, i) for i in range(tasks)]:
                future.result()

        self._run = _c.RUN(run)  # must live as long as the runner
        self._runner = _c.Runner(self._run, None, count)

    @property
    def count(self) -> int:
        return self._runner.concurrency

    def close(self) -> None:
        self._pool.shutdown()

    def __enter__(self) -> Threads:
        return self

    def __exit__(self, *_error) -> None:
        self.close()


def _array(array, what: str, dtype, dimensions: int) -> np.ndarray:
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{what} is a {type(array).__name__}, not a NumPy array")
    if array.dtype != dtype:
        raise TypeError(f"{what} has dtype {array.dtype}, not {np.dtype(dtype)} (in the machine's byte order)")
    if array.ndim != dimensions:
        raise ValueError(f"{what} has {array.ndim} dimensions, not {dimensions}")
    if not array.flags.aligned:
        raise ValueError(f"{what} is not aligned")
    return array


def _tokens(array, what: str, columns: int, dtype=np.float32, batch: Optional[int] = None, write: bool = False):
    """Pointer, stride and batch of a matrix whose rows are contiguous."""
    array = _array(array, what, dtype, 2)
    if array.shape[1] != columns or (batch is not None and array.shape[0] != batch):
        rows = "batch" if batch is None else batch
        raise ValueError(f"{what} has shape {array.shape}, not ({rows}, {columns})")
    size = array.itemsize
    row, column = array.strides
    apart = array.shape[0] > 1 and (row < columns * size or row % size)
    if array.size > 0 and (apart or (columns > 1 and column != size)):
        raise ValueError(f"{what} is not contiguous along its rows: numpy.ascontiguousarray() makes a copy that is")
    if write and not array.flags.writeable:
        raise ValueError(f"{what} is read-only")
    return array.ctypes.data, (row // size if array.shape[0] > 1 else columns), array.shape[0]


def _weights(array, what: str) -> _c.Weights:
    array = _array(array, what, np.float32, 2)
    strides = [stride // array.itemsize for stride in array.strides]
    if any(stride < 0 or stride % array.itemsize for stride in array.strides):
        raise ValueError(f"{what} has strides {array.strides}, which the library cannot follow")
    return _c.Weights(array.ctypes.data, *strides)


class Layer:
    """A fast feedforward layer: `trees` binary trees of `depth`, path sums. Immutable, with a packed copy of its weights.

    input_weights   (rows, input width); rows = trees * nodes_per_tree(depth); node j of tree k is row k * nodes + j
    output_weights  (rows, output width), any strides: of PyTorch's linear_out.weight pass the transpose, a view
    biases          (rows,), or None
    activation      gelu, gelu_tanh, relu, relu2, silu, identity
    routing         ">": right if logit > 0, as in the path-sum layer; ">=": right if logit >= 0
    isa             auto, or one of fff.isas()
    All arrays are float32.
    """

    def __init__(self, input_weights: np.ndarray, output_weights: np.ndarray, *, depth: int, trees: int = 1,
                 biases: Optional[np.ndarray] = None, activation: str = "gelu", routing: str = ">", isa: str = "auto"):
        self._layer = ctypes.c_void_p()
        if trees < 1:
            raise ValueError(f"{trees} trees")
        rows = trees * nodes_per_tree(depth)
        views = _weights(input_weights, "input_weights"), _weights(output_weights, "output_weights")
        for array, what in ((input_weights, "input_weights"), (output_weights, "output_weights")):
            if array.shape[0] != rows:
                raise ValueError(f"{what} has {array.shape[0]} rows, where {trees} trees of depth {depth} have {rows}")
        if biases is not None:
            biases = _array(biases, "biases", np.float32, 1)
            if biases.shape != (rows,) or not biases.flags.c_contiguous:
                raise ValueError(f"biases have shape {biases.shape}, not ({rows},), or are not contiguous")
        desc = _c.LayerDesc(
            struct_size=ctypes.sizeof(_c.LayerDesc), input_width=input_weights.shape[1],
            output_width=output_weights.shape[1], depth=depth, trees=trees,
            activation=_index(activation, ACTIVATIONS, "activation"), routing=_index(routing, ROUTINGS, "routing"),
            isa=_isa(isa), input_weights=views[0], biases=None if biases is None else biases.ctypes.data,
            output_weights=views[1])
        _check(_library.fff_layer_create(ctypes.byref(desc), ctypes.byref(self._layer)), "Layer")
        self.input_width: int = desc.input_width
        self.output_width: int = desc.output_width
        self.depth, self.trees = depth, trees
        self.path_length: int = _library.fff_layer_path_length(self._layer)
        self._scratch = threading.local()

    def __del__(self):
        layer = getattr(self, "_layer", None)
        if layer:
            _library.fff_layer_destroy(layer)

    def __repr__(self) -> str:
        return f"fff.Layer({self.trees}x{self.depth}, {self.input_width} -> {self.output_width}, {self.isa})"

    @property
    def isa(self) -> str:
        """The instruction set that it runs on."""
        return _library.fff_isa_name(_library.fff_layer_isa(self._layer)).decode()

    @property
    def memory(self) -> int:
        """Bytes that it holds."""
        return _library.fff_layer_memory(self._layer)

    def _workspace(self, batch: int, threads: Optional[Threads]):
        """This thread's scratch: pointer, size and runner, as the calls take them."""
        size = ctypes.c_size_t()
        count = threads.count if threads is not None else 1
        _check(_library.fff_workspace_size(self._layer, batch, count, ctypes.byref(size)), "workspace")
        memory = getattr(self._scratch, "memory", None)
        if memory is None or memory.size < size.value:
            self._scratch.memory = memory = np.empty(max(size.value, 1), np.uint8)
        return memory.ctypes.data, memory.size, ctypes.byref(threads._runner) if threads is not None else None

    def _output(self, out: Optional[np.ndarray], batch: int) -> np.ndarray:
        return np.empty((batch, self.output_width), np.float32) if out is None else out

    def __call__(self, x: np.ndarray, *, out: Optional[np.ndarray] = None,
                 threads: Optional[Threads] = None) -> np.ndarray:
        """The layer's output for a batch of tokens (batch, input width), or for one token (input width,). `out`, if
        given, is overwritten and returned."""
        if isinstance(x, np.ndarray) and x.ndim == 1:
            result = self(x[None], out=None if out is None else out[None], threads=threads)
            return result[0] if out is None else out
        pointer, stride, batch = _tokens(x, "x", self.input_width)
        out = self._output(out, batch)
        target, target_stride, _ = _tokens(out, "out", self.output_width, batch=batch, write=True)
        _check(_library.fff_forward(self._layer, batch, pointer, stride, target, target_stride,
                                    *self._workspace(batch, threads)), "forward")
        return out

    def route(self, x: np.ndarray, *, threads: Optional[Threads] = None) -> tuple[np.ndarray, np.ndarray]:
        """Nodes (batch, path length; uint32) and logits (likewise; float32) of each token's paths, tree after tree."""
        pointer, stride, batch = _tokens(x, "x", self.input_width)
        nodes = np.empty((batch, self.path_length), np.uint32)
        logits = np.empty((batch, self.path_length), np.float32)
        _check(_library.fff_route(self._layer, batch, pointer, stride, nodes.ctypes.data, self.path_length,
                                  logits.ctypes.data, self.path_length, *self._workspace(batch, threads)), "route")
        return nodes, logits

    def accumulate(self, nodes: np.ndarray, logits: np.ndarray, *, out: Optional[np.ndarray] = None,
                   threads: Optional[Threads] = None) -> np.ndarray:
        """The sum over entries of activation(logit) * output_weights[node]. What route() returned completes the
        forward pass, to the bit; nodes need not form paths."""
        node_pointer, node_stride, batch = _tokens(nodes, "nodes", self.path_length, np.uint32)
        logit_pointer, logit_stride, _ = _tokens(logits, "logits", self.path_length, batch=batch)
        out = self._output(out, batch)
        target, target_stride, _ = _tokens(out, "out", self.output_width, batch=batch, write=True)
        _check(_library.fff_accumulate(self._layer, batch, node_pointer, node_stride, logit_pointer, logit_stride,
                                       target, target_stride, *self._workspace(batch, threads)), "accumulate")
        return out


def activate(logits: np.ndarray, activation: str = "gelu", *, isa: str = "auto") -> np.ndarray:
    """The activation of each element, with the bits that it has inside a layer."""
    if not isinstance(logits, np.ndarray) or logits.dtype != np.float32 or not logits.flags.c_contiguous:
        raise TypeError("logits are no contiguous array of float32")
    out = np.empty_like(logits)
    _check(_library.fff_activate(_isa(isa), _index(activation, ACTIVATIONS, "activation"), 0, logits.size,
                                 logits.ctypes.data, out.ctypes.data), "activate")
    return out
