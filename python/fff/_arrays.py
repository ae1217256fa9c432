"""Arrays as the library takes them: checked, as a matrix of rows with one stride.

What is read may lie anyhow: where the library cannot follow (a negative or zero stride between rows, elements of a row
apart, no alignment), a copy is taken. What is written is written where it lies, or refused. Elements are never
converted.
"""

from __future__ import annotations

import math
from typing import Optional

import numpy as np


def typed(array: np.ndarray, what: str, dtype: type) -> np.ndarray:
    """The array, without its subclass; TypeError if it is none, or of another type."""
    name = dtype.__name__
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{what} is a {type(array).__name__}, not a NumPy array: numpy.asarray({what}, numpy.{name}) "
                        "makes one")
    if array.dtype != dtype:
        raise TypeError(f"{what} has dtype {array.dtype}, not {name} (in the machine's byte order): "
                        f"{what}.astype(numpy.{name}) converts it")
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{what} is a masked array, whose mask would be lost: {what}.filled() makes a plain one")
    return np.asarray(array)


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


def read(array: np.ndarray, what: str, columns: int, dtype: type = np.float32) -> Rows:
    """An array (..., columns) to be read."""
    array = typed(array, what, dtype)
    if array.ndim < 1 or array.shape[-1] != columns:
        raise ValueError(f"{what} has shape {array.shape}, not (..., {columns})")
    matrix = _flat(array)
    return Rows(matrix if _followed(matrix) else matrix.copy(), array.shape[:-1])


def write(out: Optional[np.ndarray], batch: tuple[int, ...], columns: int) -> Rows:
    """The caller's array of batch + (columns,) to be written, or a new one."""
    if out is None:
        return Rows(np.empty((math.prod(batch), columns), np.float32), batch)
    array = typed(out, "out", np.float32)
    if array.shape != (*batch, columns):
        raise ValueError(f"out has shape {array.shape}, not {(*batch, columns)}")
    if not array.flags.writeable:
        raise ValueError("out is read-only")
    matrix = _flat(array)
    if matrix.size > 0 and not (np.may_share_memory(matrix, array) and _followed(matrix)):
        raise ValueError(f"out has strides {array.strides}: its rows must be contiguous, aligned, in ascending order "
                         "and one stride apart")
    return Rows(matrix, batch)


def weights(array: np.ndarray, what: str) -> np.ndarray:
    """A weight matrix: in either orientation, its strides counting elements."""
    array = typed(array, what, np.float32)
    if array.ndim != 2:
        raise ValueError(f"{what} has {array.ndim} dimensions, not 2")
    (rows, columns), (row, column), size = array.shape, array.strides, array.itemsize
    apart = min(row, column) > 0 and (row >= columns * column or column >= rows * row)
    followed = array.flags.aligned and apart and row % size == 0 and column % size == 0
    return array if followed else array.copy()


def biases(array: np.ndarray, rows: int) -> np.ndarray:
    """One bias a row, contiguous."""
    array = typed(array, "biases", np.float32)
    if array.shape != (rows,):
        raise ValueError(f"biases have shape {array.shape}, not ({rows},)")
    return array if array.flags.aligned and array.flags.c_contiguous else array.copy()
