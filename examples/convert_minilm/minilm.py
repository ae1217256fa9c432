"""all-MiniLM-L6-v2 in plain PyTorch, as far as this example needs it: layer by layer, so that the last feedforward can be taken out."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import training_tools as tools  # noqa: E402

MOST_TOKENS = 64  # of a text: what is longer is cut off
BATCH_TOKENS = 4096


class MiniLM:
    """A post-norm BERT. Functions take hidden states (texts, length, width) and a mask (texts, length) of the tokens that are some."""

    def __init__(self, folder: Path):
        try:
            self.weights, _ = tools.read_safetensors(folder / "model.safetensors")
            config = json.loads((folder / "config.json").read_text())
        except OSError as error:
            raise tools.NoData(f"no MiniLM: {error.strerror}: {error.filename} (scripts/fetch_minilm.sh fetches it)") from error
        self.layers, self.heads = config["num_hidden_layers"], config["num_attention_heads"]
        self.width, self.epsilon = config["hidden_size"], config["layer_norm_eps"]

    def _linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.layer_norm(x, (self.width,), self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], self.epsilon)

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        weights = self.weights
        h = (weights["embeddings.word_embeddings.weight"][ids] + weights["embeddings.token_type_embeddings.weight"][0]
             + weights["embeddings.position_embeddings.weight"][:ids.shape[1]])
        return self._norm(h, "embeddings.LayerNorm")

    def attend(self, h: torch.Tensor, mask: torch.Tensor, layer: int) -> torch.Tensor:
        """The first half of a layer: what its feedforward is given."""
        name = f"encoder.layer.{layer}.attention"
        texts, length, width = h.shape
        query, key, value = (self._linear(h, f"{name}.self.{what}").view(texts, length, self.heads, -1).transpose(1, 2)
                             for what in ("query", "key", "value"))
        scores = query @ key.transpose(2, 3) / math.sqrt(width // self.heads)
        weights = scores.masked_fill(~mask[:, None, None], -math.inf).softmax(-1)
        mixed = (weights @ value).transpose(1, 2).reshape(texts, length, width)
        return self._norm(h + self._linear(mixed, f"{name}.output.dense"), f"{name}.output.LayerNorm")

    def feed_forward(self, x: torch.Tensor, layer: int) -> torch.Tensor:
        name = f"encoder.layer.{layer}"
        return self._linear(functional.gelu(self._linear(x, f"{name}.intermediate.dense")), f"{name}.output.dense")

    def finish(self, x: torch.Tensor, y: torch.Tensor, layer: int) -> torch.Tensor:
        """A layer's output, from what its feedforward was given and what it gave."""
        return self._norm(x + y, f"encoder.layer.{layer}.output.LayerNorm")

    @property
    def last(self) -> int:
        return self.layers - 1

    def before_last_feed_forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        h = self.embed(ids)
        for layer in range(self.last):
            x = self.attend(h, mask, layer)
            h = self.finish(x, self.feed_forward(x, layer), layer)
        return self.attend(h, mask, self.last)


@dataclass(frozen=True)
class Tokens:
    """What the last feedforward is given, text by text: `states` is (tokens, width), and text i has tokens starts[i] to starts[i + 1]."""

    states: torch.Tensor
    starts: torch.Tensor

    def __len__(self) -> int:
        return len(self.starts) - 1

    def embeddings(self, last_hidden: torch.Tensor) -> torch.Tensor:
        """Of each text the mean of its tokens' hidden states, of length 1: what the model is used for."""
        lengths = self.starts.diff()
        text = torch.repeat_interleave(torch.arange(len(self)), lengths)
        mean = torch.zeros(len(self), last_hidden.shape[1]).index_add_(0, text, last_hidden) / lengths[:, None]
        return functional.normalize(mean)


@torch.no_grad()
def run(model: MiniLM, tokenizer, texts: list[str], told: str) -> Tokens:
    """The texts' tokens before the last feedforward. Texts of like length go together."""
    encoded = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    starts = torch.tensor([0] + [len(ids) for ids in encoded]).cumsum(0)
    states = torch.empty(int(starts[-1]), model.width)
    order = sorted(range(len(encoded)), key=lambda text: len(encoded[text]))
    done = 0
    while done < len(order):
        length = len(encoded[order[min(done + BATCH_TOKENS // 8, len(order)) - 1]])
        some = order[done:done + max(BATCH_TOKENS // length, 1)]
        length = len(encoded[some[-1]])
        ids = torch.zeros(len(some), length, dtype=torch.long)
        mask = torch.zeros(len(some), length, dtype=torch.bool)
        for row, text in enumerate(some):
            ids[row, :len(encoded[text])] = torch.tensor(encoded[text])
            mask[row, :len(encoded[text])] = True
        x = model.before_last_feed_forward(ids, mask)
        for row, text in enumerate(some):
            states[starts[text]:starts[text + 1]] = x[row, :len(encoded[text])]
        before, done = done, done + len(some)
        if done * 5 // len(order) > before * 5 // len(order):
            print(f"  {told}: {100 * done // len(order)} %", file=sys.stderr, flush=True)
    return Tokens(states, starts)
