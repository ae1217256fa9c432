"""Statuses of the library as exceptions."""

from __future__ import annotations

import enum
from typing import Union

from . import _c


class Status(enum.IntEnum):
    """fff_status: what Error.status holds."""

    OK = 0
    NULL_POINTER = 1
    STRUCT_SIZE = 2
    SHAPE = 3
    OPTION = 4
    OVERFLOW = 5
    STRIDE = 6
    ALIGNMENT = 7
    OVERLAP = 8
    WORKSPACE = 9
    NODE = 10
    ISA_UNKNOWN = 11
    ISA_NOT_BUILT = 12
    ISA_NOT_SUPPORTED = 13
    OUT_OF_MEMORY = 14
    RUNNER = 15
    SLEEF = 16
    WEIGHT = 17
    SCALE = 18
    NUMBER = 19
    PARTS = 20


class Error(RuntimeError):
    """The library refused; `status` is its fff_status, a Status."""

    status: Union[Status, int]  # a plain number where the library is newer than this package

    def __init__(self, status: int, what: str, more: str = ""):
        super().__init__(f"{what}: {_c.library.fff_status_text(status).decode()}{more}")
        try:
            self.status = Status(status)
        except ValueError:
            self.status = status
        self._arguments = status, what, more

    def __reduce__(self):  # pickled with the arguments, not the text: an error in another process must come back
        return type(self), self._arguments


def check(status: int, what: str, more: str = "") -> None:
    """Raises what a status other than OK means."""
    if status == Status.OUT_OF_MEMORY:
        raise MemoryError(what)
    if status != Status.OK:
        raise Error(status, what, more)
