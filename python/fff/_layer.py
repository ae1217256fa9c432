"""A layer, and the activations alone."""

from __future__ import annotations

import ctypes
import threading
from typing import Callable, NamedTuple, Optional, Sequence, Union

import numpy as np

from . import _arrays, _c
from ._errors import Status, check
from ._parts import ACTIVATIONS, ROUTINGS, STORES, Leaves, Part, Trees, linked
from ._system import SLEEFS, check_call, chosen_isa, isa_by_name, isa_name, option
from ._threads import Threads, pool_of

class _Handle:
    """Owns an fff_layer: whoever holds this may use it, in whatever way copies of a Layer came about."""

    def __init__(self, parts: tuple[Part, ...], isa: int, sleef: str, output_bias: Optional[np.ndarray]):
        self.pointer: Optional[ctypes.c_void_p] = ctypes.c_void_p()  # owned from the moment that the library writes it
        descs, bads = linked(parts, isa, sleef, output_bias)
        status = _c.library.fff_layer_create(ctypes.byref(descs[0]), ctypes.byref(self.pointer))
        if status in (Status.WEIGHT, Status.SCALE):
            for index, (part, bad) in enumerate(zip(parts, bads)):
                if bad.of_output >= 0:
                    where = part._bad_weight(bad, status == Status.SCALE)
                    check(status, "Layer", f" ({f'part {index}: ' if len(parts) > 1 else ''}{where})")
        check_call(status, "Layer")

    def __del__(self, destroy=_c.library.fff_layer_destroy):  # bound here: at exit the module may be empty
        pointer, self.pointer = getattr(self, "pointer", None), None
        destroy(pointer)


