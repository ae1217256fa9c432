"""A layer, and the activations alone."""

from __future__ import annotations

import ctypes
import operator
import threading
from typing import Callable, Optional, Union

import numpy as np

from . import _arrays, _c
from ._errors import Status, check
from ._system import SLEEFS, check_call, chosen_isa, isa_by_name, isa_name, nodes_per_tree, option
from ._threads import Threads, pool_of

ACTIVATIONS = ("gelu", "gelu_tanh", "relu", "relu2", "silu", "identity")  # in the order of fff_activation
ROUTINGS = (">", ">=")  # of fff_routing
STORES = ("f32", "bf16", "f16", "i8")  # of fff_weight_type


class _Handle:
    """Owns an fff_layer: whoever holds this may use it, in whatever way copies of a Layer came about."""

    def __init__(self, desc: _c.LayerDesc):
        self.pointer: Optional[ctypes.c_void_p] = ctypes.c_void_p()  # owned from the moment that the library writes it
        bad = _c.BadWeight()
        desc.bad_weight = ctypes.pointer(bad)
        status = _c.library.fff_layer_create(ctypes.byref(desc), ctypes.byref(self.pointer))
        if status in (Status.WEIGHT, Status.SCALE):
            side = "output" if bad.of_output else "input"
            check(status, "Layer", f" ({side}_weights, row {bad.row}, column {bad.column})" if status == Status.WEIGHT
                  else f" ({side}_scales, row {bad.row})")
        check_call(status, "Layer")

    def __del__(self, destroy=_c.library.fff_layer_destroy):  # bound here: at exit the module may be empty
        pointer, self.pointer = getattr(self, "pointer", None), None
        destroy(pointer)


