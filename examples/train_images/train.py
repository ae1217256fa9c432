#!/usr/bin/env python3
"""Image classifiers of one layer, dense and fast feedforward, trained on Fashion-MNIST: 784 pixels -> layer -> 10 classes.

    make train-images          or, where PyTorch, the data and the library are there:
    FFF_LIBRARY=build/libfff.so PYTHONPATH=python python3 examples/train_images/train.py

Every row is trained alike: Adam, a one-cycle schedule up to 2e-3, batches of 256. "Used" is how many neurons one image uses, which is
what evaluation costs. Prints a table, and writes it and a picture. Exits with 1 if a path sum does not reach the bars below.

The data are Debian's package dataset-fashion-mnist. All is seeded: the same processor and PyTorch give the same numbers.
"""

from __future__ import annotations

import argparse
import gzip
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import fff.torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import training_tools as tools  # noqa: E402

PIXELS, CLASSES, BATCH, RATE = 784, 10, 256, 2e-3
MEAN, DEVIATION = 0.2860, 0.3530  # of a training pixel, from 0 to 1
DATA = Path("/usr/share/datasets/fashion-mnist")
STORES = ("bf16", "f16", "i8", "bf16+i8")


# ---- The rows ----


@dataclass(frozen=True)
class Row:
    name: str
    used: int  # neurons that one image uses, routers among them
    neurons: int
    make: Callable[[], nn.Module]
    hardening: float = 0.0


def dense(neurons: int) -> nn.Module:
    return nn.Sequential(nn.Linear(PIXELS, neurons), nn.GELU(), nn.Linear(neurons, CLASSES))


def dense_row(neurons: int) -> Row:
    return Row(f"dense {neurons}", neurons, neurons, lambda: dense(neurons))


def path_row(trees: int, depth: int, activation: type[nn.Module]) -> Row:
    kind = "identity" if activation is nn.Identity else activation.__name__
    return Row(f"FFF {trees}x{depth} {kind}", trees * (depth + 1), trees * fff.nodes_per_tree(depth),
               lambda: fff.torch.FFF(PIXELS, CLASSES, depth, trees, activation))


def leaf_row(depth: int, width: int, hardening: float) -> Row:
    return Row(f"leaf FFF depth {depth} width {width}", depth + width, 2 ** depth * width + 2 ** depth - 1,
               lambda: fff.torch.LeafFFF(PIXELS, width, CLASSES, depth), hardening)


ROWS = [dense_row(7), path_row(1, 6, nn.Identity), path_row(1, 6, nn.GELU), dense_row(12), leaf_row(4, 8, 3.0),
        path_row(4, 4, nn.Identity), dense_row(127)]
SAVED = "FFF 4x4 identity"


# ---- Data ----


@dataclass(frozen=True)
class Part:
    images: torch.Tensor  # (images, 784): pixels from 0 to 1, less their mean, by their deviation
    labels: torch.Tensor


