"""The parts of a layer: trees of one kind and shape, as the library is told of them."""

from __future__ import annotations

import ctypes
import operator
from typing import Optional, Union

import numpy as np

from . import _arrays, _c
from ._system import SLEEFS, nodes_per_tree, option

ACTIVATIONS = ("gelu", "gelu_tanh", "relu", "relu2", "silu", "identity")  # in the order of fff_activation
ROUTINGS = (">", ">=")  # of fff_routing
STORES = ("f32", "bf16", "f16", "i8")  # of fff_weight_type


class Part:
    """Checked arrays, and the description of them. The arrays are used where they lie when a layer is made."""

    depth: int
    trees: int
    leaf_width: int  # 0: path sums
    input_width: int
    output_width: int
    _names: tuple[str, str, str]  # of input, output and leaf weights, in messages
    _scale_names: tuple[str, str, str]

    def __setattr__(self, name: str, value) -> None:
        if hasattr(self, "_desc"):
            raise AttributeError(f"{name}: a part of a layer is immutable")
        super().__setattr__(name, value)

    def __reduce__(self):
        raise TypeError(f"a fff.{type(self).__name__} cannot be pickled: pickle its weights")

    def _describe(self, held: list, **fields) -> None:
        """The last that a constructor does. `held` are arrays that the description points into."""
        self._arrays = held
        self._desc = _c.LayerDesc(
            struct_size=ctypes.sizeof(_c.LayerDesc), input_width=self.input_width, output_width=self.output_width,
            depth=self.depth, trees=self.trees, leaf_width=self.leaf_width, **fields)

    def _bad_weight(self, bad: _c.BadWeight, scale: bool) -> str:
        """Where the weight is that the library has refused."""
        name = (self._scale_names if scale else self._names)[bad.of_output]
        if self.leaf_width > 0 and bad.of_output:
            at = f"leaf {bad.row // self.leaf_width}, neuron {bad.row % self.leaf_width}"
        else:
            at = f"row {bad.row}"
        return f"{name}, {at}" if scale else f"{name}, {at}, column {bad.column}"


class Trees(Part):
    """Path sums: a part of a layer, as the arguments of fff.Layer describe it."""

    _names = ("input_weights", "output_weights", "")
    _scale_names = ("input_scales", "output_scales", "")

    def __init__(self, input_weights: np.ndarray, output_weights: np.ndarray, *, depth: int, trees: int = 1,
                 biases: Optional[np.ndarray] = None, activation: str = "gelu", routing: str = ">",
                 thresholds: Optional[np.ndarray] = None, factor: Union[float, np.ndarray, None] = None,
                 store: Optional[str] = None, exact_routes: bool = False,
                 input_scales: Optional[np.ndarray] = None, output_scales: Optional[np.ndarray] = None):
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
        if thresholds is not None:
            thresholds = _arrays.of_rows(thresholds, "thresholds", rows, *_arrays.FLOATS)
        types = [_arrays.WEIGHTS[_arrays.type_name(matrix.dtype)] for matrix in matrices]
        scales = [_scales(*each, rows) for each in zip((input_scales, output_scales), ("input", "output"), types)]
        stored, number = stores(store), _number(factor, "factor")
        self.depth, self.trees, self.leaf_width = depth, trees, 0
        self.input_width, self.output_width = matrices[0].shape[1], matrices[1].shape[1]
        self._describe(
            [*matrices, biases, thresholds, number, *scales],
            activation=option(activation, ACTIVATIONS, "activation"), routing=option(routing, ROUTINGS, "routing"),
            input_weights=_weights(matrices[0]), biases=_address(biases), output_weights=_weights(matrices[1]),
            weight_type=types[0], output_weight_type=1 + types[1], store_input=stored[0], store_output=stored[1],
            routes=int(bool(exact_routes)), input_scales=_address(scales[0]), output_scales=_address(scales[1]),
            thresholds=_address(thresholds), factor=_address(number))