class PartKind(NamedTuple):
    """What fff.Layer.parts tells of each."""

    depth: int
    trees: int
    leaf_width: int  # 0: path sums


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
    thresholds      (rows,): what each node's logit is compared with instead of 0
    factor          a number that multiplies all activations
    output_bias     (output width,): what outputs begin from
    Weights are float32, float16, bfloat16 (of ml_dtypes, or numpy.dtype([("bfloat16", "uint16")])) or int8, either
    matrix of its own type, and are handed over as they are. Biases and
    thresholds are any of the floating ones.

    Tokens are float32, float16 or bfloat16, and results have their type, or that of `out`, which may be another of the
    three. What is computed does not depend on it: 16-bit tokens are widened to float32, which is exact, and 16-bit results
    are the float32 ones, rounded once, to nearest, ties to even.

    All other arrays are float32, but nodes and rows, which are uint32. Input (x, nodes, logits) may have any number of
    dimensions, one or more, and any strides; all but the last are the batch, and results have them, too. `out`, if given,
    has the result's shape, is overwritten and returned. `threads` is a fff.Threads, or a number: threads that are started
    for this call.

    Copies are the layer itself. It cannot be pickled: pickle its weights, and make it where they are loaded.
    """

    def __init__(self, input_weights: np.ndarray, output_weights: np.ndarray, *, depth: int, trees: int = 1,
                 biases: Optional[np.ndarray] = None, activation: str = "gelu", routing: str = ">", isa: str = "auto",
                 sleef: str = "recorded", store: Optional[str] = None, exact_routes: bool = False,
                 input_scales: Optional[np.ndarray] = None, output_scales: Optional[np.ndarray] = None,
                 thresholds: Optional[np.ndarray] = None, factor: Union[float, np.ndarray, None] = None,
                 output_bias: Optional[np.ndarray] = None):
        self._is_new()
        self._make((Trees(input_weights, output_weights, depth=depth, trees=trees, biases=biases, activation=activation,
                          routing=routing, thresholds=thresholds, factor=factor, store=store, exact_routes=exact_routes,
                          input_scales=input_scales, output_scales=output_scales),), output_bias, isa, sleef)

    @classmethod
    def forest(cls, parts: Sequence[Part], *, output_bias: Optional[np.ndarray] = None, isa: str = "auto",
               sleef: str = "recorded") -> Layer:
        """A layer of several parts, fff.Trees and fff.Leaves of the same widths: the sum of what they are by themselves, part
        after part, in one call. Nodes and logits of route() follow each other likewise."""
        made = object.__new__(cls)
        made._make(tuple(parts), output_bias, isa, sleef)
        return made

    def _is_new(self) -> None:
        if hasattr(self, "_handle"):
            raise TypeError("a fff.Layer is immutable: make another one")

    def _make(self, parts: tuple[Part, ...], output_bias: Optional[np.ndarray], isa: str, sleef: str) -> None:
        if not parts:
            raise ValueError("a layer has at least one part")
        for index, part in enumerate(parts):
            if not isinstance(part, Part):
                raise TypeError(f"part {index} is a {type(part).__name__}, not a fff.Trees or fff.Leaves")
            widths, first = (part.input_width, part.output_width), (parts[0].input_width, parts[0].output_width)
            if widths != first:
                raise ValueError(f"part {index} is {widths[0]} -> {widths[1]}, where part 0 is {first[0]} -> {first[1]}")
        if output_bias is not None:
            output_bias = _arrays.of_rows(output_bias, "output_bias", parts[0].output_width, *_arrays.FLOATS)
        self._kinds = tuple(PartKind(part.depth, part.trees, part.leaf_width) for part in parts)
        self._input_width, self._output_width = parts[0].input_width, parts[0].output_width
        self._listed = len(parts) == 1 and parts[0].leaf_width == 0 and output_bias is None
        self._scratch = threading.local()
        self._handle = _Handle(parts, chosen_isa(isa_by_name(isa)), sleef, output_bias)
        self._path_length: int = _c.library.fff_layer_path_length(self._handle.pointer)

    def __repr__(self) -> str:
        if not hasattr(self, "_handle"):
            return "fff.Layer (not made)"
        parts = " + ".join(f"{part.trees}x{part.depth}{f' leaves of {part.leaf_width}' if part.leaf_width else ''}"
                           for part in self._kinds)
        return f"fff.{type(self).__name__}({parts}, {self.input_width} -> {self.output_width}, {self.isa})"

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
    def parts(self) -> tuple[PartKind, ...]:
        """Depth, trees and leaf width (0 of path sums) of each part."""
        return self._kinds

    @property
    def depth(self) -> int:
        """Of a layer of one part."""
        if len(self._kinds) > 1:
            raise AttributeError("each part of this fff.Layer has a depth: see parts")
        return self._kinds[0].depth

    @property
    def trees(self) -> int:
        """Of all parts."""
        return sum(part.trees for part in self._kinds)

    @property
    def path_length(self) -> int:
        """The nodes that a token visits: trees * (depth + 1); of leaf layers, with neurons, trees * (depth + leaf width)."""
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
        forward pass, to the bit; nodes (uint32) need not form paths, but the neurons of leaves must be those of one leaf."""
        node_rows = _arrays.read(nodes, "nodes", self.path_length, "uint32")
        logit_rows = _arrays.read(logits, "logits", self.path_length, "float32")
        if node_rows.shape != logit_rows.shape:
            raise ValueError(f"nodes have shape {nodes.shape}, logits {logits.shape}")
        target = _arrays.Output(out, node_rows.shape, self.output_width, logits.dtype)
        self._call(_c.library.fff_accumulate, "accumulate", (node_rows, logit_rows, target.rows), threads)
        return target.result()

    def dot_rows(self, x: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Logits (..., count) of listed rows (..., count; uint32): x . input_weights[row] + biases[row], where something else
        than a tree selects neurons. Row tree * nodes + node; of a layer of one part of path sums."""
        self._check_listed()
        tokens = _arrays.read(x, "x", self.input_width, *_arrays.FLOATS)
        listed = _listed_rows(rows, tokens.shape)
        logits = _arrays.Rows(np.empty((tokens.count, listed.array.shape[1]), np.float32), tokens.shape)
        scratch = self._take_scratch(1, 1)
        status = _c.library.fff_dot_rows(
            self._handle.pointer, tokens.count, listed.array.shape[1], tokens.pointer, tokens.stride, listed.pointer,
            listed.stride, logits.pointer, logits.stride, _arrays.address(scratch), scratch.size)
        self._scratch.memory = scratch
        check_call(status, "dot_rows")
        return _arrays.plain(logits)

    def sum_rows(self, rows: np.ndarray, factors: np.ndarray, *, out: Optional[np.ndarray] = None) -> np.ndarray:
        """The sum over entries of factors * output_weights[rows]: (..., output width). No activation is applied:
        fff.activate() has them."""
        self._check_listed()
        listed = _listed_rows(rows, None)
        numbers = _arrays.read(factors, "factors", listed.array.shape[1], "float32")
        if numbers.shape != listed.shape:
            raise ValueError(f"rows have shape {rows.shape}, factors {factors.shape}")
        target = _arrays.Output(out, listed.shape, self.output_width, factors.dtype)
        check_call(_c.library.fff_sum_rows(
            self._handle.pointer, listed.count, listed.array.shape[1], listed.pointer, listed.stride, numbers.pointer,
            numbers.stride, target.rows.pointer, target.rows.stride), "sum_rows")
        return target.result()

    def _check_listed(self) -> None:
        if not self._handle.pointer:
            raise RuntimeError("this fff.Layer is freed: it is part of the garbage whose finalisers run")
        if not self._listed:
            raise ValueError("rows can be listed of a layer of one part of path sums without output_bias alone")


class LeafLayer(Layer):
    """A leaf layer, as fff.Leaves describes it, of the module FFF of the fastfeedforward package: a Layer of that one part."""

    def __init__(self, node_weights: Optional[np.ndarray], node_biases: Optional[np.ndarray], w1s: np.ndarray,
                 b1s: Optional[np.ndarray], w2s: np.ndarray, b2s: Optional[np.ndarray], *,
                 output_bias: Optional[np.ndarray] = None, isa: str = "auto", sleef: str = "recorded", **of_leaves):
        self._is_new()
        self._make((Leaves(node_weights, node_biases, w1s, b1s, w2s, b2s, **of_leaves),), output_bias, isa, sleef)


def _listed_rows(rows: np.ndarray, batch: Optional[tuple[int, ...]]) -> _arrays.Rows:
    rows = _arrays.typed(rows, "rows", "uint32")
    if rows.ndim < 1 or batch is not None and rows.shape[:-1] != batch:
        raise ValueError(f"rows have shape {rows.shape}, not {'(..., count)' if batch is None else f'{batch} + (count,)'}")
    return _arrays.read(rows, "rows", rows.shape[-1], "uint32")


def activate(logits: np.ndarray, activation: str = "gelu", *, isa: str = "auto", sleef: str = "recorded") -> np.ndarray:
    """The activation of each element, with the bits that it has inside a layer, in an array of the same shape."""
    logits = np.require(_arrays.typed(logits, "logits", "float32"), requirements=("C", "A"))
    out = np.empty(logits.shape, np.float32)
    check_call(_c.library.fff_activate(
        chosen_isa(isa_by_name(isa)), option(activation, ACTIVATIONS, "activation"), option(sleef, SLEEFS, "sleef"),
        logits.size, _arrays.address(logits), _arrays.address(out)), "activate")
    return out
