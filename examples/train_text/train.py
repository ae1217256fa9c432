#!/usr/bin/env python3
"""A small language model, trained on the King James text, with four feedforwards: none, dense ones of the cost that the FFF has in inference,
the FFF, and its dense twin, which has as many neurons and uses all of them.

    make train-text            or, where PyTorch, tokenizers, the text and the library are there:
    FFF_LIBRARY=build/libfff.so PYTHONPATH=python python3 examples/train_text/train.py
    torchrun --standalone --nproc-per-node 2 examples/train_text/train.py       # the same on two processes, by gloo

Prints a table, and writes it and a picture. The bar: how much of the gap between no feedforward and the dense twin the FFF closes. Runs
write checkpoints; --resume goes on where one ended, with the numbers that it would have had. The models predict the next token; with --masked
they are BERTs, which predict masked ones, and --save DIR writes the one with the FFF in the published UltraFastBERT format, which `fff bert`
and `fff verify` read.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Optional

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))
import model as models  # noqa: E402
import text  # noqa: E402
import training_tools as tools  # noqa: E402

ROWS = [models.Feedforward("no feedforward"), models.Feedforward("dense 96", neurons=96),
        models.Feedforward("FFF 16x5 identity", trees=16, depth=5, activation=nn.Identity),
        models.Feedforward("dense 1008, the twin", neurons=1008)]
NONE, SAVED, TWIN = ROWS[0].name, ROWS[2].name, ROWS[3].name
WINDOWS = 8
LEAST_GAP, LEAST_CLOSED = 0.02, 0.45  # a gap in loss, and what the FFF should close of it
CHECKPOINT_EVERY = 100


@dataclass
class Setting:
    """What a run's numbers depend on; a checkpoint of another setting is not resumed."""

    steps: int
    rate: float
    windows: int
    sizes: models.Sizes
    ranks: int


@dataclass
class Result:
    row: str
    seed: int
    loss: float
    training: float  # seconds of processor time, of all processes
    token: float  # microseconds a token of the encoder
    layer: float  # … of a feedforward layer


# ---- Processes ----


def begin_processes() -> tuple[int, int]:
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return 0, 1
    dist.init_process_group("gloo")
    return dist.get_rank(), dist.get_world_size()


def summed(value: float) -> float:
    if not dist.is_initialized():
        return value
    total = torch.tensor(value, dtype=torch.double)
    dist.all_reduce(total)
    return total.item()


# ---- Progress ----


class Progress:
    """tqdm's bar where there is one and someone to see it, else a line now and then."""

    def __init__(self, name: str, first: int, steps: int, shown: bool):
        self.name, self.steps, self.shown, self.bar = name, steps, shown, None
        if shown and sys.stderr.isatty():
            with contextlib.suppress(ModuleNotFoundError):
                import tqdm
                self.bar = tqdm.tqdm(total=steps, initial=first, desc=name, unit="step", mininterval=1)

    def step(self, done: int, loss: float) -> None:
        if self.bar is not None:
            self.bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
            self.bar.update()
        elif self.shown and (done % max(self.steps // 5, 1) == 0 or done == self.steps):
            print(f"  {self.name}: step {done} of {self.steps}, loss {loss:.3f}", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self.bar is not None:
            self.bar.close()


# ---- Training ----


class Run:
    """One model in training: what a checkpoint holds."""

    def __init__(self, row: models.Feedforward, seed: int, setting: Setting):
        torch.manual_seed(seed)
        self.row, self.seed, self.setting = row, seed, setting
        self.model = models.LanguageModel(setting.sizes, row)
        decayed = [weight for weight in self.model.parameters() if weight.dim() > 1]
        others = [weight for weight in self.model.parameters() if weight.dim() <= 1]
        self.optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0}],
                                           lr=setting.rate, betas=(0.9, 0.98))
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, setting.rate, total_steps=setting.steps, pct_start=0.1)
        self.step, self.seconds, self.smooth = 0, 0.0, 0.0

    def save(self, path: Path) -> None:
        """Whole or not at all."""
        temporary = path.with_suffix(".unfinished")
        torch.save({"setting": json.dumps(asdict(self.setting)), "model": self.model.state_dict(), "step": self.step,
                    "optimizer": self.optimizer.state_dict(), "schedule": self.schedule.state_dict(), "seconds": self.seconds,
                    "smooth": self.smooth}, temporary)
        temporary.replace(path)

    def load(self, path: Path) -> None:
        if not path.exists():
            return
        saved = torch.load(path)
        if saved["setting"] != json.dumps(asdict(self.setting)):
            raise tools.NoData(f"{path} is of another setting: {saved['setting']}")
        for name in ("model", "optimizer", "schedule"):
            getattr(self, name).load_state_dict(saved[name])
        self.step, self.seconds, self.smooth = saved["step"], saved["seconds"], saved["smooth"]


