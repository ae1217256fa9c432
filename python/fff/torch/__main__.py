"""python -m fff.torch: compiles the operator, if it is not in the cache, and says what it found."""

import sys

import torch

import fff
import fff.torch

print(f"PyTorch {torch.__version__}, libfff {fff.version()}, {fff.cpu().chosen}, operator: {fff.torch.backend()}")
sys.exit(0 if fff.torch.backend() == "native" else 1)
