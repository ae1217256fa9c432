#!/usr/bin/env python3
"""Replaces the last feedforward of all-MiniLM-L6-v2 (384 wide, 1536 neurons) by a fast feedforward layer and by others of equal cost, each
trained to imitate it, and asks what is left of the model's sentence embeddings.

    make convert-minilm         or, where PyTorch, tokenizers, the model, the text and the library are there:
    FFF_LIBRARY=build/libfff.so PYTHONPATH=python python3 examples/convert_minilm/convert.py --model build-minilm

Every layer f is trained alike, on tokens of WordNet's glosses: the loss is the mean square of LayerNorm(x + f(x)) less
LayerNorm(x + feedforward(x)), the hidden states that the model goes on with. (The mean square of f itself is the wrong loss: a single
dimension has half of its variance, and LayerNorm evens it out.) Texts that no training saw then get embeddings by either model.
"Cosine" is that of the two; "top 10 kept" is how many of a text's ten nearest among these texts are nearest still.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

import fff.torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
import minilm  # noqa: E402
from minilm import MiniLM, Tokens, tools  # noqa: E402

GLOSSES = Path("/usr/share/wordnet")
HELD_OUT, BATCH, RATE = 2000, 1024, 2e-3
LEAST_COSINE, LEAST_KEPT = 0.96, 0.83


# ---- The layers ----


class Biased(nn.Module):
    """A layer with an output bias, and output weights that begin as zeros: so it begins as no feedforward."""

    def __init__(self, layer: nn.Module, output: nn.Linear, width: int):
        super().__init__()
        self.layer, self.bias = layer, nn.Parameter(torch.zeros(width))
        nn.init.zeros_(output.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) + self.bias


@dataclass(frozen=True)
class Row:
    name: str
    used: int  # neurons of a token
    neurons: int
    make: Callable[[int], nn.Module]


def dense(neurons: int) -> Row:
    def make(width: int) -> nn.Module:
        output = nn.Linear(neurons, width, bias=False)
        return Biased(nn.Sequential(nn.Linear(width, neurons), nn.GELU(), output), output, width)
    return Row(f"dense {neurons}", neurons, neurons, make)


def path_sum(trees: int, depth: int) -> Row:
    def make(width: int) -> nn.Module:
        layer = fff.torch.FFF(width, width, depth, trees, nn.Identity)
        return Biased(layer, layer.linear_out, width)
    return Row(f"FFF {trees}x{depth} identity", trees * (depth + 1), trees * fff.nodes_per_tree(depth), make)


def linear(width: int) -> nn.Module:
    output = nn.Linear(width, width, bias=False)
    return Biased(output, output, width)


class Nothing(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x)


CONVERTED = path_sum(16, 5)
ROWS = [Row("no feedforward", 0, 0, lambda width: Nothing()), dense(96),
        Row("a linear map", 192, 192, linear), CONVERTED]


# ---- Data ----


def read_glosses(folder: Path) -> list[str]:
    """Definitions and examples of nouns, verbs, adjectives and adverbs, in an order of their own."""
    glosses = []
    for part in ("noun", "verb", "adj", "adv"):
        try:
            lines = (folder / f"data.{part}").read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise tools.NoData(f"no WordNet: {error.strerror}: {error.filename} (Debian: apt-get install wordnet-base)") from error
        glosses += [line.partition(" | ")[2].strip() for line in lines if not line.startswith("  ")]
    order = torch.randperm(len(glosses), generator=torch.Generator().manual_seed(0)).tolist()
    return [glosses[i] for i in order if glosses[i]]


def read_tokenizer(folder: Path):
    tokenizer = tools.read_tokenizer(folder / "tokenizer.json")
    tokenizer.enable_truncation(minilm.MOST_TOKENS)
    tokenizer.no_padding()
    return tokenizer


def read_tokens(options: argparse.Namespace, model: MiniLM) -> tuple[Tokens, Tokens]:
    """Of training and of held-out texts. Kept in a file, since the model takes minutes for them."""
    kept = options.out / f"tokens-{options.tokens}-{options.held_out}.pt"
    if kept.exists():
        return tuple(Tokens(*part) for part in torch.load(kept))
    glosses, tokenizer = read_glosses(options.glosses), read_tokenizer(options.model)
    held_out, rest, count, last = glosses[:options.held_out], glosses[options.held_out:], 0, 0
    while count < options.tokens and last < len(rest):
        count += len(tokenizer.encode(rest[last]).ids)
        last += 1
    parts = (minilm.run(model, tokenizer, rest[:last], "training texts"), minilm.run(model, tokenizer, held_out, "held-out texts"))
    unfinished = kept.with_suffix(".unfinished")
    torch.save(tuple((part.states, part.starts) for part in parts), unfinished)
    unfinished.replace(kept)
    return parts


# ---- Training and evaluation ----


def train(row: Row, seed: int, model: MiniLM, states: torch.Tensor, right: torch.Tensor, epochs: int) -> tuple[nn.Module, float]:
    """The layer in evaluation mode, and the seconds of processor time of its training. `right` are the original's hidden states."""
    torch.manual_seed(seed)
    layer = row.make(model.width).train()
    weights = list(layer.parameters())
    began = time.process_time()
    if weights:
        steps = len(states) // BATCH
        optimizer = torch.optim.AdamW(weights, lr=RATE, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=epochs * steps, pct_start=0.1)
        for epoch in range(epochs):
            summed = 0.0
            for chosen in torch.randperm(len(states))[:steps * BATCH].split(BATCH):
                x = states[chosen]
                loss = (model.finish(x, layer(x), model.last) - right[chosen]).square().mean()
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()
                summed += loss.item()
            print(f"  {row.name}, seed {seed}: epoch {epoch + 1} of {epochs}, loss {summed / steps:.5f}", file=sys.stderr, flush=True)
    return layer.eval(), time.process_time() - began


