"""fff::train, fff::backward and fff::backward_rows on the CPU in Python, through ctypes: the same bits as native/train.h's, one thread."""

from __future__ import annotations

import ctypes
import weakref
from typing import Optional

import torch

import fff
from fff import _c, _errors, _system

from . import _python

_OF_X, _OF_INPUT_WEIGHT, _OF_BIAS, _OF_OUTPUT_WEIGHT = 1, 2, 4, 8


def _empty(shape, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Memory for the library: whatever PyTorch's default type and device are."""
    return torch.empty(shape, dtype=dtype, device="cpu")


def _checked(tensor: torch.Tensor, name: str) -> torch.Tensor:
    if tensor.dtype != torch.float32:
        raise TypeError(f"{name} has dtype {tensor.dtype}, where training by fff's kernels takes torch.float32 (the modules' method "
                        "dense() takes any floating type)")
    return _python.on_cpu(tensor, name)


def _aligned(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, or a copy, as in native/checks.h."""
    return tensor if tensor.data_ptr() % tensor.element_size() == 0 else tensor.clone()


def _rows(matrix: torch.Tensor) -> tuple[torch.Tensor, int]:
    """A matrix whose rows are contiguous, and the stride between them."""
    width = matrix.shape[1]
    if not ((width == 1 or matrix.stride(1) == 1) and (matrix.shape[0] <= 1 or matrix.stride(0) >= width)):
        matrix = matrix.contiguous()
    matrix = _aligned(matrix)
    return matrix, max(matrix.stride(0), width)


def _tokens(x: torch.Tensor, name: str, width: int) -> tuple[torch.Tensor, int]:
    x = _checked(x, name)
    if x.dim() < 1 or x.shape[-1] != width:
        raise ValueError(f"{name} has shape {tuple(x.shape)}, not (..., {width})")
    return _rows(x.reshape(-1, width))


class _Borrowed:
    """A layer that reads the parameters where they lie."""

    def __init__(self, input_weight, bias, output_weight, depth, trees, activation, routing, node_major, thresholds=None):
        rows = trees * fff.nodes_per_tree(depth)
        if not 0 <= activation < len(fff.ACTIVATIONS) or not 0 <= routing < len(fff.ROUTINGS):
            raise ValueError(f"activation {activation} or routing {routing}")
        outputs = _checked(output_weight, "output_weight")
        outputs = outputs if node_major else outputs.t()
        self.input, input_stride = _rows(_checked(input_weight, "input_weight"))
        self.output, output_stride = _rows(outputs)
        self.bias = None if bias is None else _aligned(_checked(bias, "bias").contiguous())
        for matrix, name in ((self.input, "input_weight"), (self.output, "output_weight"), (self.bias, "bias")):
            if matrix is not None and matrix.shape[0] != rows:
                raise ValueError(f"{name} is for {matrix.shape[0]} neurons, where {trees} trees of depth {depth} have {rows}")
        limits = None if thresholds is None else _aligned(_checked(thresholds, "thresholds").contiguous())  # which the layer copies
        if limits is not None and tuple(limits.shape) != (rows,):
            raise ValueError(f"thresholds have shape {list(limits.shape)}, not [{rows}]")
        self.rows, self.input_width, self.output_width, self.length = rows, self.input.shape[1], self.output.shape[1], trees * (depth + 1)
        desc = _c.LayerDesc(
            struct_size=ctypes.sizeof(_c.LayerDesc), borrow=1, input_width=self.input_width, output_width=self.output_width,
            depth=depth, trees=trees, activation=activation, routing=routing,
            input_weights=_c.Weights(self.input.data_ptr(), input_stride, 1),
            output_weights=_c.Weights(self.output.data_ptr(), output_stride, 1),
            biases=None if self.bias is None else self.bias.data_ptr(), thresholds=None if limits is None else limits.data_ptr())
        pointer = ctypes.c_void_p()
        _errors.check(_c.library.fff_layer_create(ctypes.byref(desc), ctypes.byref(pointer)), "layer")
        self.pointer = pointer.value
        weakref.finalize(self, _c.library.fff_layer_destroy, self.pointer)

    def workspace(self, batch: int, size_of) -> tuple[int, int, torch.Tensor]:
        """Address and size, and what holds it."""
        size = ctypes.c_size_t()
        _errors.check(size_of(self.pointer, batch, 1, ctypes.byref(size)), "workspace")
        memory = _empty([max(size.value, 1)], torch.uint8)
        return memory.data_ptr(), size.value, memory


def train(x, input_weight, bias, output_weight, depth, trees=1, activation=0, routing=0, node_major=False, thresholds=None):
    layer = _Borrowed(input_weight, bias, output_weight, depth, trees, activation, routing, node_major, thresholds)
    tokens, stride = _tokens(x, "x", layer.input_width)
    batch, length, out = tokens.shape[0], layer.length, layer.output_width
    y = _empty([*x.shape[:-1], out])
    nodes = _empty([*x.shape[:-1], trees, depth + 1], torch.int32)
    logits = _empty(nodes.shape)
    if batch > 0:
        memory, size, _held = layer.workspace(batch, _c.library.fff_workspace_size)
        _system.check_call(_c.library.fff_forward_paths(
            layer.pointer, batch, tokens.data_ptr(), stride, y.data_ptr(), out, nodes.data_ptr(), length, logits.data_ptr(), length,
            memory, size, None), "forward_paths")
    return y, nodes, logits


class _Pass:
    """A backward pass; native/train.h's Backward."""

    def __init__(self, grad, x, input_weight, bias, output_weight, nodes, logits, plan: tuple, wanted: int):
        self.layer = layer = _Borrowed(input_weight, bias, output_weight, *plan)
        self.tokens, self.stride = _tokens(x, "x", layer.input_width)
        self.grad, self.grad_stride = _tokens(grad, "grad", layer.output_width)
        self.nodes, self.logits = nodes.contiguous(), logits.detach().contiguous()
        self.batch = self.tokens.shape[0]
        if self.grad.shape[0] != self.batch:
            raise ValueError(f"grad has {self.grad.shape[0]} rows, where x has {self.batch}")
        entries = self.batch * layer.length
        if nodes.dtype != torch.int32 or logits.dtype != torch.float32 or nodes.numel() != entries or logits.numel() != entries:
            raise ValueError("nodes and logits are not what fff::train returned for x")
        self.wanted = wanted if bias is not None else wanted & ~_OF_BIAS
        self.of_x = _empty(x.shape if wanted & _OF_X else [0])

    def room(self, rows: int) -> list[torch.Tensor]:
        """Gradients of input weights, biases and output weights, of so many rows where they are wanted."""
        layer = self.layer
        return [_empty([rows if self.wanted & bit else 0, *width]).zero_() for bit, width in (
            (_OF_INPUT_WEIGHT, [layer.input_width]), (_OF_BIAS, []), (_OF_OUTPUT_WEIGHT, [layer.output_width]))]

    def workspace(self) -> tuple:
        return self.layer.workspace(self.batch, _c.library.fff_backward_workspace_size)

    def visited(self) -> torch.Tensor:
        rows = _empty([min(self.layer.rows, self.batch * self.layer.length)], torch.int32)
        count = ctypes.c_size_t()
        if self.batch > 0:
            memory, size, _held = self.workspace()
            _system.check_call(_c.library.fff_visited_rows(
                self.layer.pointer, 0, self.batch, self.nodes.data_ptr(), self.layer.length, rows.data_ptr(), rows.numel(),
                ctypes.byref(count), memory, size), "visited_rows")
        return rows[:count.value]

    def run(self, rows: Optional[torch.Tensor], of_input: torch.Tensor, of_bias: torch.Tensor, of_output: torch.Tensor) -> None:
        if self.batch == 0:
            return
        layer, wanted = self.layer, self.wanted
        gradients = _c.Gradients(struct_size=ctypes.sizeof(_c.Gradients))
        if rows is not None:
            gradients.rows, gradients.row_count = rows.data_ptr(), rows.numel()
        if wanted & _OF_INPUT_WEIGHT:
            gradients.input_weights = _c.GradientRows(of_input.data_ptr(), layer.input_width)
        if wanted & _OF_BIAS:
            gradients.biases = of_bias.data_ptr()
        if wanted & _OF_OUTPUT_WEIGHT:
            gradients.output_weights = _c.GradientRows(of_output.data_ptr(), layer.output_width)
        memory, size, _held = self.workspace()
        _system.check_call(_c.library.fff_backward(
            layer.pointer, self.batch, self.tokens.data_ptr(), self.stride, self.nodes.data_ptr(), layer.length,
            self.logits.data_ptr(), layer.length, self.grad.data_ptr(), self.grad_stride,
            self.of_x.data_ptr() if wanted & _OF_X else None, layer.input_width,
            ctypes.byref(gradients) if wanted & ~_OF_X else None, memory, size, None), "backward")


def backward(grad, x, input_weight, bias, output_weight, nodes, logits, depth, trees=1, activation=0, routing=0, node_major=False,
             wanted=15):
    this = _Pass(grad, x, input_weight, bias, output_weight, nodes, logits, (depth, trees, activation, routing, node_major), wanted)
    of_input, of_bias, of_output = this.room(this.layer.rows)
    this.run(None, of_input, of_bias, of_output)
    return this.of_x, of_input, of_bias, of_output if node_major else of_output.t()


def backward_rows(grad, x, input_weight, bias, output_weight, nodes, logits, depth, trees=1, activation=0, routing=0,
                  node_major=False, wanted=15):
    this = _Pass(grad, x, input_weight, bias, output_weight, nodes, logits, (depth, trees, activation, routing, node_major), wanted)
    rows = this.visited()
    found = this.room(rows.numel())
    this.run(rows, *found)
    return (this.of_x, rows, *found)
