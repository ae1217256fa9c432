#!/usr/bin/env python3
"""fff.torch's forward() into fresh memory against forward_out() into kept memory, and fff.Layer likewise, in turn, on
one thread.

    FFF_LIBRARY=build/libfff.so PYTHONPATH=python python3 python/bench/bench_torch_out.py [BATCH [ROUNDS]]

BATCH is 16384 and ROUNDS 21 by default.

Depth 11, 768 wide, one tree. Prints the median time a token of each, and the median over rounds of the ratio of the
first to each, with its spread; exits with 1 if results differ.
"""

import statistics
import sys
import time

import torch

import fff
import fff.torch

WIDTH, DEPTH = 768, 11


def main() -> int:
    batch = int(sys.argv[1]) if len(sys.argv) > 1 else 16384
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 21
    torch.set_num_threads(1)
    torch.manual_seed(1)
    module = fff.torch.FFF(WIDTH, WIDTH, DEPTH).eval()
    layer = fff.Layer(module.linear_in.weight.numpy(), module.linear_out.weight.numpy().T, depth=DEPTH,
                      biases=module.linear_in.bias.numpy())
    x, out = torch.randn(batch, WIDTH), torch.empty(batch, WIDTH)
    array, kept = x.numpy(), torch.empty(batch, WIDTH).numpy()
    sides = {
        "module(x)": lambda: module(x),
        "module.forward_out(x, out=out)": lambda: module.forward_out(x, out=out),
        "fff.Layer(x)": lambda: torch.from_numpy(layer(array)),
        "fff.Layer(x, out=out)": lambda: torch.from_numpy(layer(array, out=kept)),
    }
    expected = module(x)
    if not all(torch.equal(side(), expected) for side in sides.values()):
        print("results differ")
        return 1
    times = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            began = time.perf_counter()
            side()  # its memory is freed at once
            times[name].append((time.perf_counter() - began) / batch * 1e6)
    print(f"PyTorch {torch.__version__}, {fff.torch.backend()}, batch {batch}, {rounds} rounds")
    first = next(iter(times.values()))
    for name, own in times.items():
        ratios = [one / other for one, other in zip(first, own)]
        print(f"  {name:32} {statistics.median(own):5.2f} us a token   {statistics.median(ratios):4.2f} times as fast as the "
              f"first ({min(ratios):.2f} to {max(ratios):.2f})")
    return 0


if __name__ == "__main__":
    with torch.no_grad():
        sys.exit(main())
