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
         np.dtype(np.float16): TensorProto.FLOAT16, BFLOAT16: TensorProto.BFLOAT16}


class Weights(NamedTuple):
    input_weight: np.ndarray  # rows x input width
    output_weight: np.ndarray  # output width x rows
    bias: Optional[np.ndarray]


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


def path_fff_model(weights: Weights, *, x_shape: Sequence[Any] = ("batch", None), constant: bool = True,
                   x_type: int = TensorProto.FLOAT, y_type: Optional[int] = None, cast_to: Optional[int] = None,
                   inputs: Optional[Sequence[str]] = None, **attributes: Any) -> bytes:
    """A model of one node, y = PathFFF(x, ...). Weights that are not constant are inputs of the model. With `cast_to`
    the node has tokens of that type, and the model float32, since NumPy has no bfloat16."""
    named = {"input_weight": weights.input_weight, "output_weight": weights.output_weight, "bias": weights.bias}
    named = {name: value for name, value in named.items() if value is not None}
    shape = [weights.input_weight.shape[-1] if size is None else size for size in x_shape]
    out = list(x_shape[:-1]) + [weights.output_weight.shape[0]]
    names = ["x", *named] if inputs is None else list(inputs)
    result, casts = "y", []
    if cast_to is not None:
        names[0], result = "x_cast", "y_cast"
        casts = [helper.make_node("Cast", ["x"], ["x_cast"], to=cast_to),
                 helper.make_node("Cast", ["y_cast"], ["y"], to=TensorProto.FLOAT)]
    node = helper.make_node("PathFFF", names, [result], name="ffn", domain="fff", **attributes)
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


def session(model: Any, threads: int = 1) -> ort.InferenceSession:
    """A session with the operator, on that many intra-op threads, the caller's included."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    options.register_custom_ops_library(LIBRARY)
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()