def train(run: Run, ids: torch.Tensor, rank: int, checkpoint: Path) -> None:
    setting = run.setting
    parallel = DistributedDataParallel(run.model) if setting.ranks > 1 else run.model
    parallel.train()
    progress = Progress(f"{run.row.name}, seed {run.seed}", run.step, setting.steps, rank == 0)
    began = time.process_time() - run.seconds
    while run.step < setting.steps:
        batch = text.training_batch(ids, setting.windows, setting.sizes.length, setting.sizes.causal, run.seed, run.step)
        batch = text.share(batch, rank, setting.ranks)
        run.optimizer.zero_grad(set_to_none=True)
        loss = parallel(batch.ids, batch.at, batch.right)
        loss.backward()
        nn.utils.clip_grad_norm_(run.model.parameters(), 0.5)
        run.optimizer.step()
        run.schedule.step()
        run.smooth += (loss.item() - run.smooth) / min(run.step + 1, 50)
        run.step += 1
        run.seconds = time.process_time() - began
        progress.step(run.step, run.smooth)
        if rank == 0 and (run.step % CHECKPOINT_EVERY == 0 or run.step == setting.steps):
            run.save(checkpoint)
    progress.end()


@torch.no_grad()
def evaluate(model: models.LanguageModel, batches: list[text.Batch]) -> float:
    """The mean loss of all masked tokens; by fff's kernels where there is an FFF."""
    total = sum(model(batch.ids, batch.at, batch.right).item() * len(batch.at) for batch in batches)
    return total / sum(len(batch.at) for batch in batches)


@torch.no_grad()
def time_inference(model: models.LanguageModel, batch: text.Batch) -> tuple[float, float]:
    """Microseconds of processor time a token, of one window: the encoder, and one feedforward layer."""
    ids, layer = batch.ids[:1], model.encoder.layers[0].ffn
    whole = tools.processor_time(lambda: model.encoder(ids))
    states = torch.randn(ids.numel(), model.sizes.width)
    part = tools.processor_time(lambda: layer(states)) if layer is not None else 0.0
    return 1e6 * whole / ids.numel(), 1e6 * part / ids.numel()


# ---- Report ----


def closed(results: list[Result]) -> Optional[float]:
    """How much of the gap from no feedforward to the dense twin the FFF closes; None if there is hardly one."""
    none, fast, twin = (tools.mean_and_deviation(result.loss for result in results if result.row == row)[0]
                        for row in (NONE, SAVED, TWIN))
    return (none - fast) / (none - twin) if none - twin >= LEAST_GAP else None


def report(results: list[Result], setting: Setting, unigram: float, told: bool) -> str:
    """`told`: whether the losses are of models that are trained well enough to be compared."""
    head = ["Feedforward", "Neurons", "Used", "Evaluation loss", "Deviation", "Training, s", "Encoder, µs a token", "One feedforward, µs"]
    lines = []
    for row in ROWS:
        mine = [result for result in results if result.row == row.name]
        mean, deviation = tools.mean_and_deviation(result.loss for result in mine)
        lines.append([row.name, str(row.stored), str(row.used), f"{mean:.3f}", f"{deviation:.3f}",
                      f"{min(result.training for result in mine):.0f}", f"{min(result.token for result in mine):.1f}",
                      f"{min(result.layer for result in mine):.2f}"])
    seeds, sizes = len(results) // len(ROWS), setting.sizes
    part = closed(results)
    share = (f"\nThe FFF closes {100 * part:.0f} % of the gap between no feedforward and the twin.\n" if part is not None else
             f"\nThe twin is not better than no feedforward by {LEAST_GAP}: there is no gap that an FFF could close.\n")
    return (f"King James text, {'next' if sizes.causal else 'masked'} tokens of held-out chapters (knowing frequencies alone: {unigram:.3f}); {sizes.layers} layers, {sizes.width} "
            f"wide, vocabulary {sizes.vocabulary}, {setting.steps} steps of {setting.windows} x {sizes.length} tokens, {seeds} "
            f"seed{'s' if seeds > 1 else ''}, {setting.ranks} process{'es' if setting.ranks > 1 else ''} of one thread. Times are of the "
            f"processor, the shortest seen; one window of {sizes.length} tokens in inference; PyTorch {torch.__version__}.\n\n"
            f"{tools.table(head, lines)}\n{share if told else ''}")


def picture(results: list[Result], path: Path) -> None:
    names = [f"{row.name} ({row.used} of {row.stored} used)" if row.stored else row.name for row in ROWS]
    of_row = [[result for result in results if result.row == row.name] for row in ROWS]
    panels = [tools.Panel("evaluation loss (less is better)", [[result.loss for result in mine] for mine in of_row], ".3f"),
              tools.Panel("encoder in inference, µs a token", [[min(result.token for result in mine)] for mine in of_row], ".1f")]
    if not tools.plot(path, names, panels, "Small language models on the King James text: each seed, and the mean"):
        print("no picture: matplotlib is not installed (Debian: python3-matplotlib)")


# ---- The saved model ----


