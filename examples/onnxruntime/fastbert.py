"""The encoder of a model in the published FastBERT format (docs/bert.md), as a PyTorch module: something to export.

Settings that the forward pass does not obey are an error. Token ids and an attention mask go in, hidden states come
out.
"""

from __future__ import annotations

import json
import math
import pathlib
import struct

import numpy
import torch
from torch import nn


def read_safetensors(path: pathlib.Path) -> dict[str, torch.Tensor]:
    """All tensors of a file that you trust."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    types = {"F32": numpy.float32, "I64": numpy.int64}
    tensors = {}
    for name, entry in json.loads(data[8:8 + length]).items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in types:
            raise ValueError(f"{path}: {name} is {entry['dtype']}, not F32 or I64")
        begin, end = entry["data_offsets"]
        values = numpy.frombuffer(data[8 + length + begin:8 + length + end], types[entry["dtype"]])
        tensors[name] = torch.from_numpy(values.reshape(entry["shape"]).copy())
    return tensors


class PathFFF(nn.Module):
    """An FFF layer that computes all nodes and keeps those on each token's path, as the published code does."""

    def __init__(self, input_width: int, output_width: int, depth: int, parallel_size: int, activation=nn.GELU,
                 bias: bool = True):
        super().__init__()
        self.depth, self.parallel_size = depth, parallel_size
        self.nodes = 2 ** (depth + 1) - 1
        self.linear_in = nn.Linear(input_width, parallel_size * self.nodes, bias=bias)
        self.linear_out = nn.Linear(parallel_size * self.nodes, output_width, bias=False)
        self.activation = activation()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = self.linear_in(x)
        right = (logits > 0).reshape(logits.shape[:-1] + (self.parallel_size, self.nodes))
        on_path = torch.zeros_like(right)
        on_path[..., 0] = True
        for node in range(self.nodes // 2):  # a child is on the path if its parent is, and turns to it
            on_path[..., 2 * node + 1] = on_path[..., node] & ~right[..., node]
            on_path[..., 2 * node + 2] = on_path[..., node] & right[..., node]
        return self.linear_out(self.activation(logits) * on_path.flatten(-2))


class Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.self_attention = nn.Module()
        self.self_attention.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.self_attention.register_buffer("norm_factor", torch.tensor(1 / math.sqrt(width / heads)))
        self.dense = nn.Linear(width, width, bias=False)

    def forward(self, x: torch.Tensor, penalty: torch.Tensor) -> torch.Tensor:
        mixed = self.self_attention.query_key_value(x)
        mixed = mixed.reshape(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)
        query, key, value = mixed.chunk(3, dim=-1)  # each head holds its own three, side by side
        scores = query @ key.transpose(2, 3) * self.self_attention.norm_factor + penalty
        return self.dense((scores.softmax(-1) @ value).transpose(1, 2).flatten(2))


class DenseFeedforward(nn.Module):
    def __init__(self, width: int, neurons: int):
        super().__init__()
        self.dense_in = nn.Linear(width, neurons, bias=False)
        self.dense_out = nn.Linear(neurons, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dense_out(nn.functional.gelu(self.dense_in(x)))


class Block(nn.Module):
    def __init__(self, arch: dict, width: int, eps: float):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)
        self.attn = Attention(width, arch["attention"]["num_attention_heads"])
        if arch["intermed_type"] == "fff":
            self.ffn = PathFFF(width, width, arch["intermed_depth"], arch["intermed_size"])
        else:
            self.ffn = DenseFeedforward(width, arch["intermed_size"])

    def forward(self, h: torch.Tensor, penalty: torch.Tensor) -> torch.Tensor:
        h = h + self.attn(self.norm1(h), penalty)
        return h + self.ffn(self.norm2(h))


class FastBert(nn.Module):
    """input_ids (batch, length; int64) and attention_mask (batch, length; float32, 1 or 0) to hidden states."""

    def __init__(self, folder: pathlib.Path):
        super().__init__()
        config = json.loads((folder / "config.json").read_text())
        arch = config.get("arch", config)
        for setting, wanted in (("norm", "LayerNorm"), ("norm_scheme", "pre"), ("nonlin", "GELU"), ("use_bias", False)):
            if arch.get(setting, wanted) != wanted:
                raise ValueError(f"{folder}: {setting} is {arch[setting]!r}, not {wanted!r}")
        if arch["intermed_type"] not in ("ff", "fff"):
            raise ValueError(f"{folder}: intermed_type is {arch['intermed_type']!r}")
        width, eps, embedding = arch["hidden_size"], arch["norm_eps"], arch["embedding"]
        tensors = {name: value for name, value in read_safetensors(folder / "model.safetensors").items()
                   if name.startswith("encoder.")}
        self.encoder = nn.Module()
        self.encoder.embedding = nn.Module()
        vocabulary = tensors["encoder.embedding.word_embedding.weight"].shape[0]
        self.encoder.embedding.word_embedding = nn.Embedding(vocabulary, width)
        self.encoder.embedding.pos_embedding = nn.Module()
        self.encoder.embedding.pos_embedding.scale_factor = nn.Parameter(torch.ones(1))
        self.encoder.embedding.norm = nn.LayerNorm(width, eps)
        self.encoder.layers = nn.ModuleList(Block(arch, width, eps) for _ in range(arch["num_transformer_layers"]))
        self.encoder.final_norm = nn.LayerNorm(width, eps)
        self.register_buffer("positions", self.make_positions(embedding["max_seq_length"], width), persistent=False)
        self.load_state_dict(tensors)

    @staticmethod
    def make_positions(length: int, width: int) -> torch.Tensor:
        rates = torch.exp(torch.arange(0, width, 2).float() * (-math.log(10000.0) / width))
        angles = torch.arange(length).float()[:, None] * rates
        return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)[:, :width]

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        part = self.encoder.embedding
        places = self.positions[:input_ids.shape[1]] * part.pos_embedding.scale_factor
        h = part.norm(part.word_embedding(input_ids) + places)
        penalty = (1 - attention_mask[:, None, None, :]) * -10000.0
        for layer in self.encoder.layers:
            h = layer(h, penalty)
        return self.encoder.final_norm(h)
