"""What the examples in Python share, and bench/pytorch_bert.py: safetensors files, tables, pictures, processor time."""

from __future__ import annotations

import json
import math
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterable, Optional

import numpy as np
import torch

_TYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.int8: "I8", torch.int32: "I32",
          torch.int64: "I64"}
_ALIGNMENT = 64


def write_safetensors(path: Path, tensors: dict[str, torch.Tensor], metadata: Optional[dict[str, str]] = None) -> None:
    """The tensors in their order, each aligned to 64 bytes or to what follows from the ones before it."""
    header: dict = {"__metadata__": metadata} if metadata else {}
    parts, offset = [], 0
    for name, tensor in tensors.items():
        plain = tensor.detach().contiguous()
        raw = plain.view(torch.int16) if plain.dtype is torch.bfloat16 else plain  # NumPy has no bfloat16
        data = raw.numpy().tobytes()
        header[name] = {"dtype": _TYPES[plain.dtype], "shape": list(plain.shape), "data_offsets": [offset, offset + len(data)]}
        parts.append(data)
        offset += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % _ALIGNMENT)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))


def read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a file that write_safetensors() may have written."""
    data = path.read_bytes()
    length = struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8:8 + length])
    names = {name: kind for kind, name in _TYPES.items()}
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            kind = names[entry["dtype"]]
            plain = {torch.bfloat16: torch.int16}.get(kind, kind)
            number = np.frombuffer(data, np.uint8, last - first, 8 + length + first).copy()
            tensors[name] = torch.from_numpy(number).view(plain).view(kind).reshape(entry["shape"])
    return tensors, header.get("__metadata__", {})


class NoData(Exception):
    """Something that an example needs is not on this machine; says what, and where it is to be had."""


def read_tokenizer(path: Path):
    """That of a tokenizer.json."""
    try:
        import tokenizers
    except ModuleNotFoundError as error:
        raise NoData("no package `tokenizers`: pip install tokenizers, or run the example by `make`, which fetches it") from error
    return tokenizers.Tokenizer.from_file(str(path))


def mean_and_deviation(values: Iterable[float]) -> tuple[float, float]:
    """The mean, and the standard deviation of a sample; that of a single value is 0."""
    values = list(values)
    mean = sum(values) / len(values)
    return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / max(len(values) - 1, 1))


def table(head: list[str], rows: list[list[str]]) -> str:
    """As text and as Markdown at once: columns padded; the first one left, the others right."""
    widths = [max(len(cell) for cell in column) for column in zip(head, *rows)]
    lines = [head, ["-" * widths[0]] + ["-" * (width - 1) + ":" for width in widths[1:]], *rows]
    return "\n".join("| " + " | ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                                       for i, (cell, width) in enumerate(zip(line, widths))) + " |" for line in lines)


def processor_time(call: Callable[[], object], seconds: float = 0.15, rounds: int = 5) -> float:
    """Seconds of processor time a call, the shortest of some rounds: that of the least disturbed one."""
    call()
    began, calls = time.process_time(), 0
    while time.process_time() - began < seconds / rounds:
        call()
        calls += 1
    best = math.inf
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(calls):
            call()
        best = min(best, (time.process_time() - began) / calls)
    return best


@dataclass(frozen=True)
class Panel:
    label: str
    values: list[list[float]]  # of each line one a seed
    form: str  # how means are written, as in format()
    logarithmic: bool = False


def plot(path: Path, names: list[str], panels: list[Panel], title: str) -> bool:
    """One line a name, so that labels cannot meet; the panels beside each other, with each line's mean written out. False: there is no
    matplotlib."""
    try:
        import matplotlib
    except ModuleNotFoundError:
        return False
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "libfff"  # the same file of the same numbers
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter
    figure, all_axes = plt.subplots(1, len(panels), sharey=True, figsize=(4.6 * len(panels) + 1.6, 0.42 * len(names) + 1.5),
                                    squeeze=False)
    lines = range(len(names))
    for axes, panel in zip(all_axes[0], panels):
        means = [mean_and_deviation(of_name)[0] for of_name in panel.values]
        colours = ["#b8500a" if "FFF" in name else "#30659c" for name in names]
        for line, (of_name, colour) in enumerate(zip(panel.values, colours)):
            axes.plot(of_name, [line] * len(of_name), "o", color=colour, alpha=0.35, markersize=5, markeredgewidth=0)
            axes.plot([means[line]], [line], "|", color=colour, markersize=13, markeredgewidth=2)
            axes.annotate(format(means[line], panel.form), (1.02, line), xycoords=("axes fraction", "data"), va="center", fontsize=9)
        if panel.logarithmic:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(ScalarFormatter())
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.annotate("mean", (1.02, -0.5), xycoords=("axes fraction", "data"), va="center", fontsize=8, color="#555555")
        axes.set_yticks(list(lines))
        axes.set_yticklabels(names, fontsize=9)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlabel(panel.label, fontsize=9)
        axes.tick_params(axis="x", labelsize=8)
        axes.grid(True, color="#e2e2e2", linewidth=0.7)
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.suptitle(title, fontsize=10)
    figure.tight_layout(rect=(0, 0, 0.97, 1), w_pad=4.5)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", metadata={"Date": None})
    plt.close(figure)
    return True