class Layer:
    """A fast feedforward layer: `trees` binary trees of `depth`, path sums. Immutable; holds packed weights, copies.

    input_weights   (rows, input width); rows = trees * nodes_per_tree(depth); node j of tree k is row k * nodes + j
    output_weights  (rows, output width), any strides: of PyTorch's linear_out.weight pass the transpose, a view
    biases          (rows,), or None
    activation      gelu, gelu_tanh, relu, relu2, silu, identity
    routing         ">": right if logit > 0, as in the path-sum layer; ">=": right if logit >= 0
    isa             auto, or one of fff.isas()
    sleef           recorded: where the activation uses SLEEF, Error if the SLEEF that is loaded (fff.sleef()) returns
                    other bits than elsewhere; any: it may
    store           f32, bf16, f16 or i8: what the layer stores of each row, whatever the weights' type; or two of them,
                    bf16+i8, for input rows (which decide the routes) and output rows; without it as the weights are given
    exact_routes    route by the weights as they are given, not as they are stored
    input_scales    (rows,), float32, for int8 weights, from -127 to 127, each times its row's scale
    output_scales   likewise
    Weights are float32, float16, bfloat16 (of ml_dtypes, or numpy.dtype([("bfloat16", "uint16")])) or int8, either
    matrix of its own type, and are handed over as they are. Biases are any of the floating ones.

    Tokens are float32, float16 or bfloat16, and results have their type, or that of `out`, which may be another of the
    three. What is computed does not depend on it: 16-bit tokens are widened to float32, which is exact, and 16-bit results
    are the float32 ones, rounded once, to nearest, ties to even.

    All other arrays are float32. Input (x, nodes, logits) may have any number of dimensions, one or more, and any strides;
    all but the last are the batch, and results have them, too. `out`, if given, has the result's shape, is overwritten
    and returned. `threads` is a fff.Threads, or a number: threads that are started for this call.

    Copies are the layer itself. It cannot be pickled: pickle its weights, and make it where they are loaded.
    """

    def __init__(self, input_weights: np.ndarray, output_weights: np.ndarray, *, depth: int, trees: int = 1,
                 biases: Optional[np.ndarray] = None, activation: str = "gelu", routing: str = ">", isa: str = "auto",
                 sleef: str = "recorded", store: Optional[str] = None, exact_routes: bool = False,
                 input_scales: Optional[np.ndarray] = None, output_scales: Optional[np.ndarray] = None):
        if hasattr(self, "_handle"):
            raise TypeError("a fff.Layer is immutable: make another one")
        depth, trees = operator.index(depth), operator.index(trees)
        if trees < 1:
            raise ValueError(f"{trees} trees")
        rows = trees * nodes_per_tree(depth)
        matrices = (_arrays.weights(input_weights, "input_weights"), _arrays.weights(output_weights, "output_weights"))
        for matrix, what in zip(matrices, ("input_weights", "output_weights")):
            if matrix.shape[0] != rows:
                raise ValueError(f"{what} has {matrix.shape[0]} rows, where {trees} trees of depth {depth} have {rows}")
        if biases is not None:
            biases = _arrays.of_rows(biases, "biases", rows, *_arrays.FLOATS)
        types = [_arrays.WEIGHTS[_arrays.type_name(matrix.dtype)] for matrix in matrices]
        scales = [_scales(*each, rows) for each in zip((input_scales, output_scales), ("input", "output"), types)]
        stored = stores(store)
        self._depth, self._trees = depth, trees
        self._input_width, self._output_width = matrices[0].shape[1], matrices[1].shape[1]
        desc = _c.LayerDesc(
            struct_size=ctypes.sizeof(_c.LayerDesc), input_width=self._input_width, output_width=self._output_width,
            depth=depth, trees=trees, activation=option(activation, ACTIVATIONS, "activation"),
            routing=option(routing, ROUTINGS, "routing"), isa=chosen_isa(isa_by_name(isa)),
            input_weights=_weights(matrices[0]), biases=None if biases is None else _arrays.address(biases),
            output_weights=_weights(matrices[1]), sleef=option(sleef, SLEEFS, "sleef"), weight_type=types[0],
            output_weight_type=1 + types[1], store_input=stored[0], store_output=stored[1], routes=int(bool(exact_routes)),
            input_scales=None if scales[0] is None else _arrays.address(scales[0]),
            output_scales=None if scales[1] is None else _arrays.address(scales[1]))
        self._scratch = threading.local()
        self._handle = _Handle(desc)
        self._path_length: int = _c.library.fff_layer_path_length(self._handle.pointer)

    def __repr__(self) -> str:
        if not hasattr(self, "_handle"):
            return "fff.Layer (not made)"
        return f"fff.Layer({self.trees}x{self.depth}, {self.input_width} -> {self.output_width}, {self.isa})"

    def __copy__(self) -> Layer:
        return self

    def __deepcopy__(self, _memo) -> Layer:
        return self

    def __reduce__(self):
        raise TypeError("a fff.Layer cannot be pickled: pickle its weights, and make the layer where they are loaded")

    @property
    def input_width(self) -> int:
        return self._input_width

    @property
    def output_width(self) -> int:
        return self._output_width

    @property
    def depth(self) -> int:
        return self._depth

    @property
    def trees(self) -> int:
        return self._trees

    @property
    def path_length(self) -> int:
        """trees * (depth + 1): the nodes that a token visits."""
        return self._path_length

    @property
    def isa(self) -> str:
        """The instruction set that it runs on."""
        return isa_name(_c.library.fff_layer_isa(self._handle.pointer))

    @property
    def memory(self) -> int:
        """Bytes that it holds."""
        return _c.library.fff_layer_memory(self._handle.pointer)

    @property
    def input_type(self) -> str:
        """What it stores of input weights: f32, bf16, f16 or i8."""
        return STORES[_c.library.fff_layer_input_type(self._handle.pointer)]

    @property
    def output_type(self) -> str:
        """Likewise, of output weights."""
        return STORES[_c.library.fff_layer_output_type(self._handle.pointer)]

    def _take_scratch(self, batch: int, concurrency: int) -> np.ndarray:
        """Workspace for one call, which owns it until it gives it back: another call of this thread's, from a signal's
        handler, must not find it."""
        size = ctypes.c_size_t()
        check(_c.library.fff_workspace_size(self._handle.pointer, batch, concurrency, ctypes.byref(size)), "workspace")
        memory = self._scratch.__dict__.pop("memory", None)
        return memory if memory is not None and memory.size >= size.value else np.empty(max(size.value, 1), np.uint8)

    def _call(self, function: Callable, what: str, matrices: tuple[_arrays.Rows, ...],
              threads: Union[Threads, int, None]) -> None:
        batch = matrices[0].count
        if not self._handle.pointer:
            raise RuntimeError("this fff.Layer is freed: it is part of the garbage whose finalisers run")
        with pool_of(threads) as pool:
            scratch = self._take_scratch(batch, 1 if pool is None else pool.count)
            places = [number for rows in matrices for number in (rows.pointer, rows.stride)]
            arguments = (self._handle.pointer, batch, *places, _arrays.address(scratch), scratch.size)
            if pool is None:
                status = function(*arguments, None)
            else:
                status = pool._run(function, arguments, (self, matrices, scratch), batch)
        self._scratch.memory = scratch
        check_call(status, what)

    def __call__(self, x: np.ndarray, *, out: Optional[np.ndarray] = None,
                 threads: Union[Threads, int, None] = None) -> np.ndarray:
        """The layer's output (..., output width) for tokens (..., input width)."""
        tokens = _arrays.read(x, "x", self.input_width, *_arrays.FLOATS)
        target = _arrays.Output(out, tokens.shape, self.output_width, x.dtype)
        self._call(_c.library.fff_forward, "forward", (tokens, target.rows), threads)
        return target.result()

    def route(self, x: np.ndarray, *, threads: Union[Threads, int, None] = None) -> tuple[np.ndarray, np.ndarray]:
        """Nodes (..., path length; uint32) and logits (likewise; float32) of each token's paths, tree after tree."""
        tokens = _arrays.read(x, "x", self.input_width, *_arrays.FLOATS)
        nodes = _arrays.Rows(np.empty((tokens.count, self.path_length), np.uint32), tokens.shape)
        logits = _arrays.Rows(np.empty((tokens.count, self.path_length), np.float32), tokens.shape)
        self._call(_c.library.fff_route, "route", (tokens, nodes, logits), threads)
        return _arrays.plain(nodes), _arrays.plain(logits)

    def accumulate(self, nodes: np.ndarray, logits: np.ndarray, *, out: Optional[np.ndarray] = None,
                   threads: Union[Threads, int, None] = None) -> np.ndarray:
        """The sum over entries of activation(logit) * output_weights[node]. What route() returned completes the
        forward pass, to the bit; nodes (uint32) need not form paths."""
        node_rows = _arrays.read(nodes, "nodes", self.path_length, "uint32")
        logit_rows = _arrays.read(logits, "logits", self.path_length, "float32")
        if node_rows.shape != logit_rows.shape:
            raise ValueError(f"nodes have shape {nodes.shape}, logits {logits.shape}")
        target = _arrays.Output(out, node_rows.shape, self.output_width, logits.dtype)
        self._call(_c.library.fff_accumulate, "accumulate", (node_rows, logit_rows, target.rows), threads)
        return target.result()