def read_idx(path: Path) -> np.ndarray:
    """An array of bytes in the data set's own format: 0, 0, 8, the rank, the sizes, the bytes."""
    with gzip.open(path) as stream:
        data = stream.read()
    if data[:3] != b"\0\0\x08":
        raise ValueError(f"{path} is no IDX file of bytes")
    sizes = np.frombuffer(data, ">u4", data[3], 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(sizes)


def read_part(folder: Path, prefix: str) -> Part:
    pixels = read_idx(folder / f"{prefix}-images-idx3-ubyte.gz").reshape(-1, PIXELS)
    images = (torch.from_numpy(pixels.astype(np.float32)) / 255 - MEAN) / DEVIATION
    return Part(images, torch.from_numpy(read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz").astype(np.int64)))


# ---- Training and evaluation ----


def train(row: Row, data: Part, seed: int, epochs: int) -> tuple[nn.Module, float]:
    """The model in evaluation mode, and the seconds of processor time that training took."""
    torch.manual_seed(seed)
    model = row.make().train()
    began = time.process_time()
    steps = len(data.images) // BATCH
    optimizer = torch.optim.Adam([weight for weight in model.parameters() if weight.requires_grad], lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=epochs * steps)
    for _ in range(epochs):
        order = torch.randperm(len(data.images))
        for chosen in order[:steps * BATCH].split(BATCH):
            optimizer.zero_grad(set_to_none=True)
            loss_of(model, row, data.images[chosen], data.labels[chosen]).backward()
            optimizer.step()
            schedule.step()
    return model.eval(), time.process_time() - began


def loss_of(model: nn.Module, row: Row, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    if row.hardening == 0:
        return functional.cross_entropy(model(images), labels)
    scores, entropies = model(images, return_entropies=True)
    return functional.cross_entropy(scores, labels) + row.hardening * entropies.mean()


@torch.no_grad()
def accuracy(model: nn.Module, data: Part) -> float:
    """In per cent; by fff's kernels where the model has an FFF layer."""
    return 100 * (model(data.images).argmax(1) == data.labels).float().mean().item()


@torch.no_grad()
def by_kernels(model: nn.Module) -> nn.Module:
    """A dense classifier as trees of depth 0, which is the same function, so that the kernels compute it; others as they are."""
    if not isinstance(model, nn.Sequential):
        return model
    into, activation, out = model
    layer = fff.torch.FFF(PIXELS, CLASSES, 0, into.out_features, type(activation))
    layer.linear_in.load_state_dict(into.state_dict())
    layer.linear_out.weight.copy_(out.weight)
    whole = fff.torch.Forest([layer], output_bias=True)
    whole.output_bias.copy_(out.bias)
    return whole.eval()


@torch.no_grad()
def inference_time(model: nn.Module, data: Part, batch: int) -> float:
    """Microseconds of processor time an image; of a dense layer by the kernels or by PyTorch, whichever is faster."""
    images, ways = data.images[:batch].contiguous(), {model, by_kernels(model)}
    return 1e6 / batch * min(tools.processor_time(lambda way=way: way(images)) for way in ways)


@dataclass
class Result:
    row: Row
    accuracies: list[float]
    training: list[float]
    inference: list[float]
    batched: list[float]
    first: nn.Module  # of the first seed


def measure(row: Row, training: Part, test: Part, seeds: int, epochs: int) -> Result:
    result = Result(row, [], [], [], [], nn.Identity())
    for seed in range(1, seeds + 1):
        model, seconds = train(row, training, seed, epochs)
        result.accuracies.append(accuracy(model, test))
        result.training.append(seconds)
        result.inference.append(inference_time(model, test, 1))
        result.batched.append(inference_time(model, test, BATCH))
        if seed == 1:
            result.first = model
    return result


# ---- Report ----


def report(results: list[Result], seeds: int, epochs: int) -> str:
    head = ["Layer", "Neurons", "Used", "Accuracy, %", "Deviation", "Training, s", "Inference, µs", f"… in batches of {BATCH}"]
    lines = []
    for result in results:
        mean, deviation = tools.mean_and_deviation(result.accuracies)
        lines.append([result.row.name, str(result.row.neurons), str(result.row.used), f"{mean:.2f}", f"{deviation:.2f}",
                      f"{min(result.training):.1f}", f"{min(result.inference):.1f}", f"{min(result.batched):.2f}"])
    return (f"Fashion-MNIST, 10,000 test images, {seeds} seed{'s' if seeds > 1 else ''}, {epochs} epoch{'s' if epochs > 1 else ''}. "
            "Times are of the processor, an image's or a training run's, one thread, the shortest seen; a dense layer's inference "
            f"by PyTorch {torch.__version__} or, as trees of depth 0, by the kernels, whichever is faster.\n\n" + tools.table(head, lines) + "\n")


def picture(results: list[Result], path: Path) -> None:
    names = [f"{result.row.name} ({result.row.used} of {result.row.neurons} used)" for result in results]
    panels = [tools.Panel("accuracy on 10,000 test images, %", [result.accuracies for result in results], ".2f"),
              tools.Panel("inference, µs an image, one at a time", [[min(result.inference)] for result in results], ".1f", True)]
    if not tools.plot(path, names, panels, "Fashion-MNIST, 784 → layer → 10: each seed, and the mean"):
        print("no picture: matplotlib is not installed (Debian: python3-matplotlib)")


def bars(results: list[Result]) -> list[str]:
    """What must hold of a full run, and does not."""
    means = {result.row.name: tools.mean_and_deviation(result.accuracies)[0] for result in results}
    missed = []
    for name, other, least in (("FFF 1x6 identity", "dense 7", 1.0), (SAVED, "dense 127", -2.0)):
        if name in means and other in means and means[name] - means[other] < least:
            missed.append(f"{name} is {means[name] - means[other]:+.2f} points from {other}, and should be {least:+.2f} or more")
    return missed


# ---- The saved classifier ----


@torch.no_grad()
def save(model: nn.Module, trained_by: str, test: Part, path: Path, count: int) -> None:
    """A layer file for `fff verify`: the path sum, the first test images, their results, paths and labels."""
    images = test.images[:count].contiguous()
    names = ("linear_in.weight", "linear_in.bias", "linear_out.weight")
    state = model.state_dict()
    tools.write_safetensors(path, {
        **{name: state[name] for name in names}, "input": images, "output": model.dense(images),
        "path": model.route(images)[0].to(torch.int32), "labels": test.labels[:count].to(torch.int32)}, {
        "variant": "path", "trees": str(model.parallel_size), "depth": str(model.depth), "activation": "identity",
        "route": "logit > 0 goes right", "data": "Fashion-MNIST", "input_mean": str(MEAN), "input_deviation": str(DEVIATION),
        "trained_by": trained_by})


def load(path: Path) -> tuple[nn.Module, str]:
    """The classifier, and what trained it."""
    tensors, metadata = tools.read_safetensors(path)
    model = fff.torch.FFF(PIXELS, CLASSES, int(metadata["depth"]), int(metadata["trees"]), nn.Identity)
    model.load_state_dict({name: tensors[name] for name in model.state_dict()})
    return model.eval(), metadata.get("trained_by", "")


@torch.no_grad()
def evaluate(model: nn.Module, test: Part) -> str:
    """The saved classifier on all test images, its weights stored in fewer bits: the effect on routes, outputs, answers."""
    routes, scores = model.route(test.images)[0], model(test.images)
    lines = [["f32", "0", "0", "0", "0", f"{accuracy(model, test):.2f}"]]
    for store in STORES:
        for exact in (False, True):
            fff.torch.quantize(model, store, exact_routes=exact)
            apart, narrow = model.route(test.images)[0] != routes, model(test.images)
            error = (narrow - scores).pow(2).mean().sqrt() / scores.pow(2).mean().sqrt()
            lines.append([f"{store}{', exact routes' if exact else ''}", str(int(apart.flatten(1).any(1).sum())),
                          str(int(apart.sum())), f"{error:.2g}", str(int((narrow.argmax(1) != scores.argmax(1)).sum())),
                          f"{accuracy(model, test):.2f}"])
    head = ["Stored as", "Images on another route", "Other nodes", "Outputs' error", "Other answers", "Accuracy, %"]
    return (f"{len(test.images):,} test images, {routes[0].numel()} nodes each. The error is the root mean square of the difference from "
            "float32, by that of the outputs.\n\n" + tools.table(head, lines) + "\n")


# ---- The command ----


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Trains image classifiers of one layer on Fashion-MNIST.")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=3, help="how many; they are 1, 2 and so on")
    parser.add_argument("--rows", help="names or parts of names, with commas between them; all unless told")
    parser.add_argument("--quick", action="store_true", help="one epoch, one seed, three rows: whether it learns at all")
    parser.add_argument("--save", type=Path, metavar="DIR", help=f"write {SAVED} of seed 1 as DIR/model.safetensors")
    parser.add_argument("--recorded", type=int, default=64, help="test images in that file; 64 unless told")
    parser.add_argument("--evaluate", type=Path, metavar="FILE", help="do not train: run this file on all test images; --save writes it anew, with --recorded images")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=Path("build-train/images"), help="folder of the table and the picture")
    return parser.parse_args()


def chosen_rows(options: argparse.Namespace) -> list[Row]:
    if options.quick and not options.rows:
        options.rows = "dense 7,1x6 identity,leaf"
    wanted = options.rows.split(",") if options.rows else [""]
    return [row for row in ROWS if any(text.strip().lower() in row.name.lower() for text in wanted)]


def main() -> int:
    options = arguments()
    rows = chosen_rows(options)
    if not rows:
        print(f"no such row; there are: {', '.join(row.name for row in ROWS)}", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    try:
        training, test = read_part(options.data, "train"), read_part(options.data, "t10k")
    except OSError as error:
        print(f"no Fashion-MNIST: {error.strerror}: {error.filename} (Debian: apt-get install dataset-fashion-mnist, or --data FOLDER)",
              file=sys.stderr)
        return 77
    if options.evaluate:
        model, trained_by = load(options.evaluate)
        if options.save:
            save(model, trained_by, test, options.save / "model.safetensors", options.recorded)
        print(evaluate(model, test))
        return 0
    epochs, seeds = (1, 1) if options.quick else (options.epochs, options.seeds)
    results = []
    for row in rows:
        results.append(measure(row, training, test, seeds, epochs))
        print(f"{row.name}: {', '.join(f'{each:.2f}' for each in results[-1].accuracies)}", flush=True)
    text = report(results, seeds, epochs)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "results.md").write_text(text)
    picture(results, options.out / "results.svg")
    print(f"\n{text}\nWritten: {options.out}/results.md and .svg")
    for result in results:
        if options.save and result.row.name == SAVED:
            trained_by = f"examples/train_images/train.py, {SAVED}, seed 1, {epochs} epochs"
            save(result.first, trained_by, test, options.save / "model.safetensors", options.recorded)
            print(f"Written: {options.save}/model.safetensors, {result.accuracies[0]:.2f} %")
    missed = [f"{result.row.name} has learnt nothing: {min(result.accuracies):.2f} %" for result in results
              if min(result.accuracies) < 60]
    if not options.quick and epochs >= 6:
        missed += bars(results)
    print("\n".join(missed), file=sys.stderr, end="\n" if missed else "")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
