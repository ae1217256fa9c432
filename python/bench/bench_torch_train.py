#!/usr/bin/env python3
"""A training step of fff.torch's module: forward and backward, on one thread, against what it replaces, in one process, in turn.

    FFF_LIBRARY=build/libfff.so PYTHONPATH=python python3 python/bench/bench_torch_train.py [ROUNDS [LEAST RATIO TO MASKED [TO TWIN]]]

1x11, 768 wide, GELU, batches of 128 and 1024 tokens, weights drawn by init_unit_(). Compared are

    masked   the same layer by dense(): all 4095 neurons, those off the paths set to 0, in PyTorch's operations
    twin     nn.Linear, GELU, nn.Linear with 4095 neurons, which are all used
    dense    the kernels, with gradients of the weights' shapes: 25 MB that are mostly zeros
    rows     the kernels, with gradients of the rows that were met (layer.sparse)
    RowAdam  rows, and the optimizer's step
    AdamW    dense, and torch.optim.AdamW's step

A step frees its gradients, as zero_grad() does. Outputs and gradients are compared with those of masked in the same run. Prints medians
over rounds; exits with 1 if something differs, or if at either batch `rows` is not as many times faster as asked for.
"""

import statistics
import sys
import time

import torch
from torch import nn

import fff.torch

WIDTH, DEPTH = 768, 11
BATCHES = (128, 1024)
TOLERANCE = 1e-4


def layer(state, **attributes):
    made = fff.torch.BenchmarkFFF(WIDTH, DEPTH, WIDTH) if attributes.pop("node_major", False) else fff.torch.FFF(WIDTH, WIDTH, DEPTH)
    made.load_state_dict(state)
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


class Step:
    """Forward and backward, and what an optimizer does."""

    def __init__(self, module, optimizer=None):
        self.module, self.optimizer = module, optimizer

    def __call__(self, x, upstream):
        self.module.zero_grad(set_to_none=True)
        x.grad = None
        y = self.module(x)
        y.backward(upstream)
        if self.optimizer is not None:
            self.optimizer.step()
            self.optimizer.zero_grad()
        return y


def seconds(step, x, upstream):
    began = time.thread_time()
    y = step(x, upstream)
    return time.thread_time() - began, y


def apart(one, other):
    one = one.to_dense() if one.layout != torch.strided else one
    return ((one - other).abs().max() / other.abs().max()).item()


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    least = {"masked": float(sys.argv[2]) if len(sys.argv) > 2 else 0, "twin": float(sys.argv[3]) if len(sys.argv) > 3 else 0}
    torch.set_num_threads(1)
    torch.manual_seed(1)
    state = fff.torch.init_unit_(fff.torch.FFF(WIDTH, WIDTH, DEPTH)).state_dict()
    twin = nn.Sequential(nn.Linear(WIDTH, 4095), nn.GELU(), nn.Linear(4095, WIDTH, bias=False))
    steps = {"masked": Step(layer(state, dense_training=True)), "twin": Step(twin), "dense": Step(layer(state))}
    listed = layer(state)
    collected = fff.torch.RowAdam(listed)
    steps["rows"] = Step(listed)
    rows, full = layer(state), layer(state)
    steps["RowAdam"] = Step(rows, fff.torch.RowAdam(rows, lr=1e-6))
    steps["AdamW"] = Step(full, torch.optim.AdamW(full.parameters(), lr=1e-6))
    print(f"PyTorch {torch.__version__}, libfff {fff.version()} on {fff.cpu().chosen}, operator: {fff.torch.backend()}; "
          f"1x{DEPTH}, {WIDTH} wide, one thread, {rounds} rounds, medians in ms")
    failed = False
    for batch in BATCHES:
        x, upstream = torch.randn(batch, WIDTH, requires_grad=True), torch.randn(batch, WIDTH)
        outputs = {}
        for name, step in steps.items():
            outputs[name] = [step(x, upstream).detach(), x.grad]
        expected = outputs["masked"] + [weight.grad for weight in steps["masked"].module.parameters()]
        found = {"dense": outputs["dense"] + [weight.grad for weight in steps["dense"].module.parameters()]}
        (of_rows,) = collected.gradients()
        at = of_rows.rows.long()
        found["rows"] = outputs["rows"] + [torch.zeros_like(weight).index_copy_(0, at, part) for weight, part in
                                           zip(expected[2:4], of_rows[1:3])]
        found["rows"].append(torch.zeros_like(expected[4].t()).index_copy_(0, at, of_rows.output_weight).t())
        for name, tensors in found.items():
            if not all(apart(*each) <= TOLERANCE for each in zip(tensors, expected)):  # a NaN is no agreement
                print(f"batch {batch}: {name} differs: {[apart(*each) for each in zip(tensors, expected)]}")
                failed = True
        times = {name: [] for name in steps}
        for _ in range(rounds):
            for name, step in steps.items():
                collected.zero_grad()
                for _ in range(1 if name in ("masked", "twin") else 5):
                    took, _ = seconds(step, x, upstream)
                times[name].append(took)
        median = {name: 1e3 * statistics.median(taken) for name, taken in times.items()}
        ratio = {name: statistics.median(a / b for a, b in zip(times[name], times["rows"])) for name in ("masked", "twin")}
        print(f"  batch {batch:5}, {of_rows.rows.numel()} rows met:  " + "   ".join(f"{name} {took:.2f}" for name, took in median.items()))
        print(f"               rows is {ratio['masked']:.1f} times as fast as masked, {ratio['twin']:.1f} times as the twin")
        for name, wanted in least.items():
            if ratio[name] < wanted:
                print(f"batch {batch}: {wanted:g} times {name} was asked for")
                failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
