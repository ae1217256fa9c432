"""A layer of random weights, held against its definition and against itself on every instruction set. docs/start.md tells more."""
import math

import fff
import numpy as np

WIDTH, DEPTH, BATCH = 64, 5, 100
nodes = fff.nodes_per_tree(DEPTH)  # 63
random = np.random.default_rng(0)
w_in, w_out = random.standard_normal((2, nodes, WIDTH), np.float32) / 8  # linear_in.weight, and linear_out.weight transposed
biases = random.standard_normal(nodes, np.float32) / 8
x = random.standard_normal((BATCH, WIDTH), np.float32)

layer = fff.Layer(w_in, w_out, biases=biases, depth=DEPTH)
y = layer(x)


def definition(token):
    """What a path sum is, in float64."""
    total, node = np.zeros(WIDTH), 0
    for _ in range(DEPTH + 1):
        logit = float(token.astype(np.float64) @ w_in[node].astype(np.float64) + biases[node])
        total += logit / 2 * (1 + math.erf(logit / math.sqrt(2))) * w_out[node].astype(np.float64)
        node = 2 * node + 1 + (logit > 0)
    return total


difference = max(np.abs(y[i] - definition(x[i])).max() for i in range(BATCH))
print(f"largest difference from the definition in float64: {difference:.1e}")
assert difference < 1e-5

for isa in fff.isas():
    same = np.array_equal(fff.Layer(w_in, w_out, biases=biases, depth=DEPTH, isa=isa)(x).view(np.uint32), y.view(np.uint32))
    print(f"{isa:10} {'the same' if same else 'OTHER'} bits")
    assert same
