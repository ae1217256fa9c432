#!/usr/bin/env python3
"""Times the layer by batched matrix products in PyTorch against libfff, in one process, in turn.

    pytorch_peer.py LIBFFF.SO      prints JSON; status 77 where PyTorch is not installed

The peer is batched_matmul.py's. One thread; routes uniform; 1x11 at 768 wide. Every output timed is compared with the other
side's.
"""

import ctypes
import json
import sys

import turns

DEPTH, WIDTH = 11, 768
ROWS = 2 ** (DEPTH + 1) - 1
GREATER_EQUAL = 1  # FFF_ROUTING_GREATER_EQUAL, as the peer's routes
BATCHES = (1, 8, 64, 512, 2048)
TOKENS = 256  # of a round, at least
ROUNDS = 9
TOLERANCE = 1e-4


class Weights(ctypes.Structure):
    """fff_weights of fff.h."""
    _fields_ = [("data", ctypes.c_void_p), ("node_stride", ctypes.c_size_t), ("column_stride", ctypes.c_size_t)]


class Description(ctypes.Structure):
    """fff_layer_desc of fff.h; zero is GELU, no biases, float32, the best instruction set."""
    _fields_ = [("struct_size", ctypes.c_size_t), ("input_width", ctypes.c_size_t), ("output_width", ctypes.c_size_t),
                ("depth", ctypes.c_size_t), ("trees", ctypes.c_size_t), ("activation", ctypes.c_int),
                ("routing", ctypes.c_int), ("weight_type", ctypes.c_int), ("isa", ctypes.c_int),
                ("input_weights", Weights), ("biases", ctypes.c_void_p), ("output_weights", Weights),
                ("allocator", ctypes.c_void_p)]


def layer_by_fff(torch, path, weight_in, weight_out):
    """A function from inputs (batch x WIDTH) to outputs."""
    library = ctypes.CDLL(path)
    description = Description()
    description.struct_size = ctypes.sizeof(description)
    description.input_width = description.output_width = WIDTH
    description.depth, description.trees, description.routing = DEPTH, 1, GREATER_EQUAL
    description.input_weights = Weights(weight_in.data_ptr(), WIDTH, 1)
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


def check(theirs, ours):
    """A token whose logit is nearly zero may take another path."""
    for one, other in zip(theirs, ours):
        right = ((one.squeeze(1) - other).abs() <= TOLERANCE * (1 + other.abs())).all(dim=1)  # false of a NaN
        wrong = int((~right).sum())
        if wrong > 1 + len(one) // 1000:
            sys.exit(f"pytorch_peer: {wrong} of {len(one)} tokens differ")


def main():
    try:
        import torch  # pylint: disable=import-outside-toplevel
        from batched_matmul import BatchedMatmul  # pylint: disable=import-outside-toplevel
    except ImportError:
        return 77
    torch.set_num_threads(1)
    torch.manual_seed(1)
    torch.set_grad_enabled(False)
    weight_in = torch.randn(ROWS, WIDTH) / WIDTH ** 0.5
    weight_out = torch.randn(ROWS, WIDTH) / WIDTH ** 0.5
    by_torch = BatchedMatmul(weight_in, weight_out, DEPTH).eval()
    by_fff = layer_by_fff(torch, sys.argv[1], weight_in, weight_out)
    rows = []
    for batch in BATCHES:
        batches = [torch.randn(batch, WIDTH) for _ in range(max(1, TOKENS // batch))]
        rows.append(turns.time_both(by_torch, by_fff, batches, batches, ROUNDS, check))
    print(json.dumps({"torch": torch.__version__, "rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
