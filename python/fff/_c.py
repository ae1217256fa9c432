"""The shared library through ctypes: structures and functions as include/fff/fff.h declares them."""

from __future__ import annotations

import ctypes
import os
import pathlib
from ctypes import POINTER, c_char_p, c_double, c_int, c_size_t, c_uint64, c_void_p

MAX_DEPTH = 30
ISA_COUNT = 5  # with auto, which is 0

TASK = ctypes.CFUNCTYPE(None, c_void_p, c_size_t)
RUN = ctypes.CFUNCTYPE(None, c_void_p, c_size_t, TASK, c_void_p)


class Weights(ctypes.Structure):
    _fields_ = [("data", c_void_p), ("node_stride", c_size_t), ("column_stride", c_size_t)]


class BadWeight(ctypes.Structure):
    _fields_ = [("of_output", c_int), ("row", c_size_t), ("column", c_size_t)]


class LayerDesc(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t), ("input_width", c_size_t), ("output_width", c_size_t), ("depth", c_size_t),
        ("trees", c_size_t), ("activation", c_int), ("routing", c_int), ("weight_type", c_int), ("isa", c_int),
        ("input_weights", Weights), ("biases", c_void_p), ("output_weights", Weights), ("allocator", c_void_p),
        ("sleef", c_int),
        ("output_weight_type", c_int), ("store_input", c_int), ("store_output", c_int), ("routes", c_int),
        ("input_scales", c_void_p), ("output_scales", c_void_p), ("bad_weight", POINTER(BadWeight)),
        ("leaf_width", c_size_t), ("leaf_weights", Weights), ("leaf_stride", c_size_t), ("leaf_scales", c_void_p),
        ("leaf_biases", c_void_p), ("leaf_output_biases", Weights), ("thresholds", c_void_p), ("factor", c_void_p),
        ("output_bias", c_void_p), ("next", c_void_p), ("borrow", c_int),
    ]


class GradientRows(ctypes.Structure):
    _fields_ = [("data", c_void_p), ("stride", c_size_t)]


class Gradients(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t), ("rows", c_void_p), ("row_count", c_size_t), ("input_weights", GradientRows), ("biases", c_void_p),
        ("output_weights", GradientRows), ("leaf_output_biases", GradientRows), ("output_bias", c_void_p), ("next", c_void_p),
    ]


class Adam(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t), ("learning_rate", c_double), ("beta1", c_double), ("beta2", c_double), ("epsilon", c_double),
        ("weight_decay", c_double), ("step", c_uint64),
    ]


class Runner(ctypes.Structure):
    _fields_ = [("run", RUN), ("context", c_void_p), ("concurrency", c_size_t)]


class CpuFeature(ctypes.Structure):
    _fields_ = [("name", c_char_p), ("isa", c_int), ("present", c_int)]


_TOKENS = [c_void_p, c_size_t]  # a matrix and its stride
_SCRATCH = [c_void_p, c_size_t, POINTER(Runner)]

_SIGNATURES = {
    "fff_version": (c_char_p, []),
    "fff_sleef_version": (c_char_p, []),
    "fff_status_text": (c_char_p, [c_int]),
    "fff_isa_name": (c_char_p, [c_int]),
    "fff_isa_by_name": (c_int, [c_char_p, POINTER(c_int)]),
    "fff_isa_usable": (c_int, [c_int]),
    "fff_isa_choose": (c_int, [c_int, POINTER(c_int)]),
    "fff_sleef_path": (c_char_p, []),
    "fff_sleef_check": (c_int, [c_int]),
    "fff_cpu_features": (c_size_t, [POINTER(CpuFeature), c_size_t]),
    "fff_nodes_per_tree": (c_size_t, [c_size_t]),
    "fff_layer_create": (c_int, [POINTER(LayerDesc), POINTER(c_void_p)]),
    "fff_layer_destroy": (None, [c_void_p]),
    "fff_layer_isa": (c_int, [c_void_p]),
    "fff_layer_path_length": (c_size_t, [c_void_p]),
    "fff_layer_memory": (c_size_t, [c_void_p]),
    "fff_layer_input_type": (c_int, [c_void_p]),
    "fff_layer_output_type": (c_int, [c_void_p]),
    "fff_weight_type_name": (c_char_p, [c_int]),
    "fff_workspace_size": (c_int, [c_void_p, c_size_t, c_size_t, POINTER(c_size_t)]),
    "fff_forward": (c_int, [c_void_p, c_size_t, *_TOKENS, *_TOKENS, *_SCRATCH]),
    "fff_route": (c_int, [c_void_p, c_size_t, *_TOKENS, *_TOKENS, *_TOKENS, *_SCRATCH]),
    "fff_forward_paths": (c_int, [c_void_p, c_size_t, *_TOKENS, *_TOKENS, *_TOKENS, *_TOKENS, *_SCRATCH]),
    "fff_accumulate": (c_int, [c_void_p, c_size_t, *_TOKENS, *_TOKENS, *_TOKENS, *_SCRATCH]),
    "fff_dot_rows": (c_int, [c_void_p, c_size_t, c_size_t, *_TOKENS, *_TOKENS, *_TOKENS, c_void_p, c_size_t]),
    "fff_sum_rows": (c_int, [c_void_p, c_size_t, c_size_t, *_TOKENS, *_TOKENS, *_TOKENS]),
    "fff_backward_workspace_size": (c_int, [c_void_p, c_size_t, c_size_t, POINTER(c_size_t)]),
    "fff_visited_rows": (c_int, [c_void_p, c_size_t, c_size_t, *_TOKENS, c_void_p, c_size_t, POINTER(c_size_t), c_void_p, c_size_t]),
    "fff_backward": (c_int, [c_void_p, c_size_t, *_TOKENS, *_TOKENS, *_TOKENS, *_TOKENS, *_TOKENS, POINTER(Gradients), *_SCRATCH]),
    "fff_adam_rows": (c_int, [c_int, POINTER(Adam), c_size_t, c_void_p, c_size_t, c_size_t, *_TOKENS, *_TOKENS, *_TOKENS, *_TOKENS]),
    "fff_activate": (c_int, [c_int, c_int, c_int, c_size_t, c_void_p, c_void_p]),
}


def _candidates():
    """Where the library may lie: where FFF_LIBRARY says; else in this package; else where the system finds it."""
    named = os.environ.get("FFF_LIBRARY")
    if named:
        yield named
        return
    bundled = pathlib.Path(__file__).with_name("_libfff.so")
    if bundled.is_file():
        yield str(bundled)
        return
    yield "libfff.so.1"


def load() -> ctypes.CDLL:
    """The library; ImportError, naming what was tried, if it is not there or lacks a function."""
    (path,) = _candidates()
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        raise ImportError(f"libfff cannot be loaded ({error}); FFF_LIBRARY may name its file") from error
    for name, (result, arguments) in _SIGNATURES.items():
        try:
            function = getattr(library, name)
        except AttributeError as error:
            raise ImportError(f"{path} is older than this package: it lacks {name}()") from error
        function.restype, function.argtypes = result, arguments
    return library


library = load()
