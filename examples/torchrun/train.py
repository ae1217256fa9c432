#!/usr/bin/env python3
"""Training an FFF on several processes: each takes a part of the batch, and DistributedDataParallel adds their gradients.

    torchrun --standalone --nproc-per-node 2 examples/torchrun/train.py
    torchrun --standalone --nproc-per-node 2 examples/torchrun/train.py rows

With gloo. Nothing in it is special to FFFs; but with "rows" the FFF is trained by RowAdam, whose processes exchange the gradients of the
neurons that tokens met instead of whole ones. Each rank compares its weights after each step with those of one process that computes the
whole batch, and with the other ranks'; exits with 1 if they are apart by more than rounding, or ranks differ at all.

Forward passes and each rank's own gradients have the same bits as anywhere. Their sum need not: one process adds all tokens of a neuron one
after the other, ranks each add their own, and gloo adds the ranks' sums, in an order of its own from three ranks on.
"""

import copy
import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import fff.torch

WIDTH, DEPTH, TREES, BATCH, STEPS = 64, 6, 2, 256, 5
TOLERANCE = 1e-5


def optimizers(model: nn.Module, rows: bool, ranks: int) -> list:
    """Of the whole model, or of the FFF by itself. `ranks`: how many share the batch."""
    if not rows:
        return [torch.optim.SGD(model.parameters(), lr=0.1)]
    of_rows = fff.torch.RowAdam(model, lr=1e-2, eps=1e-2)  # large, or rounding decides where a gradient is nearly 0
    if ranks > 1:
        of_rows.distribute(model)
    return [of_rows, torch.optim.SGD(of_rows.others(model), lr=0.1)]


def main() -> int:
    rows = sys.argv[1:] == ["rows"]
    if not dist.is_available() or not dist.is_gloo_available():
        print("this PyTorch is built without gloo")
        return 77
    dist.init_process_group("gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(rank)  # DistributedDataParallel gives all ranks the first one's weights
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), fff.torch.FFF(WIDTH, WIDTH, DEPTH, TREES), nn.Linear(WIDTH, 3))
    of_model = optimizers(model, rows, ranks)
    shared = DistributedDataParallel(model)
    alone = copy.deepcopy(model)
    of_both = [of_model, optimizers(alone, rows, 1)]
    torch.manual_seed(ranks)
    apart, different = 0.0, 0
    for _ in range(STEPS):
        x, y = torch.randn(BATCH * ranks, WIDTH), torch.randn(BATCH * ranks, 3)
        for each, own, part in zip((shared, alone), of_both, (slice(rank, None, ranks), slice(None))):
            for optimizer in own:
                optimizer.zero_grad()
            nn.functional.mse_loss(each(x[part]), y[part]).backward()
            for optimizer in own:
                optimizer.step()
        for one, other in zip(model.parameters(), alone.parameters()):
            apart = max(apart, ((one - other).abs().max() / other.abs().max()).item())
            of_first = one.detach().contiguous().clone()
            dist.broadcast(of_first, src=0)
            different += int((of_first != one).sum())
    total = torch.tensor([apart, float(different)])
    dist.all_reduce(total, op=dist.ReduceOp.MAX)
    if rank == 0:
        print(f"{ranks} ranks, {STEPS} steps of {BATCH * ranks} tokens: weights are apart from one process's by {total[0]:.1e}, "
              f"{int(total[1])} differ between ranks")
    dist.destroy_process_group()
    return 1 if total[0] > TOLERANCE or total[1] > 0 else 0


if __name__ == "__main__":
    sys.exit(main())
