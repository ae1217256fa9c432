"""The dense twin of a model by PyTorch, beside `fff bert --bench`: what another program takes for the same work.

  pytorch_bert.py FFF MODEL_DIR [ROUNDS]

MODEL_DIR holds a model of the published format, as `fff make-checkpoint` writes it. All its neurons are computed, none
masked, on one thread. The forward pass is checked first, against the results of the authors' code in
tests/data/bert_ff_tiny. Runs of both programs alternate.
"""

import json
import math
import pathlib
import statistics
import subprocess
import sys
import time

import numpy
import torch
from torch.nn.functional import gelu, layer_norm

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "examples"))
from training_tools import read_safetensors  # noqa: E402  pylint: disable=wrong-import-position

EPS = 1e-12


class Encoder:
    def __init__(self, folder):
        config = json.loads((folder / "config.json").read_text())
        self.arch = config.get("arch", config)
        self.tensors, _ = read_safetensors(folder / "model.safetensors")
        self.heads = self.arch["attention"]["num_attention_heads"]
        self.width = self.arch["hidden_size"]

    def norm(self, name, x):
        return layer_norm(x, (self.width,), self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"], EPS)

    def positions(self, length):
        even = torch.arange(0, self.width, 2).float()
        angles = torch.arange(length).float()[:, None] * torch.exp(even * (-math.log(10000.0) / self.width))
        table = torch.zeros(length, self.width)
        table[:, 0::2], table[:, 1::2] = torch.sin(angles), torch.cos(angles)
        return table * self.tensors["encoder.embedding.pos_embedding.scale_factor"]

    def __call__(self, ids, mask=None):
        get, (sequences, length) = self.tensors.__getitem__, ids.shape
        embedding = "encoder.embedding"
        h = self.norm(f"{embedding}.norm", get(f"{embedding}.word_embedding.weight")[ids] + self.positions(length))
        for i in range(self.arch["num_transformer_layers"]):
            layer = f"encoder.layers.{i}"
            mixed = self.norm(f"{layer}.norm1", h) @ get(f"{layer}.attn.self_attention.query_key_value.weight").T
            q, k, v = mixed.view(sequences, length, self.heads, -1).transpose(1, 2).chunk(3, dim=-1)
            scores = q @ k.transpose(2, 3) * get(f"{layer}.attn.self_attention.norm_factor")
            if mask is not None:
                scores = scores + (1 - mask[:, None, None, :]) * -10000.0
            context = (scores.softmax(-1) @ v).transpose(1, 2).reshape(sequences, length, self.width)
            h = h + context @ get(f"{layer}.attn.dense.weight").T
            x = self.norm(f"{layer}.norm2", h)
            if f"{layer}.ffn.dense_in.weight" in self.tensors:
                h = h + gelu(x @ get(f"{layer}.ffn.dense_in.weight").T) @ get(f"{layer}.ffn.dense_out.weight").T
            else:
                z = torch.addmm(get(f"{layer}.ffn.linear_in.bias"), x.view(-1, self.width),
                                get(f"{layer}.ffn.linear_in.weight").T)
                h = h + (gelu(z) @ get(f"{layer}.ffn.linear_out.weight").T).view_as(h)
        return self.norm("encoder.final_norm", h)


def check():
    folder = ROOT / "tests" / "data" / "bert_ff_tiny"
    expected, _ = read_safetensors(folder / "expected.safetensors")
    found = Encoder(folder)(expected["input_ids"].long(), expected["attention_mask"].float())
    error = ((found - expected["hidden"]).abs().max() / expected["hidden"].abs().max()).item()
    print(f"PyTorch {torch.__version__}, checked on bert_ff_tiny: error {error:.1e}")
    if not error < 2e-5:
        sys.exit("this forward pass is wrong")


def main():
    fff, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 7
    torch.set_num_threads(1)
    with torch.inference_mode():
        check()
        encoder = Encoder(folder)
        length = encoder.arch["embedding"]["max_seq_length"]
        ids = torch.from_numpy(numpy.random.default_rng(1).integers(0, encoder.arch["embedding"]["vocab_size"], (1, length)))
        encoder(ids)
        theirs, ours = [], []
        for _ in range(rounds):
            best = []
            for _ in range(3):
                start = time.perf_counter()
                encoder(ids)
                best.append(time.perf_counter() - start)
            theirs.append(1e3 * statistics.median(best))
            answer = subprocess.run([fff, "bert", str(folder), "--bench", "--sequences", "1", "--rounds", "3"],
                                    capture_output=True, text=True, check=True).stdout
            ours.append(float(next(line for line in answer.splitlines() if "kernels," in line).split()[2]))
    ratios = sorted(a / b for a, b in zip(theirs, ours))
    print(f"1 x {length} tokens, {rounds} rounds, one thread: PyTorch, dense {statistics.median(theirs):.1f} ms; "
          f"fff, by the kernels {statistics.median(ours):.1f} ms; {statistics.median(ratios):.2f} times faster "
          f"({ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
