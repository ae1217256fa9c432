"""The layer by batched matrix products in PyTorch, as the authors' module computes it: benchmark_pytorch in the repository
pbelcak/UltraFastBERT, written anew after what it does."""

import torch
from torch import nn


class BatchedMatmul(nn.Module):
    """One tree without biases; `w1s` and `w2s` have a row a neuron. At each level the rows of every token's node are gathered
    and multiplied with the tokens as one batched product; at the end the output rows of all nodes visited are gathered and
    summed as another. From batch x width to batch x 1 x width."""

    def __init__(self, w1s, w2s, depth: int):
        super().__init__()
        self.depth, self.w1s, self.w2s = depth, w1s, w2s

    def forward(self, x):
        batch = x.shape[0]
        node = torch.zeros(batch, dtype=torch.long)
        nodes = torch.zeros(batch, self.depth + 1, dtype=torch.long)
        logits = torch.empty(batch, self.depth + 1)
        for level in range(self.depth + 1):
            nodes[:, level] = node
            rows = self.w1s.index_select(0, node)
            logit = torch.bmm(x.unsqueeze(1), rows.unsqueeze(2)).flatten()
            logits[:, level] = logit
            node = 2 * node + 1 + (logit >= 0).long()
        rows = self.w2s.index_select(0, nodes.flatten()).view(batch, self.depth + 1, -1)
        return torch.bmm(nn.functional.gelu(logits).unsqueeze(1), rows)
