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

import functools
import json
import os
import pathlib
import sys

import turns

WIDTH = 768
TOKENS = 256  # of a round, at least
ROUNDS = 5
TOLERANCE = 1e-4


def check(torch, depth, theirs, ours):
    """Of tokens whose logit is nearly zero at a node, sums in another order may take another leaf: 1, and 1 in 1000 for
    each level."""
    theirs, ours = torch.cat(theirs), torch.cat([torch.from_numpy(output) for output in ours])
    right = ((theirs - ours).abs() <= TOLERANCE * (1 + ours.abs())).all(dim=1)  # false of a NaN
    wrong = int((~right).sum())
    if wrong > 1 + depth * len(right) // 1000:
        sys.exit(f"fastfeedforward_peer: {wrong} of {len(right)} tokens differ")


def time_both(torch, theirs, ours, batch, depth):
    """One row: a round is TOKENS tokens of each side, theirs first."""
    batches = [torch.randn(batch, WIDTH) for _ in range(max(1, TOKENS // batch))]
    return turns.time_both(theirs, ours, batches, [inputs.numpy() for inputs in batches], ROUNDS,
                           functools.partial(check, torch, depth))


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
