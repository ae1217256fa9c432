"""Writes a layer as a file that `fff verify` reads, with the package safetensors: weights as torch.nn.Linear has them, random here.

    python3 examples/save_layer.py FILE
"""
import sys

import numpy as np
from safetensors.numpy import save_file

IN, OUT, DEPTH, TREES, TOKENS = 64, 32, 5, 2, 16
nodes = TREES * (2 ** (DEPTH + 1) - 1)
random = np.random.default_rng(0)
linear_in = random.standard_normal((nodes, IN), np.float32) / 8
bias = random.standard_normal(nodes, np.float32) / 8
linear_out = random.standard_normal((OUT, nodes), np.float32) / 8
x = random.standard_normal((TOKENS, IN), np.float32)

tensors = {
    "linear_in.weight": linear_in,  # (trees * nodes, input width)
    "linear_in.bias": bias,  # (trees * nodes); may be absent
    "linear_out.weight": linear_out,  # (output width, trees * nodes)
    "input": x,  # (tokens, input width); may be absent, and "output" with it
}
metadata = {"depth": str(DEPTH), "trees": str(TREES), "activation": "GELU"}  # texts, all of them
save_file(tensors, sys.argv[1], metadata=metadata)