@torch.no_grad()
def last_hidden(model: MiniLM, states: torch.Tensor, layer: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """With `layer` in place of the last feedforward."""
    return torch.cat([model.finish(x, layer(x), model.last) for x in states.split(8 * BATCH)])


def nearest(embeddings: torch.Tensor, count: int) -> torch.Tensor:
    """Of each text the nearest others, by cosine."""
    return (embeddings @ embeddings.T).fill_diagonal_(-2).topk(count, 1).indices


@dataclass
class Result:
    row: str
    seed: int
    error: float  # mean square of the hidden states' difference, by their variance
    cosine: float
    kept: float
    training: float
    token: float  # microseconds a token


@torch.no_grad()
def evaluate(row: Row, seed: int, layer: nn.Module, training: float, model: MiniLM, held_out: Tokens,
             original: torch.Tensor) -> Result:
    converted = last_hidden(model, held_out.states, layer)
    error = (converted - original).square().mean() / (original - original.mean(0)).square().mean()
    before, after = held_out.embeddings(original), held_out.embeddings(converted)
    near, still = nearest(before, 10), nearest(after, 10)
    kept = (near[:, :, None] == still[:, None, :]).any(2).float().mean()
    cosine = (before * after).sum(1).mean()
    return Result(row.name, seed, float(error), float(cosine), float(kept), training, time_layer(layer, held_out))


@torch.no_grad()
def time_layer(layer: Callable[[torch.Tensor], torch.Tensor], held_out: Tokens) -> float:
    """In batches of 64 tokens."""
    x = held_out.states[:64].clone()
    return 1e6 * tools.processor_time(lambda: layer(x)) / len(x)


# ---- Report ----


def report(results: list[Result], own_time: float, seeds: int, tokens: int, texts: int, epochs: int) -> str:
    head = ["Last feedforward", "Neurons", "Used", "Error", "Cosine", "Deviation", "Top 10 kept", "Deviation", "Training, s", "µs a token"]
    lines = [["the original, dense 1536", "1536", "1536", "0", "1", "", "1", "", "", f"{own_time:.2f}"]]
    for row in ROWS:
        mine = [result for result in results if result.row == row.name]
        if not mine:
            continue
        cosine, kept = (tools.mean_and_deviation(getattr(result, name) for result in mine) for name in ("cosine", "kept"))
        lines.append([row.name, str(row.neurons), str(row.used), f"{tools.mean_and_deviation(result.error for result in mine)[0]:.3f}",
                      f"{cosine[0]:.4f}", f"{cosine[1]:.4f}", f"{kept[0]:.3f}", f"{kept[1]:.3f}",
                      f"{min(result.training for result in mine):.0f}", f"{min(result.token for result in mine):.2f}"])
    return (f"The last feedforward of all-MiniLM-L6-v2, trained on {tokens:,} tokens of WordNet's glosses, {epochs} epochs, {seeds} "
            f"seed{'s' if seeds > 1 else ''}; {texts:,} held-out glosses. Error: the mean square of the difference of hidden states, by "
            "their variance. Times are of the processor, one thread, the shortest seen, inference in batches of 64; PyTorch "
            f"{torch.__version__}.\n\n{tools.table(head, lines)}\n")


def bars(results: list[Result]) -> list[str]:
    mine = [result for result in results if result.row == CONVERTED.name]
    missed = []
    for name, least in (("cosine", LEAST_COSINE), ("kept", LEAST_KEPT)):
        mean, _ = tools.mean_and_deviation(getattr(result, name) for result in mine)
        if mean < least:
            missed.append(f"{CONVERTED.name}: {name} is {mean:.4f}, and should be {least} or more")
    return missed


def quick_bar(results: list[Result]) -> list[str]:
    """Of --quick, whose first row is no feedforward."""
    nothing, some = (tools.mean_and_deviation(result.error for result in results if result.row == name)[0]
                     for name in (ROWS[0].name, CONVERTED.name))
    return [] if some < nothing else [f"{CONVERTED.name} has learnt nothing: {some:.3f}"]


# ---- The command ----


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Replaces the last feedforward of all-MiniLM-L6-v2 by layers that are trained to imitate it.")
    parser.add_argument("--model", type=Path, default=Path("build-minilm"), help="folder of model.safetensors, config.json, tokenizer.json")
    parser.add_argument("--glosses", type=Path, default=GLOSSES, help="folder of WordNet's data.noun and so on")
    parser.add_argument("--tokens", type=int, default=800_000, help="of training")
    parser.add_argument("--held-out", type=int, default=HELD_OUT, help="texts")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=1, help="how many; they are 1, 2 and so on")
    parser.add_argument("--rows", help="names or parts of names, with commas between them; all unless told")
    parser.add_argument("--quick", action="store_true", help="few tokens and rows: whether it learns at all")
    parser.add_argument("--out", type=Path, default=Path("build-train/convert"), help="folder of the table, and of the model's tokens")
    options = parser.parse_args()
    if options.quick:
        options.tokens, options.held_out, options.epochs, options.rows = 20_000, 200, 3, "no feedforward,16x5"
    return options


