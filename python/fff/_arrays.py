"""Arrays as the library takes them: checked, as a matrix of rows with one stride.

What is read may lie anyhow: where the library cannot follow (a negative or zero stride between rows, elements of a row
apart, no alignment), a copy is taken. What is written is written where it lies, or refused. Elements are
converted between float32 and the 16-bit types only: weights never, tokens exactly, results by rounding once.
"""

from __future__ import annotations

import math
from typing import Optional

import numpy as np


FLOATS = ("float32", "bfloat16", "float16")
WEIGHTS = {"float32": 0, "bfloat16": 1, "float16": 2, "int8": 3}  # fff_weight_type
BFLOAT16 = np.dtype([("bfloat16", np.uint16)])  # of whoever has no ml_dtypes, which has a type of that name


def type_name(dtype: np.dtype) -> str:
    """float32, bfloat16, float16 ...; another byte order than the machine's is another type."""
    if dtype == BFLOAT16:
        return "bfloat16"
    return dtype.type.__name__ if dtype.isnative else str(dtype)  # dtype.name imports, which at exit is too late


def typed(array: np.ndarray, what: str, *names: str) -> np.ndarray:
    """The array, without its subclass; TypeError if it is none, or of another type than those."""
    if not isinstance(array, np.ndarray):
        make = "numpy.empty" if what == "out" else f"numpy.asarray({what}, numpy.{names[0]})"
        raise TypeError(f"{what} is a {type(array).__name__}, not a NumPy array: {make} makes one")
    if type_name(array.dtype) not in names:
        if what == "out":  # a converted copy would take the result, and be gone
            advice = f"make it as numpy.empty({array.shape}, numpy.{names[0]})"
        elif array.dtype == np.uint16 and "bfloat16" in names:
            advice = f"if these are bfloat16's bits, {what}.view([('bfloat16', 'uint16')]) says so"
        else:
            advice = f"{what}.astype(numpy.{names[0]}) converts it"
        raise TypeError(f"{what} has dtype {array.dtype}, not {' or '.join(names)} (in the machine's byte order): {advice}")
    if isinstance(array, np.ma.MaskedArray):
        advice = "out.data is the plain array in it" if what == "out" else f"{what}.filled() makes a plain one"
        raise TypeError(f"{what} is a masked array, whose mask would be lost: {advice}")
    return np.asarray(array)


def widened(array: np.ndarray) -> np.ndarray:
    """The same numbers as float32, in the same layout."""
    name = type_name(array.dtype)
    if name == "bfloat16":
        return np.left_shift(array.view(np.uint16), 16, dtype=np.uint32).view(np.float32)
    return array if name == "float32" else array.astype(np.float32)


def narrow(array: np.ndarray, out: np.ndarray) -> None:
    """Rounds float32 numbers to the type of `out`: to nearest, ties to even. A NaN stays one."""
    if type_name(out.dtype) == "bfloat16":
        bits = array.view(np.uint32)
        rounded = bits + ((bits >> 16 & 1) + np.uint32(0x7fff)) >> 16
        out.view(np.uint16)[...] = np.where(np.isnan(array), bits >> 16 | 0x40, rounded)
    else:
        with np.errstate(all="ignore"):  # what is too large is infinite, as in the library
            out[...] = array


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]  # array.ctypes imports, which at exit is too late


def _followed(matrix: np.ndarray) -> bool:
    """Whether rows are contiguous, aligned, and a stride apart that keeps them from overlapping."""
    (rows, columns), (row, column), size = matrix.shape, matrix.strides, matrix.itemsize
    if matrix.size == 0:
        return True
    return bool(matrix.flags.aligned and (columns == 1 or column == size)
                and (rows == 1 or (row >= columns * size and row % size == 0)))


class Rows:
    """A matrix in memory, and what keeps it alive."""

    __slots__ = ("array", "shape", "pointer", "stride", "count")

    def __init__(self, array: np.ndarray, shape: tuple[int, ...]):
        self.array = array  # (count, columns), followed
        self.shape = shape  # of the batch: all dimensions of the caller's array but the last
        self.pointer = address(array)
        self.count, columns = array.shape
        self.stride: int = array.strides[0] // array.itemsize if self.count > 1 else columns


def _flat(array: np.ndarray) -> np.ndarray:
    return array if array.ndim == 2 else array.reshape(math.prod(array.shape[:-1]), array.shape[-1])