def _weights(matrix: np.ndarray) -> _c.Weights:
    return _c.Weights(_arrays.address(matrix), *(stride // matrix.itemsize for stride in matrix.strides))


def stores(store: Optional[str]) -> tuple[int, int]:
    """The fff_weight_choice of input and output rows; ValueError, with the names, if it is none."""
    if store is None:
        return 0, 0
    parts = store.split("+") if isinstance(store, str) else []
    if not 1 <= len(parts) <= 2 or not all(part in STORES for part in parts):
        raise ValueError(f"store {store!r}: one of {', '.join(STORES)}, or two, for input and output rows, as bf16+i8")
    return 1 + STORES.index(parts[0]), 1 + STORES.index(parts[-1])


def _scales(scales: Optional[np.ndarray], side: str, weight_type: int, rows: int) -> Optional[np.ndarray]:
    if scales is None:
        return None
    if weight_type != STORES.index("i8"):
        raise ValueError(f"{side}_scales are for int8 weights, and {side}_weights is {STORES[weight_type]}")
    return _arrays.of_rows(scales, f"{side}_scales", rows, "float32")


def activate(logits: np.ndarray, activation: str = "gelu", *, isa: str = "auto", sleef: str = "recorded") -> np.ndarray:
    """The activation of each element, with the bits that it has inside a layer, in an array of the same shape."""
    logits = np.require(_arrays.typed(logits, "logits", "float32"), requirements=("C", "A"))
    out = np.empty(logits.shape, np.float32)
    check_call(_c.library.fff_activate(
        chosen_isa(isa_by_name(isa)), option(activation, ACTIVATIONS, "activation"), option(sleef, SLEEFS, "sleef"),
        logits.size, _arrays.address(logits), _arrays.address(out)), "activate")
    return out
