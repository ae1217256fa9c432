#!/usr/bin/env python3
"""Times the layer by batched matrix products in PyTorch against libfff, in one process, in turn.

    pytorch_peer.py LIBFFF.SO      prints JSON; status 77 where PyTorch is not installed

What the authors' PyTorch module does for a batch: at each level the weights of every token's node are gathered and
multiplied with the tokens as one batched product; afterwards the output weights of all nodes on the paths are gathered
and summed. (Written anew after the definition; repository pbelcak/UltraFastBERT has theirs.) One thread; routes uniform;
1x11 at 768 wide. Every output timed is compared with the other side's.
"""

import ctypes
import json
import statistics
import sys
import time

TREES, DEPTH, WIDTH = 1, 11, 768
ROWS = TREES * (2 ** (DEPTH + 1) - 1)
BATCHES = (1, 8, 64, 512, 2048)
ROUNDS = 9
TOLERANCE = 1e-4


class Weights(ctypes.Structure):
    """fff_weights of fff.h."""
    _fields_ = [("data", ctypes.c_void_p), ("node_stride", ctypes.c_size_t), ("column_stride", ctypes.c_size_t)]


class Description(ctypes.Structure):
    """fff_layer_desc of fff.h; zero is GELU, the sign of logit > 0, float32, the best instruction set."""
    _fields_ = [("struct_size", ctypes.c_size_t), ("input_width", ctypes.c_size_t), ("output_width", ctypes.c_size_t),
                ("depth", ctypes.c_size_t), ("trees", ctypes.c_size_t), ("activation", ctypes.c_int),
                ("routing", ctypes.c_int), ("weight_type", ctypes.c_int), ("isa", ctypes.c_int),
                ("input_weights", Weights), ("biases", ctypes.c_void_p), ("output_weights", Weights),
                ("allocator", ctypes.c_void_p)]


def layer_by_torch(torch, weight_in, bias, weight_out):
    """A function from inputs (batch x WIDTH) to outputs."""

    def forward(inputs):
        batch = inputs.shape[0]
        node = torch.zeros((batch, TREES), dtype=torch.long)
        base = torch.arange(TREES) * (ROWS // TREES)
        nodes, logits = [], []
        for _ in range(DEPTH + 1):
            rows = node + base
            logit = torch.bmm(weight_in[rows.flatten()].view(batch, TREES, WIDTH), inputs.unsqueeze(2)).squeeze(2) + bias[rows]
            nodes.append(rows)
            logits.append(logit)
            node = 2 * node + 1 + (logit > 0).long()
        activations = torch.nn.functional.gelu(torch.cat(logits, 1))
        gathered = weight_out[torch.cat(nodes, 1).flatten()].view(batch, TREES * (DEPTH + 1), WIDTH)
        return torch.bmm(activations.unsqueeze(1), gathered).squeeze(1)

    return forward


def layer_by_fff(torch, path, weight_in, bias, weight_out):
    """The same by libfff."""
    library = ctypes.CDLL(path)
    description = Description()
    description.struct_size = ctypes.sizeof(description)
    description.input_width = description.output_width = WIDTH
    description.depth, description.trees = DEPTH, TREES
    description.input_weights = Weights(weight_in.data_ptr(), WIDTH, 1)
    description.biases = bias.data_ptr()
    description.output_weights = Weights(weight_out.data_ptr(), WIDTH, 1)
    layer = ctypes.c_void_p()
    if library.fff_layer_create(ctypes.byref(description), ctypes.byref(layer)) != 0:
        sys.exit("fff_layer_create failed")
    size = ctypes.c_size_t()
    library.fff_workspace_size(layer, ctypes.c_size_t(max(BATCHES)), ctypes.c_size_t(1), ctypes.byref(size))
    workspace = torch.empty(size.value, dtype=torch.uint8)

    def forward(inputs):
        outputs = torch.empty_like(inputs)
        status = library.fff_forward(layer, ctypes.c_size_t(inputs.shape[0]), ctypes.c_void_p(inputs.data_ptr()),
                                     ctypes.c_size_t(WIDTH), ctypes.c_void_p(outputs.data_ptr()), ctypes.c_size_t(WIDTH),
                                     ctypes.c_void_p(workspace.data_ptr()), size, None)
        if status != 0:
            sys.exit("fff_forward failed")
        return outputs

    return forward


def seconds_of(forward, batches):
    began = time.perf_counter()
    outputs = [forward(batch) for batch in batches]
    return time.perf_counter() - began, outputs


def main():
    try:
        import torch  # pylint: disable=import-outside-toplevel
    except ImportError:
        return 77
    torch.set_num_threads(1)
    torch.manual_seed(1)
    torch.set_grad_enabled(False)
    weight_in = torch.randn(ROWS, WIDTH) / WIDTH ** 0.5
    bias = torch.zeros(ROWS)
    weight_out = torch.randn(ROWS, WIDTH) / WIDTH ** 0.5
    by_torch = layer_by_torch(torch, weight_in, bias, weight_out)
    by_fff = layer_by_fff(torch, sys.argv[1], weight_in, bias, weight_out)
    rows = []
    for batch in BATCHES:
        count = max(1, 256 // batch)
        batches = [torch.randn(batch, WIDTH) for _ in range(count)]
        seconds_of(by_torch, batches)
        seconds_of(by_fff, batches)
        times = []
        for _ in range(ROUNDS):
            torch_seconds, torch_outputs = seconds_of(by_torch, batches)
            fff_seconds, fff_outputs = seconds_of(by_fff, batches)
            for one, other in zip(torch_outputs, fff_outputs):
                wrong = ((one - other).abs() > TOLERANCE * (1 + other.abs())).any(dim=1).sum().item()
                if wrong > 1 + batch // 1000:  # a token whose logit is nearly zero may take another path
                    sys.exit(f"pytorch_peer: {wrong} of {batch} tokens differ")
            times.append((torch_seconds / count / batch, fff_seconds / count / batch))
        ratios = [a / b for a, b in times]
        rows.append({"batch": batch, "torch_us_per_token": 1e6 * statistics.median(a for a, _ in times),
                     "fff_us_per_token": 1e6 * statistics.median(b for _, b in times),
                     "speedup": statistics.median(ratios), "speedup_spread": [min(ratios), max(ratios)]})
    print(json.dumps({"torch": torch.__version__, "rows": rows}))
    return 0
if __name__ == "__main__":
    sys.exit(main())