def read(array: np.ndarray, what: str, columns: int, *names: str) -> Rows:
    """An array (..., columns) to be read, of one of the types named; 16-bit ones are widened."""
    array = typed(array, what, *names)
    if array.ndim < 1 or array.shape[-1] != columns:
        raise ValueError(f"{what} has shape {array.shape}, not (..., {columns})")
    matrix = _flat(array)
    if type_name(array.dtype) in FLOATS:
        matrix = widened(matrix)
    return Rows(matrix if _followed(matrix) else matrix.copy(), array.shape[:-1])


def plain(rows: Rows) -> np.ndarray:
    """A new array of the batch's shape."""
    return rows.array if len(rows.shape) == 1 else rows.array.reshape(*rows.shape, rows.array.shape[1])


class Output:
    """What a call writes: rows of float32, and the array that the caller gets."""

    __slots__ = ("rows", "_result")

    def __init__(self, out: Optional[np.ndarray], batch: tuple[int, ...], columns: int, like: np.dtype):
        """`out` is the caller's, of batch + (columns,); without one the result is new, of the type `like`."""
        self._result = out
        if out is None and type_name(like) != "float32":
            self._result = out = np.empty((*batch, columns), like)
        matrix = None if out is None else _writable(out, batch, columns)
        if matrix is None or type_name(matrix.dtype) != "float32":
            matrix = np.empty((math.prod(batch), columns), np.float32)
        self.rows = Rows(matrix, batch)

    def result(self) -> np.ndarray:
        """After the call: the result, rounded if it is of 16 bits."""
        rows, out = self.rows, self._result
        if out is None:
            return plain(rows)
        if type_name(out.dtype) != "float32":
            narrow(rows.array.reshape(out.shape), np.asarray(out))
        return out


def _writable(out: np.ndarray, batch: tuple[int, ...], columns: int) -> np.ndarray:
    """The caller's array of batch + (columns,) as a matrix that lies where it lies."""
    array = typed(out, "out", *FLOATS)
    if array.shape != (*batch, columns):
        raise ValueError(f"out has shape {array.shape}, not {(*batch, columns)}")
    if not array.flags.writeable:
        raise ValueError("out is read-only")
    matrix = _flat(array)
    if matrix.size > 0 and not (np.may_share_memory(matrix, array) and _followed(matrix)):
        raise ValueError(f"out has strides {array.strides}: its rows must be contiguous, aligned, in ascending order "
                         "and one stride apart")
    return matrix


def _aligned(array: np.ndarray) -> bool:
    return address(array) % array.itemsize == 0  # of bfloat16 as a structure NumPy asks for less


def weights(array: np.ndarray, what: str) -> np.ndarray:
    """A weight matrix: in either orientation, its strides counting elements."""
    array = typed(array, what, *WEIGHTS)
    if array.ndim != 2:
        raise ValueError(f"{what} has {array.ndim} dimensions, not 2")
    (rows, columns), (row, column), size = array.shape, array.strides, array.itemsize
    apart = min(row, column) > 0 and (row >= columns * column or column >= rows * row)
    followed = _aligned(array) and apart and row % size == 0 and column % size == 0
    return array if followed else array.copy()


def leaf_weights(array: np.ndarray, what: str) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Weights (leaves, columns, neurons) as the library can follow them, and their strides in elements."""
    array = typed(array, what, *WEIGHTS)
    for matrix in (array, None):
        if matrix is None:
            matrix = array.copy(order="C")
        (leaves, columns, neurons), size = matrix.shape, matrix.itemsize
        # The strides of a single row, column or leaf mean nothing.
        leaf, column, neuron = (stride if count > 1 else size for stride, count in zip(matrix.strides, matrix.shape))
        extent = (neurons - 1) * neuron + (columns - 1) * column + size
        apart = min(column, neuron) > 0 and (neurons == 1 or columns == 1 or column >= neurons * neuron
                                             or neuron >= columns * column)
        if leaves == 1:
            leaf = extent
        if _aligned(matrix) and apart and leaf >= extent and leaf % size == column % size == neuron % size == 0:
            break
    return matrix, (leaf // size, column // size, neuron // size)


def of_rows(array: np.ndarray, what: str, rows: int, *names: str) -> np.ndarray:
    """One number a row, contiguous; widened if it is of 16 bits."""
    array = typed(array, what, *names)
    if array.shape != (rows,):
        raise ValueError(f"{what} have shape {array.shape}, not ({rows},)")
    array = widened(array)
    return array if array.flags.aligned and array.flags.c_contiguous else array.copy()
