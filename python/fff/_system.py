"""What the library finds: its version, instruction sets, the CPU, SLEEF."""

from __future__ import annotations

import ctypes
import functools
import operator
import os
from typing import NamedTuple, Optional

from . import _c
from ._errors import Status, check

SLEEFS = ("recorded", "any")  # in the order of fff_sleef


@functools.lru_cache(maxsize=None)
def isa_name(isa: int) -> str:
    return _c.library.fff_isa_name(isa).decode()


def version() -> str:
    """The version of the library that runs."""
    return _c.library.fff_version().decode()


def nodes_per_tree(depth: int) -> int:
    """2 ** (depth + 1) - 1; ValueError for a depth outside 0 to 30."""
    depth = operator.index(depth)
    if not 0 <= depth <= _c.MAX_DEPTH:
        raise ValueError(f"depth {depth} is not from 0 to {_c.MAX_DEPTH}")
    return _c.library.fff_nodes_per_tree(depth)


def isas() -> list[str]:
    """The usable instruction sets, the best last."""
    return [isa_name(isa) for isa in range(1, _c.ISA_COUNT) if _c.library.fff_isa_usable(isa) == Status.OK]


def isa_by_name(name: str) -> int:
    """The fff_isa of "auto" or of a usable instruction set; Error, with the names that will do, for any other."""
    names = [isa_name(isa) for isa in range(_c.ISA_COUNT)]
    isa = names.index(name) if name in names else None
    status = Status.ISA_UNKNOWN if isa is None else Status.OK if isa == 0 else _c.library.fff_isa_usable(isa)
    if status != Status.OK:  # the list of those usable takes longer than many a call
        check(status, f"isa {name!r}", f"; usable here: auto, {', '.join(isas())}")
    return isa or 0


def _choose_isa(isa: int) -> tuple[int, int]:
    """The status of fff_isa_choose(), and what it chose."""
    chosen = ctypes.c_int()
    return _c.library.fff_isa_choose(isa, ctypes.byref(chosen)), chosen.value


def chosen_isa(isa: int) -> int:
    """The instruction set that fff_layer_create() will take; Error if it is for FFF_ISA to say and that is no good."""
    status, chosen = _choose_isa(isa)
    if status != Status.OK:
        check(status, f"FFF_ISA={os.environ.get('FFF_ISA', '')}", f"; usable here: auto, {', '.join(isas())}")
    return chosen


def option(name: str, names: tuple[str, ...], what: str) -> int:
    """Where a name stands among those of an enumeration; ValueError, with the names, if it does not."""
    if name not in names:
        raise ValueError(f"{what} {name!r}: one of {', '.join(names)}")
    return names.index(name)


class Cpu(NamedTuple):
    """What fff.cpu() found."""

    features: dict[str, bool]  # those that some instruction set needs, and whether they are here
    usable: list[str]  # instruction sets, the best last
    chosen: Optional[str]  # where nothing else is asked for; None if FFF_ISA asks for what is not usable here


def cpu() -> Cpu:
    """The CPU's features, the usable instruction sets, and the one chosen."""
    count = _c.library.fff_cpu_features(None, 0)
    features = (_c.CpuFeature * max(count, 1))()
    _c.library.fff_cpu_features(features, count)
    status, chosen = _choose_isa(0)
    return Cpu({features[i].name.decode(): bool(features[i].present) for i in range(count)}, isas(),
               isa_name(chosen) if status == Status.OK else None)


class Sleef(NamedTuple):
    """What fff.sleef() found."""

    path: Optional[str]  # the file that SLEEF was loaded from; None if the system does not tell
    built_with: str  # the version that libfff was built with; the one loaded may be another
    recorded: dict[str, bool]  # for each usable instruction set: whether its functions return the recorded bits


def sleef() -> Sleef:
    """The SLEEF library that is loaded, and whether gelu_tanh and silu have the bits that they have elsewhere."""
    path = _c.library.fff_sleef_path()
    recorded = {}
    for isa in range(1, _c.ISA_COUNT):
        if _c.library.fff_isa_usable(isa) == Status.OK:
            status = _c.library.fff_sleef_check(isa)
            if status != Status.SLEEF:
                check(status, "sleef")
            recorded[isa_name(isa)] = status == Status.OK
    return Sleef(None if path is None else os.fsdecode(path), _c.library.fff_sleef_version().decode(), recorded)


def check_call(status: int, what: str) -> None:
    """As check(), and tells of SLEEF what there is to tell."""
    more = ""
    if status == Status.SLEEF:
        more = f" ({os.fsdecode(_c.library.fff_sleef_path() or b'its file is not known')}); sleef='any' accepts it"
    check(status, what, more)