class Leaves(Part):
    """Trees whose nodes route only, with a small dense layer at each leaf: a part of a layer.

    Arrays are as the fastfeedforward package has them; N = 2 ** depth - 1 nodes and L = 2 ** depth leaves of `leaf
    width` neurons, both of which the shape of w1s tells. Of several trees, one after the other: (trees * L, ...) with
    trees=, or (trees, L, ...).

    node_weights    (N, input width);  node_biases  (N, 1) or (N,), or None
    w1s             (L, input width, leaf width);  b1s  (L, leaf width), or None
    w2s             (L, leaf width, output width);  b2s  (L, output width), or None: without, as the package's
                    eval_forward() leaves them out, while its training_forward() adds them. One or the other must be given
    depth           what the checkpoint says; checked
    activation      gelu, gelu_tanh, relu, relu2, silu, identity
    routing         ">=": right if logit >= 0, as theirs; ">": right if logit > 0
    thresholds      (N,): what nodes' logits are compared with instead of 0
    factor          a number that multiplies what the part adds
    store           f32, bf16, f16 or i8: what the layer stores; or two, for nodes and w1s, and for w2s, as bf16+i8
    exact_routes    route by the weights as they are given, not as they are stored
    node_scales     (N,), float32, for int8 weights
    leaf_scales     (L, leaf width), of w1s;  output_scales  (L, leaf width), of w2s
    """

    _names = ("node_weights", "w2s", "w1s")
    _scale_names = ("node_scales", "output_scales", "leaf_scales")

    def __init__(self, node_weights: Optional[np.ndarray], node_biases: Optional[np.ndarray], w1s: np.ndarray,
                 b1s: Optional[np.ndarray], w2s: np.ndarray, b2s: Optional[np.ndarray], *, trees: Optional[int] = None,
                 depth: Optional[int] = None, activation: str = "relu", routing: str = ">=",
                 thresholds: Optional[np.ndarray] = None, factor: Union[float, np.ndarray, None] = None,
                 store: Optional[str] = None, exact_routes: bool = False, node_scales: Optional[np.ndarray] = None,
                 leaf_scales: Optional[np.ndarray] = None, output_scales: Optional[np.ndarray] = None):
        first = _arrays.typed(w1s, "w1s", *_arrays.WEIGHTS)
        self.depth, self.trees = depth, trees = _sizes(first.shape, trees, depth)
        leaves, nodes = 2 ** depth, 2 ** depth - 1
        into, width = self.input_width, self.leaf_width = first.shape[-2:]
        told = f"w1s of shape {first.shape} wants"

        def shaped(array, what: str, count: int, *last: int) -> np.ndarray:
            """(trees * count, *last), given that or (trees, count, *last)."""
            if array.shape not in ((trees * count, *last), (trees, count, *last)):
                raise ValueError(f"{what} has shape {array.shape}, where {told} {(trees * count, *last)}"
                                 f"{f' or {(trees, count, *last)}' if trees > 1 else ''}")
            return array.reshape(trees * count, *last)

        def numbers(array, what: str, count: int, *last: int, also: tuple = (), types=_arrays.FLOATS):
            """As float32, one after the other; `also`: dimensions that may follow."""
            if array is None:
                return None
            array = _arrays.typed(array, what, *types)
            if also and array.shape[-1:] == also and array.ndim > 1:
                array = array[..., 0]
            flat = _arrays.widened(shaped(array, what, count, *last)).reshape(-1)
            return flat if flat.flags.aligned and flat.flags.c_contiguous else flat.copy()

        first, strides = _arrays.leaf_weights(shaped(first, "w1s", leaves, into, width), "w1s")
        second = _arrays.typed(w2s, "w2s", *_arrays.WEIGHTS)
        self.output_width = second.shape[-1] if second.ndim > 2 else 0
        second = _arrays.weights(shaped(second, "w2s", leaves, width, self.output_width).reshape(
            trees * leaves * width, self.output_width), "w2s")
        if node_weights is None and nodes == 0:
            node_weights = np.empty((0, into), first.dtype)
        routers = shaped(_arrays.typed(node_weights, "node_weights", *_arrays.WEIGHTS), "node_weights", nodes, into)
        routers = _arrays.weights(routers, "node_weights")
        types = [_arrays.WEIGHTS[_arrays.type_name(array.dtype)] for array in (routers, first, second)]
        if nodes > 0 and types[0] != types[1]:
            raise TypeError(f"node_weights has dtype {routers.dtype}, and w1s {first.dtype}: they must be of one type")
        biases = numbers(node_biases, "node_biases", nodes, also=(1,))
        limits = numbers(thresholds, "thresholds", nodes)
        first_biases = numbers(b1s, "b1s", leaves, width)
        second_biases = numbers(b2s, "b2s", leaves, self.output_width)
        scales = []
        for array, what, of, last in (
                (node_scales, "node_scales", 1, (nodes,)), (leaf_scales, "leaf_scales", 1, (leaves, width)),
                (output_scales, "output_scales", 2, (leaves, width))):
            if array is not None and types[of] != STORES.index("i8"):
                raise ValueError(f"{what} are for int8 weights, and {('w1s', 'w2s')[of - 1]} is {STORES[types[of]]}")
            scales.append(numbers(array, what, *last, types=("float32",)))
        stored, number = stores(store), _number(factor, "factor")
        self._describe(
            [routers, first, second, biases, limits, first_biases, second_biases, number, *scales],
            activation=option(activation, ACTIVATIONS, "activation"), routing=option(routing, ROUTINGS, "routing"),
            input_weights=_weights(routers), biases=_address(biases), output_weights=_weights(second),
            weight_type=types[1], output_weight_type=1 + types[2], store_input=stored[0], store_output=stored[1],
            routes=int(bool(exact_routes)), input_scales=_address(scales[0]), output_scales=_address(scales[2]),
            leaf_weights=_c.Weights(_arrays.address(first), strides[2], strides[1]), leaf_stride=strides[0],
            leaf_scales=_address(scales[1]), leaf_biases=_address(first_biases),
            leaf_output_biases=_c.Weights(_address(second_biases), self.output_width, 1),
            thresholds=_address(limits), factor=_address(number))


