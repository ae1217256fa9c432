"""fff.torch as it is installed: a layer of path sums trains for a few steps and is evaluated, and a layer of leaves is.

    python3 consumer_torch.py native|python FOLDER     which operator must run, and the folder that fff must be of

Its last line is a digest of all results: the compiled operator and the one in Python give the same. FFF_TORCH_NATIVE=0 asks
for the latter.
"""
import hashlib
import os
import sys

import numpy as np
import torch

import fff
import fff.torch

wanted, folder = sys.argv[1:]
backend = fff.torch.backend()
assert backend.split(":")[0] == wanted, backend
here = os.path.realpath(fff.__file__)
assert here.startswith(os.path.realpath(folder) + os.sep), here

torch.manual_seed(1)
digest = hashlib.sha256()
x = torch.randn(300, 48)
target = torch.randn(300, 16)
layer = fff.torch.FFF(48, 16, depth=5, parallel_size=2)

losses = []
optimizer = torch.optim.Adam(layer.parameters(), lr=0.01)
layer.train()
for _ in range(10):
    optimizer.zero_grad()
    loss = torch.nn.functional.mse_loss(layer(x), target)
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
assert losses[-1] < 0.9 * losses[0], losses
gradient = layer.linear_in.weight.grad
assert gradient.abs().max() > 0
digest.update(gradient.numpy().tobytes())

layer.eval()
with torch.inference_mode():
    y = layer(x)
    dense = layer.double().dense(x.double())
assert (y - dense).abs().max() < 1e-4, (y - dense).abs().max()
layer.float()
digest.update(y.numpy().tobytes())
w_in, b_in, w_out = (t.detach().numpy() for t in (layer.linear_in.weight, layer.linear_in.bias, layer.linear_out.weight))
same = fff.Layer(w_in, w_out.T, depth=5, trees=2, biases=b_in)(x.numpy())
assert np.array_equal(y.numpy().view(np.uint32), same.view(np.uint32)), "not the bits of fff.Layer"

leaves = fff.torch.LeafFFF(48, 8, 16, depth=4).eval()
with torch.inference_mode():
    y = leaves(x)
    dense = leaves.double().dense(x.double())
assert (y - dense).abs().max() < 1e-4, (y - dense).abs().max()
digest.update(y.numpy().tobytes())

print(f"Python {sys.version.split()[0]}, PyTorch {torch.__version__}, {backend.split(chr(10))[0]}: loss {losses[0]:.4f}, "
      f"{losses[-1]:.4f} after {len(losses) - 1} steps")
print(digest.hexdigest())
