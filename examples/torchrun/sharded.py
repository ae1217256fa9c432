#!/usr/bin/env python3
"""An FFF layer on several processes: each takes a part of the batch, and the bits are those of one process.

    torchrun --standalone --nproc-per-node 2 examples/torchrun/sharded.py

Data-parallel by torch.distributed with gloo; nothing in it is special to FFFs. Rank 0's weights are broadcast, each rank computes its
part of the tokens, all gather all outputs. Then each rank compares them, bit for bit, with the whole batch that it computes alone,
and exits with 1 if one differs.
"""

import sys

import torch
import torch.distributed as dist

import fff.torch

WIDTH, DEPTH, TREES = 256, 8, 2
BATCHES = (1, 2, 7, 500, 1001)  # with two ranks: an empty part, uneven parts


def shard(x: torch.Tensor, rank: int, ranks: int) -> torch.Tensor:
    """This rank's rows: a view; the first ranks have one more where they cannot be even."""
    return x.tensor_split(ranks)[rank]


def gather(y: torch.Tensor, batch: int, ranks: int) -> torch.Tensor:
    """All ranks' rows, in order. gloo wants parts of one size: short ones are padded on the way."""
    sizes = [len(part) for part in torch.empty(batch, 0).tensor_split(ranks)]
    padded = torch.zeros(max(sizes), y.shape[1])
    padded[:len(y)] = y
    parts = [torch.empty_like(padded) for _ in range(ranks)]
    dist.all_gather(parts, padded)
    return torch.cat([part[:size] for part, size in zip(parts, sizes)])


def main() -> int:
    if not dist.is_available() or not dist.is_gloo_available():
        print("this PyTorch is built without gloo")
        return 77
    dist.init_process_group("gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(rank)  # so that broadcasting the weights is needed
    layer = fff.torch.FFF(WIDTH, WIDTH, DEPTH, TREES).eval()
    differing = 0
    with torch.inference_mode():
        for tensor in layer.state_dict().values():
            dist.broadcast(tensor, src=0)
        for batch in BATCHES:
            x = torch.randn(batch, WIDTH)
            dist.broadcast(x, src=0)
            together = gather(layer(shard(x, rank, ranks)), batch, ranks)
            alone = layer(x)
            differing += int((together.view(torch.int32) != alone.view(torch.int32)).sum())
    total = torch.tensor(differing)
    dist.all_reduce(total)
    if rank == 0:
        print(f"{ranks} ranks, batches of {', '.join(map(str, BATCHES))}: {int(total)} floats differ from one process's")
    dist.destroy_process_group()
    return 1 if int(total) else 0


if __name__ == "__main__":
    sys.exit(main())
