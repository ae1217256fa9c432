#!/usr/bin/env python3
"""fff.torch's module against the authors' batched-matmul module, in one process, in turn, on one thread.

    FFF_LIBRARY=build/libfff.so PYTHONPATH=python python3 python/bench/bench_torch.py [ROUNDS [LEAST RATIO AT 1 [AT 2048]]]

Depth 11, 768 wide, one tree; inputs and weights drawn anew, so that routes are uniform. A call is a call of the module, under
inference_mode, of which the smaller part at batch 1 is the kernel. Theirs is bench/batched_matmul.py. Every output timed is
compared with the other's. Prints the median over rounds of the ratio of two runs next to each other, and its spread;
exits with 1 if outputs differ or a ratio is below what the arguments ask for.
"""

import pathlib
import statistics
import sys
import time

import torch

import fff.torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench"))
from batched_matmul import BatchedMatmul  # noqa: E402  pylint: disable=wrong-import-position

WIDTH, DEPTH = 768, 11
BATCHES = (1, 8, 64, 512, 2048)
CALLS = (64, 16, 4, 1, 1)  # of theirs a round
OURS = 16  # times as many of ours: a run of theirs lasts 20 ms
TOLERANCE = 1e-4


def seconds(module, inputs, count):
    """Of one call, and the last pass' outputs."""
    began = time.perf_counter()
    for _ in range(count // len(inputs)):
        outputs = [module(x) for x in inputs]
    return (time.perf_counter() - began) / (count // len(inputs) * len(inputs)), outputs


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    least = {1: float(sys.argv[2]) if len(sys.argv) > 2 else 0, 2048: float(sys.argv[3]) if len(sys.argv) > 3 else 0}
    torch.set_num_threads(1)
    torch.manual_seed(1)
    ours = fff.torch.BenchmarkFFF(WIDTH, DEPTH, WIDTH).eval()
    theirs = BatchedMatmul(ours.w1s, ours.w2s, DEPTH).eval()
    print(f"PyTorch {torch.__version__}, libfff {fff.version()} on {fff.cpu().chosen}, operator: {fff.torch.backend()}; "
          f"1x{DEPTH}, {WIDTH} wide, one thread, {rounds} rounds, medians")
    failed = False
    for batch, calls in zip(BATCHES, CALLS):
        inputs = [torch.randn(batch, WIDTH) for _ in range(calls)]
        seconds(theirs, inputs, calls)
        seconds(ours, inputs, calls)
        times = []
        for _ in range(rounds):
            their_time, expected = seconds(theirs, inputs, calls)
            our_time, outputs = seconds(ours, inputs, OURS * calls)
            times.append((their_time, our_time))
            for one, other in zip(outputs, expected):
                # A token whose logit is nearly zero may take another path: one in a thousand, at the most, and one.
                apart = (~((one - other).abs() <= TOLERANCE * (1 + other.abs()))).any(dim=2).sum().item()
                if apart > 1 + batch // 1000:
                    print(f"batch {batch}: {apart} outputs differ")
                    failed = True
        ratios = [their / our for their, our in times]
        ratio = statistics.median(ratios)
        print(f"  batch {batch:5}   theirs {1e6 * statistics.median(t for t, _ in times):10.1f} us a call   ours "
              f"{1e6 * statistics.median(o for _, o in times):9.2f} us   {ratio:6.1f} times faster "
              f"({min(ratios):.1f} to {max(ratios):.1f})")
        if ratio < least.get(batch, 0):
            print(f"batch {batch}: {least[batch]:g} was asked for")
            failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    with torch.inference_mode():
        sys.exit(main())
