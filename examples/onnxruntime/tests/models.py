"""What the tests and the timing share: seeded layers, ONNX models of one node, sessions.

FFF_ORT_LIBRARY names the custom-operator library; FFF_TEST_SEED repeats random shapes.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple, Optional, Sequence

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

LIBRARY = os.environ["FFF_ORT_LIBRARY"]
SEED = int(os.environ.get("FFF_TEST_SEED", "1"))
BFLOAT16 = np.dtype([("bfloat16", np.uint16)])  # as fff.Layer knows it
TYPES = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.float64): TensorProto.DOUBLE,
         np.dtype(np.float16): TensorProto.FLOAT16, np.dtype(np.int8): TensorProto.INT8, BFLOAT16: TensorProto.BFLOAT16}


class Weights(NamedTuple):
    input_weight: np.ndarray  # rows x input width
    output_weight: np.ndarray  # output width x rows
    bias: Optional[np.ndarray]
    thresholds: Optional[np.ndarray] = None  # rows
    factor: Optional[np.ndarray] = None  # 1
    input_scales: Optional[np.ndarray] = None  # rows, of int8 weights
    output_scales: Optional[np.ndarray] = None


def make_weights(random: np.random.Generator, depth: int, trees: int, width: int, out: int,
                 bias: bool = True) -> Weights:
    rows = trees * (2 ** (depth + 1) - 1)

    def normal(*shape: int) -> np.ndarray:
        return random.standard_normal(shape, np.float32)

    return Weights(normal(rows, width) / np.float32(width ** 0.5), normal(out, rows), normal(rows) if bias else None)


def tensor(value: np.ndarray, name: str) -> onnx.TensorProto:
    if value.dtype == BFLOAT16:
        return helper.make_tensor(name, TensorProto.BFLOAT16, value.shape, value.tobytes(), raw=True)
    return numpy_helper.from_array(value, name)


class LeafWeights(NamedTuple):
    node_weights: np.ndarray  # nodes x input width
    node_biases: Optional[np.ndarray]  # nodes x 1, or nodes
    w1s: np.ndarray  # leaves x input width x leaf width
    b1s: Optional[np.ndarray]  # leaves x leaf width
    w2s: np.ndarray  # leaves x leaf width x output width
    b2s: Optional[np.ndarray]  # leaves x output width
    thresholds: Optional[np.ndarray] = None  # nodes
    factor: Optional[np.ndarray] = None  # 1
    node_scales: Optional[np.ndarray] = None  # nodes, of int8 weights
    leaf_scales: Optional[np.ndarray] = None  # leaves x leaf width
    output_scales: Optional[np.ndarray] = None


def make_leaf_weights(random: np.random.Generator, depth: int, width: int, leaf_width: int, out: int,
                      trees: int = 1) -> LeafWeights:
    """Of several trees, one after the other."""
    nodes, leaves = trees * (2 ** depth - 1), trees * 2 ** depth

    def normal(*shape: int) -> np.ndarray:
        return random.standard_normal(shape, np.float32)

    scale = np.float32(width ** -0.5)
    return LeafWeights(normal(nodes, width) * scale, normal(nodes, 1), normal(leaves, width, leaf_width) * scale,
                       normal(leaves, leaf_width), normal(leaves, leaf_width, out), normal(leaves, out))


def path_fff_model(weights: Weights, **options: Any) -> bytes:
    """A model of one node, y = PathFFF(x, ...), with the options of node_model()."""
    return node_model("PathFFF", *names_of(weights), weights.input_weight.shape[-1], weights.output_weight.shape[0],
                      **options)


def leaf_fff_model(weights: LeafWeights, **options: Any) -> bytes:
    """Likewise, y = LeafFFF(x, ...)."""
    return node_model("LeafFFF", *names_of(weights), weights.w1s.shape[1], weights.w2s.shape[-1], **options)


def names_of(weights: Any) -> tuple[dict[str, np.ndarray], list[str]]:
    """Arrays by name, and a node's inputs: absent ones are named "", but for the last, which are left out."""
    named = {name: value for name, value in weights._asdict().items() if value is not None}
    names = ["x", *(name if name in named else "" for name in weights._fields)]
    while not names[-1]:
        del names[-1]
    return named, names


def node_model(op: str, named: dict[str, np.ndarray], names: Sequence[str], width: int, out_width: int, *,
               x_shape: Sequence[Any] = ("batch", None), constant: bool = True, x_type: int = TensorProto.FLOAT,
               y_type: Optional[int] = None, cast_to: Optional[int] = None, inputs: Optional[Sequence[str]] = None,
               **attributes: Any) -> bytes:
    """A model of one node. Weights that are not constant are inputs of the model. With `cast_to` the node has tokens of
    that type, and the model float32, since NumPy has no bfloat16."""
    shape = [width if size is None else size for size in x_shape]
    out = list(x_shape[:-1]) + [out_width]
    names = list(names if inputs is None else inputs)
    result, casts = "y", []
    if cast_to is not None:
        names[0], result = "x_cast", "y_cast"
        casts = [helper.make_node("Cast", ["x"], ["x_cast"], to=cast_to),
                 helper.make_node("Cast", ["y_cast"], ["y"], to=TensorProto.FLOAT)]
    node = helper.make_node(op, names, [result], name="ffn", domain="fff", **attributes)
    variable = [] if constant else [helper.make_tensor_value_info(name, TYPES[value.dtype], value.shape)
                                    for name, value in named.items()]
    graph = helper.make_graph(
        [*casts[:1], node, *casts[1:]], "g", [helper.make_tensor_value_info("x", x_type, shape), *variable],
        [helper.make_tensor_value_info("y", y_type or x_type, out if out[:-1] else None)],
        [tensor(value, name) for name, value in named.items()] if constant else [])
    return as_bytes(graph)


def as_bytes(graph: onnx.GraphProto) -> bytes:
    """A model that runtimes since 1.17 read."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("fff", 1), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def session(model: Any, threads: int = 1, spinning: bool = True) -> ort.InferenceSession:
    """A session with the operator, on that many intra-op threads, the caller's included; they may spin as they wait."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    options.log_severity_level = 4
    options.register_custom_ops_library(LIBRARY)
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()