def run(options: argparse.Namespace, rows: list[Row]) -> int:
    options.out.mkdir(parents=True, exist_ok=True)
    model = MiniLM(options.model)
    training, held_out = read_tokens(options, model)
    right, original = (last_hidden(model, part.states, lambda x: model.feed_forward(x, model.last)) for part in (training, held_out))
    torch.set_num_threads(1)
    results = []
    for seed in range(1, options.seeds + 1):
        for row in rows:
            layer, seconds = train(row, seed, model, training.states, right, options.epochs)
            results.append(evaluate(row, seed, layer, seconds, model, held_out, original))
            print(f"{row.name}, seed {seed}: cosine {results[-1].cosine:.4f}, top 10 kept {results[-1].kept:.3f}", flush=True)
    own_time = time_layer(lambda x: model.feed_forward(x, model.last), held_out)
    text = report(results, own_time, options.seeds, len(training.states), len(held_out), options.epochs)
    (options.out / "results.md").write_text(text)
    print(f"\n{text}\nWritten: {options.out}/results.md")
    if options.quick:
        missed = quick_bar(results)
    else:
        missed = bars(results) if CONVERTED in rows else []
    print("\n".join(missed), file=sys.stderr, end="\n" if missed else "")
    return 1 if missed else 0


def main() -> int:
    options = arguments()
    wanted = options.rows.split(",") if options.rows else [""]
    rows = [row for row in ROWS if any(text.strip().lower() in row.name.lower() for text in wanted)]
    if not rows:
        print(f"no such row; there are: {', '.join(row.name for row in ROWS)}", file=sys.stderr)
        return 2
    try:
        return run(options, rows)
    except tools.NoData as error:
        print(error, file=sys.stderr)
        return 77


if __name__ == "__main__":
    sys.exit(main())
