"""The BERT of the published UltraFastBERT format, small: tensors named as there, computed as docs/bert.md says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Optional

import torch
from torch import nn
from torch.nn import functional

import fff.torch

FORMAT_ACTIVATIONS = {nn.GELU: "GELU", nn.Identity: "Identity"}  # what config.json calls them


@dataclass(frozen=True)
class Sizes:
    vocabulary: int = 2048
    layers: int = 2
    width: int = 128
    heads: int = 4
    length: int = 64
    causal: bool = False  # a token sees those before it alone; the published format has no such models


@dataclass(frozen=True)
class Feedforward:
    """What stands in a layer's second half: `trees` of `depth`, or, where `trees` is 0, `neurons` dense ones, or nothing."""

    name: str
    neurons: int = 0
    trees: int = 0
    depth: int = 0
    activation: type[nn.Module] = nn.GELU

    def make(self, width: int) -> Optional[nn.Module]:
        if self.trees > 0:
            return fff.torch.FFF(width, width, self.depth, self.trees, self.activation)
        return Dense(width, self.neurons, self.activation()) if self.neurons > 0 else None

    @property
    def used(self) -> int:
        return self.trees * (self.depth + 1) if self.trees > 0 else self.neurons

    @property
    def stored(self) -> int:
        return self.trees * fff.nodes_per_tree(self.depth) if self.trees > 0 else self.neurons


class Dense(nn.Module):
    def __init__(self, width: int, neurons: int, activation: nn.Module):
        super().__init__()
        self.dense_in, self.dense_out = nn.Linear(width, neurons, bias=False), nn.Linear(neurons, width, bias=False)
        self.activation = activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dense_out(self.activation(self.dense_in(x)))


class SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int, causal: bool):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.register_buffer("norm_factor", torch.tensor((width / heads) ** -0.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        mixed = self.query_key_value(x).view(batch, length, self.heads, -1).transpose(1, 2)
        query, key, value = mixed.chunk(3, -1)  # head by head, not three blocks
        scores = query @ key.transpose(2, 3) * self.norm_factor
        if self.causal:
            scores = scores + torch.full((length, length), -10000.0).triu(1)
        weights = torch.softmax(scores, -1)
        return (weights @ value).transpose(1, 2).reshape(batch, length, width)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, causal: bool):
        super().__init__()
        self.self_attention = SelfAttention(width, heads, causal)
        self.dense = nn.Linear(width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dense(self.self_attention(x))


class Layer(nn.Module):
    def __init__(self, sizes: Sizes, feedforward: Feedforward):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(sizes.width, 1e-12), nn.LayerNorm(sizes.width, 1e-12)
        self.attn = Attention(sizes.width, sizes.heads, sizes.causal)
        self.ffn = feedforward.make(sizes.width)
        if self.ffn is None:
            del self.norm2

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        h = h + self.attn(self.norm1(h))
        return h if self.ffn is None else h + self.ffn(self.norm2(h))


class Position(nn.Module):
    """Scaled sinusoids."""

    def __init__(self, width: int, length: int):
        super().__init__()
        self.scale_factor = nn.Parameter(torch.full((1,), width ** -0.5))
        angles = torch.arange(length)[:, None] * torch.exp(-torch.arange(0, width, 2) * (math.log(10000) / width))
        self.register_buffer("sinusoids", torch.stack((angles.sin(), angles.cos()), 2).flatten(1), persistent=False)

    def forward(self, length: int) -> torch.Tensor:
        return self.scale_factor * self.sinusoids[:length]


class Embedding(nn.Module):
    def __init__(self, sizes: Sizes):
        super().__init__()
        self.word_embedding = nn.Embedding(sizes.vocabulary, sizes.width)
        self.pos_embedding = Position(sizes.width, sizes.length)
        self.norm = nn.LayerNorm(sizes.width, 1e-12)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.norm(self.word_embedding(ids) + self.pos_embedding(ids.shape[-1]))


class Encoder(nn.Module):
    def __init__(self, sizes: Sizes, feedforward: Feedforward):
        super().__init__()
        self.embedding = Embedding(sizes)
        self.layers = nn.ModuleList(Layer(sizes, feedforward) for _ in range(sizes.layers))
        self.final_norm = nn.LayerNorm(sizes.width, 1e-12)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        h = self.embedding(ids)
        for layer in self.layers:
            h = layer(h)
        return self.final_norm(h)


@torch.no_grad()
def look_at_neighbours(attention: SelfAttention, sizes: Sizes, gain: float = 2.0) -> None:
    """Makes the heads begin by looking at the tokens 1 before, 1 after, 2 before and so on: keys are the sinusoids of the highest
    frequencies, queries the same turned by as many angles. From random weights a masked token, which knows nothing but its position, must
    find that by itself, and for hundreds of steps predicts frequencies alone."""
    wide = sizes.width // sizes.heads
    frequencies = torch.exp(-torch.arange(0, wide, 2) * (math.log(10000) / sizes.width))
    weight = attention.query_key_value.weight.view(sizes.heads, 3, wide, sizes.width)
    for head in range(sizes.heads):
        angles = frequencies * (head // 2 + 1) * (1 if head % 2 else -1)
        turn = torch.zeros(wide, wide)
        even = torch.arange(0, wide, 2)
        turn[even, even], turn[even, even + 1] = angles.cos(), angles.sin()
        turn[even + 1, even], turn[even + 1, even + 1] = -angles.sin(), angles.cos()
        weight[head, 0, :, :wide] += gain * turn
        weight[head, 1, :, :wide] += gain * torch.eye(wide)


class LanguageModel(nn.Module):
    """The decoder is the word embedding."""

    def __init__(self, sizes: Sizes, feedforward: Feedforward):
        super().__init__()
        self.sizes, self.feedforward = sizes, feedforward
        self.encoder = Encoder(sizes, feedforward)
        nn.init.normal_(self.encoder.embedding.word_embedding.weight, std=0.02)
        if not sizes.causal:
            look_at_neighbours(self.encoder.layers[0].attn.self_attention, sizes)

    def forward(self, ids: torch.Tensor, at: Optional[torch.Tensor] = None, right: Optional[torch.Tensor] = None) -> torch.Tensor:
        """Logits of all tokens; or, of those at the flat indices `at`, whose ids are `right`, the mean loss."""
        h = self.encoder(ids)
        embedding = self.encoder.embedding.word_embedding.weight
        if at is None:
            return h @ embedding.T
        return functional.cross_entropy(h.flatten(0, 1)[at] @ embedding.T, right)


def config(model: LanguageModel) -> dict:
    """What config.json says of it, in the published format."""
    sizes, feedforward = model.sizes, model.feedforward
    trees = feedforward.trees > 0
    return {"model_type": "crammedBERT", "arch": {
        "num_transformer_layers": sizes.layers, "hidden_size": sizes.width, "intermed_type": "fff" if trees else "ff",
        "intermed_size": feedforward.trees if trees else feedforward.neurons, "intermed_depth": feedforward.depth,
        "norm": "LayerNorm", "norm_eps": 1e-12, "norm_scheme": "pre", "nonlin": FORMAT_ACTIVATIONS[feedforward.activation],
        "tie_weights": True, "decoder_bias": False, "use_bias": False, "final_norm": True, "skip_head_transform": True,
        "ffn_layer_frequency": 1, "objective_layout": "MLM", "num_labels": None,
        "embedding": {"vocab_size": sizes.vocabulary, "pos_embedding": "scaled-sinusoidal", "max_seq_length": sizes.length,
                      "embedding_dim": sizes.width, "normalization": True, "stable_low_precision": False},
        "attention": {"type": "self-attention", "causal_attention": sizes.causal, "num_attention_heads": sizes.heads,
                      "skip_output_projection": False, "qkv_bias": False, "rotary_embedding": False,
                      "sequence_op": "torch-softmax"}}}