def _sizes(shape: tuple[int, ...], trees: Optional[int], depth: Optional[int]) -> tuple[int, int]:
    """Depth and trees that the shape of w1s tells."""
    if len(shape) not in (3, 4):
        raise ValueError(f"w1s has shape {shape}, not (leaves, input width, leaf width)")
    if 0 in shape:
        raise ValueError(f"w1s has shape {shape}: no width or number may be 0")
    number = shape[0] if len(shape) == 4 and trees is None else 1 if trees is None else operator.index(trees)
    if number < 1:
        raise ValueError(f"{number} trees")
    if len(shape) == 4 and shape[0] != number or len(shape) == 3 and shape[0] % number:
        raise ValueError(f"w1s has shape {shape}, which does not fit {number} trees")
    leaves = shape[1] if len(shape) == 4 else shape[0] // number
    found = leaves.bit_length() - 1
    if leaves < 1 or leaves != 1 << found:
        raise ValueError(f"w1s has shape {shape}: {leaves} leaves a tree, which is no power of 2")
    if depth is not None and operator.index(depth) != found:
        raise ValueError(f"w1s has shape {shape}: {leaves} leaves a tree, where depth {operator.index(depth)} has "
                         f"{2 ** operator.index(depth)}")
    return found, number


def _address(array: Optional[np.ndarray]) -> Optional[int]:
    return None if array is None else _arrays.address(array)


def _weights(matrix: np.ndarray) -> _c.Weights:
    return _c.Weights(_arrays.address(matrix), *(stride // matrix.itemsize for stride in matrix.strides))


def _number(value: Union[float, np.ndarray, None], what: str) -> Optional[np.ndarray]:
    if value is None:
        return None
    number = np.asarray(value)
    if number.size != 1 or number.dtype.kind not in "fiu":
        raise TypeError(f"{what} is no single number")
    with np.errstate(over="ignore"):  # infinity is refused by the library
        return np.require(number.reshape(1), np.float32, requirements=("C", "A"))


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


def linked(parts: tuple[Part, ...], isa: int, sleef: str, output_bias: Optional[np.ndarray]) -> tuple[list, list]:
    """The descriptions of a layer's parts, each pointing to the next, and what the library says of bad weights. What
    they point into must be kept while they are used: the parts, and output_bias."""
    descs = [_c.LayerDesc.from_buffer_copy(part._desc) for part in parts]
    bads = [_c.BadWeight(of_output=-1) for _ in parts]
    for desc, bad, following in zip(descs, bads, [*descs[1:], None]):
        desc.isa, desc.sleef, desc.bad_weight = isa, option(sleef, SLEEFS, "sleef"), ctypes.pointer(bad)
        desc.next = None if following is None else ctypes.addressof(following)
    descs[0].output_bias = _address(output_bias)
    return descs, bads