@torch.no_grad()
def save(model: models.LanguageModel, tokenizer, batch: text.Batch, folder: Path) -> None:
    """In the published format, matrices in bfloat16; with the tokenizer, and as expected.safetensors two windows of held-out text with the
    hidden states that PyTorch computes of the rounded model, by the dense definition."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: weight.bfloat16() if weight.dim() == 2 else weight for name, weight in model.state_dict().items()}
    tools.write_safetensors(folder / "model.safetensors", state, {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(models.config(model), indent=2) + "\n")
    text.write_tokenizer(tokenizer, folder)
    rounded, ids = models.LanguageModel(model.sizes, model.feedforward).train(), batch.ids[:2]
    rounded.load_state_dict({name: weight.float() for name, weight in state.items()})
    for layer in rounded.encoder.layers:
        layer.ffn.dense_training = True  # in training mode no kernel has a share in it
    tools.write_safetensors(folder / "expected.safetensors", {
        "input_ids": ids.int(), "attention_mask": torch.ones_like(ids).float(), "hidden": rounded.encoder(ids)})


# ---- The command ----


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Trains a small language model with four feedforwards on the King James text.")
    parser.add_argument("--masked", action="store_true", help="predict masked tokens, as BERT does, not the next one")
    parser.add_argument("--steps", type=int, help="1000, or 2000 with --masked")
    parser.add_argument("--seeds", type=int, default=1, help="how many; they are 1, 2 and so on")
    parser.add_argument("--rate", type=float, default=3e-3, help="the schedule's highest")
    parser.add_argument("--train", metavar="ROW", help="train this row alone (part of its name), and report nothing; for --resume")
    parser.add_argument("--seed", type=int, metavar="N", help="with --train, this seed alone")
    parser.add_argument("--quick", action="store_true", help="a few steps of a smaller model: whether it learns at all")
    parser.add_argument("--resume", action="store_true", help="go on with the checkpoints in --out")
    parser.add_argument("--save", type=Path, metavar="DIR", help=f"with --masked, write the model with {SAVED}, seed 1, in the published format")
    parser.add_argument("--out", type=Path, default=Path("build-train/text"), help="folder of checkpoints, table and picture")
    return parser.parse_args()


def setting_of(options: argparse.Namespace, ranks: int) -> Setting:
    if options.quick:
        return Setting(20, 4e-3, WINDOWS, models.Sizes(width=64, length=32, causal=not options.masked), ranks)
    steps = options.steps or (2000 if options.masked else 1000)
    return Setting(steps, options.rate, WINDOWS, models.Sizes(causal=not options.masked), ranks)


def run_all(options: argparse.Namespace, setting: Setting, rank: int) -> int:
    corpus = text.read_corpus()
    held_out = text.evaluation_batches(corpus.held_out, setting.sizes.length, setting.sizes.causal, 32, 16 if options.quick else 400)
    unigram, results = corpus.unigram_loss(), []
    options.out.mkdir(parents=True, exist_ok=True)
    for seed in range(1, (1 if options.quick else options.seeds) + 1):
        for number, row in enumerate(ROWS):
            run, checkpoint = Run(row, seed, setting), options.out / f"row{number}-seed{seed}.pt"
            if options.resume:
                run.load(checkpoint)
            if options.train is None or (options.train in row.name and options.seed in (None, seed)):
                train(run, corpus.training, rank, checkpoint)
            if options.train is not None:
                continue
            run.model.eval()
            result = Result(row.name, seed, evaluate(run.model, held_out), summed(run.seconds), *time_inference(run.model, held_out[0]))
            results.append(result)
            if rank == 0:
                print(f"{row.name}, seed {seed}: evaluation loss {result.loss:.3f}", flush=True)
            if rank == 0 and options.save and row.name == SAVED and seed == 1:
                save(run.model, corpus.tokenizer, held_out[0], options.save)
                print(f"Written: {options.save}/")
    return finish(options, setting, results, unigram) if rank == 0 and results else 0


def finish(options: argparse.Namespace, setting: Setting, results: list[Result], unigram: float) -> int:
    written = report(results, setting, unigram, not options.quick)
    (options.out / "results.md").write_text(written)
    (options.out / "results.json").write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n")
    picture(results, options.out / "results.svg")
    print(f"\n{written}\nWritten: {options.out}/results.md, .json and .svg")
    if options.quick:
        untrained = [result.row for result in results if not result.loss < 7.3]  # ln 2048 is 7.62
        print("".join(f"{row} has learnt nothing\n" for row in untrained), file=sys.stderr, end="")
        return 1 if untrained else 0
    part = closed(results)
    if part is not None and part < LEAST_CLOSED:
        print(f"The FFF should close {100 * LEAST_CLOSED:.0f} % or more.", file=sys.stderr)
        return 1
    return 0


def main() -> int:
    options = arguments()
    if options.save and not options.masked:
        print("--save: the published format is of masked models: add --masked", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    rank, ranks = begin_processes()
    if WINDOWS % ranks != 0:
        print(f"{ranks} processes: their number must divide {WINDOWS}, the windows of a batch", file=sys.stderr)
        return 2
    try:
        return run_all(options, setting_of(options, ranks), rank)
    except tools.NoData as error:
        print(error, file=sys.stderr)
        return 77
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
