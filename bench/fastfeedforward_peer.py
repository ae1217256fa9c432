#!/usr/bin/env python3
"""Times the evaluation of the authors' own leaf layer, fastfeedforward.FFF of the package fastfeedforward (arXiv
2308.14711), in PyTorch against libfff's on the same weights, in one process, in turn.

    fastfeedforward_peer.py LIBFFF.SO BATCH,BATCH... DEPTHxWIDTH...     4x8: depth 4, leaves of 8 neurons

prints JSON; status 77 where PyTorch or the package is not installed. scripts/fetch_peers.sh fetches the package; the
environment's FFF_BENCH_FASTFEEDFORWARD names the folder that it lies in, if Python does not find it otherwise.

One thread; 768 wide; ReLU, as the package has it; inputs are normal, so that tokens spread over all leaves. The package's
evaluation leaves the leaves' output biases (b2s) out, so they are left out here, too. Every output timed is compared with
the other side's.
"""

import json
import os
import pathlib
import statistics
import sys
import time

WIDTH = 768
TOKENS = 256  # of a round, at least
ROUNDS = 5
TOLERANCE = 1e-4


def seconds_of(forward, batches):
    began = time.perf_counter()
    outputs = [forward(batch) for batch in batches]
    return time.perf_counter() - began, outputs


def check(torch, theirs, ours, depth):
    """Of tokens whose logit is nearly zero at a node, sums in another order may take another leaf: 1, and 1 in 1000 for
    each level."""
    theirs, ours = torch.cat(theirs), torch.cat([torch.from_numpy(output) for output in ours])
    right = ((theirs - ours).abs() <= TOLERANCE * (1 + ours.abs())).all(dim=1)  # false of a NaN
    wrong = int((~right).sum())
    if wrong > 1 + depth * len(right) // 1000:
        sys.exit(f"fastfeedforward_peer: {wrong} of {len(right)} tokens differ")


def time_both(torch, theirs, ours, batch, depth):
    """One row: a round is TOKENS tokens of each side, theirs first."""
    count = max(1, TOKENS // batch)
    batches = [torch.randn(batch, WIDTH) for _ in range(count)]
    arrays = [inputs.numpy() for inputs in batches]
    times = []
    for turn in range(1 + ROUNDS):
        their_seconds, their_outputs = seconds_of(theirs, batches)
        our_seconds, our_outputs = seconds_of(ours, arrays)
        check(torch, their_outputs, our_outputs, depth)
        if turn > 0:  # the first one warms up
            times.append((their_seconds / count / batch, our_seconds / count / batch))
    ratios = [a / b for a, b in times]
    return {"batch": batch, "peer_us_per_token": 1e6 * statistics.median(a for a, _ in times),
            "fff_us_per_token": 1e6 * statistics.median(b for _, b in times),
            "speedup": statistics.median(ratios), "speedup_spread": [min(ratios), max(ratios)]}


def main():
    library, batches, *shapes = sys.argv[1:]
    os.environ["FFF_LIBRARY"] = library
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "python"))
    if os.environ.get("FFF_BENCH_FASTFEEDFORWARD"):
        sys.path.insert(0, os.environ["FFF_BENCH_FASTFEEDFORWARD"])
    try:
        import torch  # pylint: disable=import-outside-toplevel
        import fastfeedforward  # pylint: disable=import-outside-toplevel
    except ImportError:
        return 77
    import fff  # pylint: disable=import-outside-toplevel
    torch.set_num_threads(1)
    torch.manual_seed(1)
    torch.set_grad_enabled(False)
    rows = []
    for shape in shapes:
        depth, leaf_width = map(int, shape.split("x"))
        module = fastfeedforward.FFF(WIDTH, leaf_width, WIDTH, depth).eval()
        arrays = {name: value.numpy() for name, value in module.state_dict().items() if name != "depth"}
        layer = fff.LeafLayer(arrays["node_weights"], arrays["node_biases"], arrays["w1s"], arrays["b1s"], arrays["w2s"],
                              None)
        for batch in map(int, batches.split(",")):
            rows.append({"depth": depth, "leaf_width": leaf_width, **time_both(torch, module, layer, batch, depth)})
    print(json.dumps({"torch": torch.__version__, "isa": layer.isa, "rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
