"""Peers that are programs in Python, if what they need is installed."""

import json
import os
import subprocess
import sys

from .cases import FOREST, ONE_LEAF_TREE
from .harness import WrongOutput
from .spread import mark_noisy


def run_python_peer(bench, name, *options):
    """The result of a peer in Python with the libfff.so that belongs to `bench`, or None where PyTorch, or what else it needs, is not installed."""
    script = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), name)
    library = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(bench))), "libfff.so")
    if not os.path.exists(library):
        return None
    for python in dict.fromkeys([sys.executable, "/usr/bin/python3"]):
        try:
            done = subprocess.run([python, script, library, *options], check=False, stdout=subprocess.PIPE, text=True,
                                  preexec_fn=lambda: os.sched_setaffinity(0, {max(os.sched_getaffinity(0))}))
        except OSError:
            continue
        if done.returncode == 0:
            return json.loads(done.stdout)
        if done.returncode != 77:  # 77: it lacks something
            raise WrongOutput(f"{name} failed")
    return None


def run_leaf_peer(bench, forests):
    """The authors' leaf layer in the shapes and batches that were timed; None where it is not installed, or none were."""
    shapes, batches = {}, set()
    for (forest, _), names in forests.items():
        shape = ONE_LEAF_TREE.fullmatch(forest)
        if shape:
            shapes["x".join(shape.groups())] = None
            batches |= {int(FOREST.fullmatch(name).group(5)) for name in names}
    if not shapes:
        return None
    peer = run_python_peer(bench, "fastfeedforward_peer.py", ",".join(map(str, sorted(batches))), *shapes)
    if peer:
        mark_noisy(peer["rows"], "speedup")
    return peer
