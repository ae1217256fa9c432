#!/usr/bin/env python3
"""A PEER layer (arXiv 2407.04153), a mixture of very many experts of one neuron each, in PyTorch and by fff's listed
rows.

    FFF_LIBRARY=build/libfff.so PYTHONPATH=python python3 examples/peer/peer.py [KEYS [WIDTH [TOKENS [ROUNDS]]]]
 KEYS * KEYS experts; 1024 keys make a million. A token asks HEADS times: its query is cut in halves, each half is
compared with KEYS keys, and of all pairs of keys the TOP best ones name the experts. What these compute,

    y = sum over heads and experts of softmax(scores)[e] * gelu(x . down[e]) * up[e]
 is computed twice: by PyTorch, which gathers the rows of both matrices and multiplies, and by fff.Layer.dot_rows()
and sum_rows(), which read the rows where they lie. Both are compared with float64; exits with 1 if either is off.
Prints the time of that part, and of the selection, which is the same for both.
"""

import statistics
import sys
import time

import numpy as np
import torch
from torch import nn

import fff

HEADS, TOP, KEY_WIDTH = 8, 16, 64
TOLERANCE = 1e-5  # of the largest output


class Peer(nn.Module):
    """The layer, all in PyTorch."""

    def __init__(self, keys: int, width: int):
        super().__init__()
        self.keys = keys
        self.query = nn.Linear(width, HEADS * 2 * KEY_WIDTH)
        self.halves = nn.Parameter(torch.randn(2, HEADS, keys, KEY_WIDTH) / KEY_WIDTH ** 0.5)
        self.down = nn.Embedding(keys * keys, width)
        self.up = nn.Embedding(keys * keys, width)
        nn.init.normal_(self.down.weight, std=width ** -0.5)

    def select(self, x: torch.Tensor):
        """Experts (tokens, HEADS * TOP), and what each is weighed with. A pair's score is the sum of its halves', so
        that the best pairs are among those of the TOP best halves."""
        queries = self.query(x).view(-1, HEADS, 2, KEY_WIDTH)
        scores = [torch.einsum("thd,hkd->thk", queries[:, :, half], self.halves[half]) for half in (0, 1)]
        best = [of_half.topk(min(TOP, self.keys)) for of_half in scores]
        pairs = (best[0].values.unsqueeze(-1) + best[1].values.unsqueeze(-2)).flatten(2)
        weights, at = pairs.topk(TOP)
        few = best[1].values.shape[-1]
        experts = best[0].indices.gather(-1, at // few) * self.keys + best[1].indices.gather(-1, at % few)
        return experts.flatten(1), torch.softmax(weights, -1).flatten(1)

    def experts(self, x: torch.Tensor, experts: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
        logits = torch.bmm(self.down(experts), x.unsqueeze(2)).squeeze(2)
        return torch.bmm((nn.functional.gelu(logits) * gates).unsqueeze(1), self.up(experts)).squeeze(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.experts(x, *self.select(x))


class ListedRows:
    """The experts of a Peer as one layer of fff: each a tree of one node, so that an expert's number is its row's."""

    def __init__(self, peer: Peer):
        down, up = (weight.detach().numpy() for weight in (peer.down.weight, peer.up.weight))
        self.layer = fff.Layer(down, up, depth=0, trees=len(down))

    def __call__(self, x: torch.Tensor, experts: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
        rows = experts.numpy().astype(np.uint32)
        activations = fff.activate(self.layer.dot_rows(x.numpy(), rows)) * gates.numpy()
        return torch.from_numpy(self.layer.sum_rows(rows, activations))


def exactly(peer: Peer, x: torch.Tensor, experts: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
    """In float64, expert by expert."""
    y = torch.zeros(len(x), x.shape[1], dtype=torch.double)
    for e in range(experts.shape[1]):
        down, up = (weight[experts[:, e]].double() for weight in (peer.down.weight, peer.up.weight))
        y += (nn.functional.gelu((x.double() * down).sum(1)) * gates[:, e].double()).unsqueeze(1) * up
    return y


def seconds(call, *inputs) -> float:
    began = time.perf_counter()
    call(*inputs)
    return time.perf_counter() - began


@torch.inference_mode()
def main() -> int:
    given = [int(text) for text in sys.argv[1:]] + [256, 256, 64, 9][len(sys.argv) - 1:]
    if len(given) != 4 or min(given) < 1 or given[0] ** 2 < TOP:
        print("usage: peer.py [KEYS [WIDTH [TOKENS [ROUNDS]]]], numbers from 1 on, KEYS from 4")
        return 2
    keys, width, tokens, rounds = given
    torch.manual_seed(1)
    torch.set_num_threads(1)
    peer = Peer(keys, width)
    listed = ListedRows(peer)
    found, wrong = {"select": [], "PyTorch": [], "fff": []}, 0
    for _ in range(rounds + 1):
        x = torch.randn(tokens, width)
        found["select"].append(seconds(peer.select, x))
        chosen = peer.select(x)
        expected = exactly(peer, x, *chosen)
        for name, call in (("PyTorch", peer.experts), ("fff", listed)):
            error = (call(x, *chosen).double() - expected).abs().max().item()
            wrong += not error <= TOLERANCE * expected.abs().max().item()
            found[name].append(seconds(call, x, *chosen))
    took = {name: statistics.median(times[1:]) / tokens * 1e6 for name, times in found.items()}
    print(f"{keys * keys} experts, {width} wide, {HEADS * TOP} of them a token, {tokens} tokens at once, one thread; "
          "microseconds a token:")
    print(f"selection {took['select']:.1f}; experts by PyTorch {took['PyTorch']:.1f}, by fff {took['fff']:.1f}: "
          f"{took['PyTorch'] / took['fff']:.2f} times as fast")
    if wrong:
        print(f"{wrong} of {2 * (rounds + 1)} results are off by more than {TOLERANCE} of the largest output")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
