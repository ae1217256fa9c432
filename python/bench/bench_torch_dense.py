#!/usr/bin/env python3
"""fff.torch's layer against the dense feedforward of as many neurons that PyTorch itself offers, in one process, in turn, on one
thread.

    FFF_LIBRARY=build/libfff.so PYTHONPATH=python python3 python/bench/bench_torch_dense.py [ROUNDS [BATCH...]]

Depth 11, 768 wide, one tree; the other side is nn.Linear, nn.GELU, nn.Linear with the same 4095 neurons and the same weights, all
of which it uses: another function, so this is about time alone. A call is a call of the module, under inference_mode. Inputs are
4096 tokens in turn, or as many as the batch, for both. What the timed calls returned is compared, some 512 tokens at all positions of
a batch, with the definition, layer.dense(), and with the dense layer, both in float64. Times are of the processor: what else runs does not count, though it takes its part of caches. Prints the median over rounds
of the ratio of two runs next to each other, and its spread; exits with 1 if outputs differ. What it prints, kept as pytorch.txt beside
a report of `make bench`, gives the README's table a column (bench/page.py).
"""

import copy
import statistics
import sys
import time

import torch
from torch import nn

import fff.torch

WIDTH, DEPTH, NEURONS, TOKENS = 768, 11, 4095, 4096
BATCHES = (1, 8, 64, 512, 2048, 4096, 16384)
CHECKED = 512  # tokens of each batch size that are held against float64, about
SECONDS = 0.05  # that a round of either side takes at least


def run(module, inputs, calls, outputs):
    """Seconds of the processor a call, with the inputs in turn. The last output of each input is put into `outputs`."""
    began = time.thread_time()
    for call in range(calls):
        outputs[call % len(inputs)] = module(inputs[call % len(inputs)])
    return (time.thread_time() - began) / calls


def tokens_that_differ(exact, inputs, outputs):
    """How many tokens are not what `exact` computes in float64, of CHECKED. One whose logit is nearly zero may take another path
    there. They stand an odd number apart, so that they meet all positions of a batch."""
    found = torch.cat([outputs[index] for index in sorted(outputs)])
    x = torch.cat([inputs[index] for index in sorted(outputs)])
    apart = len(x) // CHECKED | 1
    expected = exact(x[::apart].double())
    return (~((found[::apart] - expected).abs() <= 1e-4 * (1 + expected.abs()))).any(dim=-1).sum().item()  # a NaN is a difference


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    batches = [int(batch) for batch in sys.argv[2:]] or BATCHES
    torch.set_num_threads(1)
    torch.manual_seed(1)
    layer = fff.torch.FFF(WIDTH, WIDTH, DEPTH).eval()
    twin = nn.Sequential(nn.Linear(WIDTH, NEURONS), nn.GELU(), nn.Linear(NEURONS, WIDTH, bias=False)).eval()
    twin[0].load_state_dict(layer.linear_in.state_dict())
    twin[2].load_state_dict(layer.linear_out.state_dict())
    exact_layer, exact_twin = copy.deepcopy(layer).double(), copy.deepcopy(twin).double()
    print(f"PyTorch {torch.__version__}, libfff {fff.version()} on {fff.cpu().chosen}, operator: {fff.torch.backend()}; "
          f"1x{DEPTH}, {WIDTH} wide, one thread, {rounds} rounds, medians, us of the processor "
          "a token", flush=True)
    for batch in batches:
        inputs = torch.randn(max(batch, TOKENS), WIDTH).split(batch)
        calls, outputs = [], ({}, {})
        for module in (twin, layer):
            run(module, inputs, 1, {})
            calls.append(1 + int(SECONDS / run(module, inputs, 2, {})))
        times = [(run(twin, inputs, calls[0], outputs[0]), run(layer, inputs, calls[1], outputs[1])) for _ in range(rounds)]
        for name, exact, own, allowed in (("nn.Linear's", exact_twin, outputs[0], 0), ("libfff's", exact_layer.dense, outputs[1], 1)):
            different = tokens_that_differ(exact, inputs, own)
            if different > allowed:
                print(f"batch {batch}: {different} tokens of {name} are not as in float64")
                return 1
        ratios = [theirs / ours for theirs, ours in times]
        theirs, ours = (1e6 / batch * statistics.median(side) for side in zip(*times))
        print(f"  batch {batch:5}   nn.Linear {theirs:8.2f}   libfff {ours:6.2f}   {statistics.median(ratios):6.1f} times faster "
              f"({min(ratios):.1f} to {max(ratios):.1f})", flush=True)
    return 0


if __name__ == "__main__":
    with torch.inference_mode():
        sys.exit(main())
