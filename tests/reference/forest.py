"""Makes the reference data in tests/data/forest_3_parts.safetensors: a seeded layer of three parts (always-on neurons, a
path sum with thresholds, leaves), small, and what the definition in float64 computes from it. Plain Python.

  forest.py FILE
"""

import json
import math
import pathlib
import random
import struct
import sys

IN, OUT, BATCH = 37, 9, 24
LEAST_MARGIN = 1e-4  # no float32 sum is so far off that a turn depends on it
ACTIVATIONS = {"ReLU": lambda z: max(z, 0.0), "ReLU2": lambda z: max(z, 0.0) ** 2, "identity": lambda z: z}


def to_f32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def numbers(source, count, scale):
    return [to_f32(source.uniform(-scale, scale)) for _ in range(count)]


class Part:
    def __init__(self, source, trees, depth, leaf_width, activation, rule):
        self.trees, self.depth, self.leaf_width = trees, depth, leaf_width
        self.activation, self.rule = activation, rule
        self.nodes = 2**depth - 1 if leaf_width else 2 ** (depth + 1) - 1
        rows, neurons = trees * self.nodes, trees * 2**depth * leaf_width
        self.weights = [numbers(source, IN, 0.3) for _ in range(rows)]
        self.biases, self.thresholds = numbers(source, rows, 0.3), numbers(source, rows, 0.3)
        self.factor = numbers(source, 1, 1.5)[0]
        self.leaf_weights = [numbers(source, IN, 0.3) for _ in range(neurons)]
        self.leaf_biases = numbers(source, neurons, 0.3)
        self.out = [numbers(source, OUT, 0.5) for _ in range(neurons or rows)]
        self.leaf_output_biases = [numbers(source, OUT, 0.5) for _ in range(trees * 2**depth if leaf_width else 0)]

    def neuron(self, x, weights, bias):
        return math.fsum([*(a * b for a, b in zip(x, weights)), bias])

    def terms(self, x):
        """Rows that are added to the output, each with its factor; and the smallest distance of a logit from a turn."""
        terms, margin = [], math.inf
        for tree in range(self.trees):
            node = 0
            for level in range(self.depth + (0 if self.leaf_width else 1)):
                row = tree * self.nodes + node
                logit = self.neuron(x, self.weights[row], self.biases[row])
                if not self.leaf_width:
                    terms.append((ACTIVATIONS[self.activation](logit) * self.factor, self.out[row]))
                if level < self.depth:
                    margin = min(margin, abs(logit - self.thresholds[row]))
                    node = 2 * node + 1 + (logit > self.thresholds[row])
            leaf = tree * 2**self.depth + node - self.nodes
            for neuron in range(leaf * self.leaf_width, (leaf + 1) * self.leaf_width) if self.leaf_width else []:
                logit = self.neuron(x, self.leaf_weights[neuron], self.leaf_biases[neuron])
                terms.append((ACTIVATIONS[self.activation](logit) * self.factor, self.out[neuron]))
            if self.leaf_width:
                terms.append((self.factor, self.leaf_output_biases[leaf]))
        return terms, margin

    def tensors(self):
        rows, leaves, width = len(self.weights), self.trees * 2**self.depth, self.leaf_width
        tensors = {"thresholds": ([rows], self.thresholds), "factor": ([], [self.factor])}
        if not width:
            columns = [self.out[row][column] for column in range(OUT) for row in range(rows)]
            return tensors | {"linear_in.weight": ([rows, IN], sum(self.weights, [])), "linear_in.bias": ([rows], self.biases),
                              "linear_out.weight": ([OUT, rows], columns)}
        w1s = [self.leaf_weights[leaf * width + j][i] for leaf in range(leaves) for i in range(IN) for j in range(width)]
        return tensors | {"depth": ([], self.depth), "node_weights": ([rows, IN], sum(self.weights, [])),
                          "node_biases": ([rows, 1], self.biases), "w1s": ([leaves, IN, width], w1s),
                          "b1s": ([leaves, width], self.leaf_biases), "w2s": ([leaves, width, OUT], sum(self.out, [])),
                          "b2s": ([leaves, OUT], sum(self.leaf_output_biases, []))}

    def metadata(self):
        values = {"trees": str(self.trees), "activation": self.activation, "route": self.rule}
        return values if self.leaf_width else values | {"depth": str(self.depth)}


def write(path, metadata, tensors):
    header, data = {"__metadata__": metadata}, b""
    for name, (shape, values) in tensors.items():
        content = struct.pack("<q", values) if isinstance(values, int) else struct.pack(f"<{len(values)}f", *values)
        dtype = "I64" if isinstance(values, int) else "F32"
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + data)


def make(path):
    source = random.Random(11)
    parts = [Part(source, 6, 0, 0, "ReLU2", "logit > 0"), Part(source, 2, 2, 0, "ReLU", "logit > 0"),
             Part(source, 2, 3, 4, "identity", "logit >= 0")]
    bias, inputs = numbers(source, OUT, 0.5), [numbers(source, IN, 1.0) for _ in range(BATCH)]
    outputs = []
    for x in inputs:
        found = [part.terms(x) for part in parts]
        assert min(margin for _, margin in found) > LEAST_MARGIN
        for column in range(OUT):
            terms = [factor * row[column] for terms, _ in found for factor, row in terms]
            outputs.append(to_f32(math.fsum([bias[column], *terms])))
    metadata, tensors = {"variant": "parts", "parts": str(len(parts))}, {}
    for index, part in enumerate(parts):
        metadata |= {f"parts.{index}.{key}": value for key, value in part.metadata().items()}
        tensors |= {f"parts.{index}.{key}": value for key, value in part.tensors().items()}
    tensors |= {"output_bias": ([OUT], bias), "input": ([BATCH, IN], sum(inputs, [])), "output": ([BATCH, OUT], outputs)}
    write(path, metadata, tensors)


if __name__ == "__main__":
    make(sys.argv[1])
