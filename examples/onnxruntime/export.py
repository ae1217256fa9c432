"""Exports PyTorch models with fast feedforward (FFF) layers to ONNX, with nodes fff:PathFFF and fff:LeafFFF for them.

    from export import export
    export(model, (ids,), "model.onnx", input_names=["ids"], dynamic_axes={"ids": {0: "batch"}})

or, for a model in the format of the published UltraFastBERT-1x11-long (a folder with config.json and
model.safetensors):

    python3 export.py MODEL_FOLDER OUT.onnx

FFF layers are recognised by their structure, which is that of the authors' module (repository pbelcak/UltraFastBERT):
a module with `linear_in`, `linear_out`, `depth` and `parallel_size`; or that of the package fastfeedforward, with
leaves, and perhaps a master leaf (export_leaves.py). Those of fff.torch are among them; its Forest is the sum of its
parts. Each is run on random tokens and compared with the definition before it is replaced, so that a module that only
looks like one is an error and not a wrong model. All other modules go through torch.onnx.export().
"""

from __future__ import annotations

import contextlib
import inspect
import pathlib
import re
import sys
import warnings
from typing import Any, Iterator, Mapping, Optional, Sequence

import onnx
import torch
from torch import nn

import export_leaves

OPSET = 17  # of the standard domain: the first with LayerNormalization
ACTIVATIONS = ("gelu", "gelu_tanh", "relu", "relu2", "silu", "identity")


class ExportError(ValueError):
    """A module that has an FFF layer's attributes cannot be exported as one."""


def activation_name(activation: Any, names: Mapping[Any, str]) -> Optional[str]:
    """The operators' name of a module's activation; None if it has none. `names` has the caller's own modules, by type."""
    if type(activation) in names:
        return names[type(activation)]
    if isinstance(activation, nn.GELU):
        return {"none": "gelu", "tanh": "gelu_tanh"}.get(getattr(activation, "approximate", "none"))
    known = {nn.ReLU: "relu", nn.SiLU: "silu", nn.Identity: "identity"}
    if type(activation).__module__.startswith("fff.torch"):
        return {"SquaredReLU": "relu2"}.get(type(activation).__name__)
    return known.get(type(activation))


def describe(module: nn.Module, name: str, names: Mapping[Any, str]) -> dict[str, Any]:
    """PathFFF's attributes for a module; ExportError if shapes, types or options do not fit."""
    depth, trees = module.depth, module.parallel_size
    if not (isinstance(depth, int) and isinstance(trees, int) and 0 <= depth <= 30 and trees >= 1):
        raise ExportError(f"{name}: depth {depth!r}, parallel_size {trees!r}")
    rows = trees * (2 ** (depth + 1) - 1)
    first, second = module.linear_in, module.linear_out
    if first.weight.dim() != 2 or first.weight.shape[0] != rows:
        raise ExportError(f"{name}: linear_in.weight has shape {tuple(first.weight.shape)}, where {trees} trees of "
                          f"depth {depth} have {rows} nodes")
    if second.weight.dim() != 2 or second.weight.shape[1] != rows:
        raise ExportError(f"{name}: linear_out.weight has shape {tuple(second.weight.shape)}, "
                          f"not (output width, {rows})")
    if getattr(second, "bias", None) is not None:
        raise ExportError(f"{name}: linear_out has a bias, which an FFF layer does not have")
    if first.weight.dtype != torch.float32 or second.weight.dtype != torch.float32:
        raise ExportError(f"{name}: weights are {first.weight.dtype}, not torch.float32; convert the model first")
    activation = activation_name(getattr(module, "activation", None), names)
    if activation not in ACTIVATIONS:
        raise ExportError(f"{name}: activation {getattr(module, 'activation', None)!r} is none that PathFFF has; name "
                          f"your own types in `activations`")
    thresholds = getattr(module, "thresholds", None)
    if thresholds is not None and (thresholds.shape != (rows,) or thresholds.dtype != torch.float32):
        raise ExportError(f"{name}: thresholds are {thresholds.dtype} of shape {tuple(thresholds.shape)}, not ({rows},)")
    return {"depth": depth, "trees": trees, "activation": activation, "routing": getattr(module, "routing", ">")}


def describe_leaves(module: nn.Module, name: str, names: Mapping[Any, str]) -> dict[str, Any]:
    """LeafFFF's attributes for a module, and whether its evaluation adds b2s, as far as the module tells; ExportError
    if shapes, types or options do not fit."""
    misfit = export_leaves.misfit(module)
    if misfit is not None:
        raise ExportError(f"{name}: {misfit}")
    activation = activation_name(getattr(module, "activation", None), names)
    if activation not in ACTIVATIONS:
        raise ExportError(f"{name}: activation {getattr(module, 'activation', None)!r} is none that LeafFFF has; name "
                          f"your own types in `activations`")
    return {"depth": int(module.depth), "activation": activation, "routing": getattr(module, "routing", ">="),
            "b2s": getattr(module, "eval_b2s", None)}


def activate(z: torch.Tensor, name: str) -> torch.Tensor:
    """The activation of that name, in z's own precision."""
    return {
        "gelu": lambda: nn.functional.gelu(z),
        "gelu_tanh": lambda: nn.functional.gelu(z, approximate="tanh"),
        "relu": lambda: z.relu(),
        "relu2": lambda: z.relu() ** 2,
        "silu": lambda: nn.functional.silu(z),
        "identity": lambda: z,
    }[name]()


def path_sum(module: nn.Module, x: torch.Tensor, attributes: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """The definition, in float64: outputs (tokens, output width), and how near each token comes to a threshold."""
    depth, trees = attributes["depth"], attributes["trees"]
    nodes = 2 ** (depth + 1) - 1
    logits = x.double() @ module.linear_in.weight.double().T
    if module.linear_in.bias is not None:
        logits = logits + module.linear_in.bias.double()
    thresholds = getattr(module, "thresholds", None)
    limits = logits if thresholds is None else logits - thresholds.double()
    output = torch.zeros(len(x), module.linear_out.weight.shape[0], dtype=torch.float64)
    smallest = torch.full((len(x),), float("inf"), dtype=torch.float64)
    rows = module.linear_out.weight.double().T
    for tree in range(trees):
        node = torch.zeros(len(x), dtype=torch.long)
        for level in range(depth + 1):
            logit = logits[torch.arange(len(x)), tree * nodes + node]
            output += activate(logit, attributes["activation"])[:, None] * rows[tree * nodes + node]
            limit = limits[torch.arange(len(x)), tree * nodes + node]
            if level < depth:
                smallest = torch.minimum(smallest, limit.abs())
            node = 2 * node + 1 + (limit >= 0 if attributes["routing"] == ">=" else limit > 0).long()
    return output, smallest


def stored_by(module: nn.Module) -> dict[str, Any]:
    """What fff.torch.quantize() told the kernels to store."""
    told = type(module).__module__.startswith("fff.torch") and module.store is not None
    return {"store": module.store, "exact_routes": module.exact_routes} if told else {}


@torch.no_grad()
def check_definition(module: nn.Module, name: str, attributes: Mapping[str, Any]) -> None:
    """Runs 64 random tokens through the module: ExportError if it computes something else. Tokens that pass within 1e-5
    of a threshold may have gone another way, and are left out."""
    leaves, generator = "b2s" in attributes, torch.Generator().manual_seed(1)
    x = torch.randn(64, (module.node_weights if leaves else module.linear_in.weight).shape[1], generator=generator)
    expected, smallest = export_leaves.leaf_sum(module, x, attributes, activate) if leaves else path_sum(module, x, attributes)
    found = module.dense(x) if stored_by(module) else module(x)  # quantised, it is that but for rounding
    clear = smallest > 1e-5
    if found.shape != expected.shape:
        raise ExportError(f"{name}: gives shape {tuple(found.shape)} for {tuple(x.shape)}, not {tuple(expected.shape)}")
    scale = expected.abs().max().clamp(min=1e-30)
    error = float(((found.double() - expected)[clear].abs().max() / scale) if clear.any() else 0)
    if not error < 1e-4:
        what = "leaves" if leaves else "a path sum"
        raise ExportError(f"{name} has an FFF layer's attributes but does not compute one: off by {error:.1e} of the "
                          f"largest output ({what}, right if logit {attributes['routing']} 0, {attributes['activation']})")


def settle_b2s(module: nn.Module, name: str, attributes: dict[str, Any]) -> dict[str, Any]:
    """Tries whether a leaf layer's evaluation adds b2s, which that of the package does not, where it does not tell."""
    if attributes["b2s"] is None:
        try:
            check_definition(module, name, {**attributes, "b2s": False})
            return {**attributes, "b2s": False}
        except ExportError:
            attributes = {**attributes, "b2s": True}
    check_definition(module, name, attributes)
    return attributes


def find_layers(model: nn.Module, activations: Mapping[Any, str] = {}) -> dict[str, tuple[nn.Module, dict[str, Any]]]:
    """All FFF layers of a model, by name, with their nodes' attributes; each is checked. `b2s` among these is of leaf
    layers alone."""
    found = {}
    for name, module in model.named_modules():
        if all(hasattr(module, wanted) for wanted in ("linear_in", "linear_out", "depth", "parallel_size")):
            attributes = describe(module, name or "the model", activations)
            check_definition(module, name or "the model", attributes)
            found[name] = module, attributes
        elif export_leaves.is_leaf_layer(module):
            attributes = describe_leaves(module, name or "the model", activations)
            found[name] = module, settle_b2s(module, name or "the model", attributes)
    return found


def nodes_of(module: nn.Module, attributes: Mapping[str, Any]) -> list[export_leaves.Node]:
    """The nodes whose sum a layer is."""
    if "b2s" in attributes:
        return export_leaves.nodes_of(module, attributes)
    first = module.linear_in
    return [("PathFFF", attributes, [first.weight, module.linear_out.weight, first.bias, getattr(module, "thresholds", None)])]


class _Node(torch.autograd.Function):
    """Traced as one node. What it returns meanwhile has the right shape and type, and is 0."""

    @staticmethod
    def forward(_context, x, _op, _attributes, width, *_weights):
        return x.new_zeros(x.shape[:-1] + (width,))

    @staticmethod
    def symbolic(g, x, op, attributes, width, *weights):
        from torch.onnx import symbolic_helper  # of PyTorch 1.12 and later

        weights = list(weights)
        while weights[-1] is None:  # those before others get the name ""
            del weights[-1]
        inputs = [symbolic_helper._optional_input_placeholder_tensor(g) if weight is None else weight for weight in weights]
        options: dict[str, Any] = {"activation_s": attributes["activation"], "routing_s": attributes["routing"]}
        options.update({f"{name}_i": attributes[name] for name in ("depth", "trees") if name in attributes})
        if attributes.get("store") is not None:
            options["store_s"] = attributes["store"]
        if attributes.get("exact_routes"):
            options["exact_routes_i"] = 1
        output = g.op(f"fff::{op}", x, *inputs, **options)
        sizes = x.type().sizes() if hasattr(x.type(), "sizes") else None
        if sizes:
            output.setType(x.type().with_sizes(list(sizes[:-1]) + [width]))
        return output


def _forests(model: nn.Module) -> dict[str, nn.Module]:
    """fff.torch's modules of several parts, which else would not call their parts."""
    return {name: module for name, module in model.named_modules()
            if type(module).__module__.startswith("fff.torch") and type(module).__name__ == "Forest"}


@contextlib.contextmanager
def _replaced(model: nn.Module, layers: Mapping[str, tuple[nn.Module, dict[str, Any]]],
              calls: dict[str, int]) -> Iterator[None]:
    """Within it, each layer is the sum of its nodes; `calls` counts how many these were."""
    def replace(name: str, module: nn.Module, attributes: dict[str, Any]) -> None:
        nodes = nodes_of(module, attributes)
        width = module.w2s.shape[2] if "b2s" in attributes else module.linear_out.weight.shape[0]

        def forward(x):
            calls[name] += len(nodes)
            first, *others = (_Node.apply(x, op, options, width, *weights) for op, options, weights in nodes)
            return sum(others, first)

        module.forward = forward

    forests = _forests(model)
    changed = {**{name: module for name, (module, _) in layers.items()}, **forests}
    had = {name: "forward" in vars(module) for name, module in changed.items()}
    originals = {name: module.forward for name, module in changed.items()}
    try:
        for name, (module, attributes) in layers.items():
            replace(name, module, attributes)
        for module in forests.values():
            module.forward = module._without_kernels
        yield
    finally:
        for name, module in changed.items():
            if had[name]:
                module.forward = originals[name]
            elif "forward" in vars(module):
                del module.forward


def export(model: nn.Module, example: Sequence[Any], path: str, *, input_names: Sequence[str],
           output_names: Optional[Sequence[str]] = None, dynamic_axes: Optional[Mapping[str, Any]] = None,
           activations: Mapping[Any, str] = {}, store: Optional[str] = None,
           exact_routes: Optional[bool] = None) -> list[str]:
    """Writes `model` to `path`; returns the names of its FFF layers.

    example       the model's arguments, traced once
    activations   the operators' names of your own activation modules: {MyReLU2: "relu2"}
    store         how the runtime is to store the weights, which the file has as they are: bf16, or bf16+i8; by default
                  what fff.torch.quantize() was told, if it was
    exact_routes  route by the weights as they are; by default likewise
    Other arguments are torch.onnx.export()'s. The model stays as it was. ExportError if a layer does not fit, or
    if the model does not call one of them as a module; ONNX's own checker has the last word.
    """
    if store is not None and not re.fullmatch(r"(f32|bf16|f16|i8)(\+(f32|bf16|f16|i8))?", store):
        raise ExportError(f"store {store!r} is none of f32, bf16, f16, i8, nor two of them with a + between")
    chosen = {name: value for name, value in (("store", store), ("exact_routes", exact_routes)) if value is not None}
    layers = {name: (module, {**attributes, **stored_by(module), **chosen})
              for name, (module, attributes) in find_layers(model, activations).items()}
    calls = dict.fromkeys(layers, 0)
    options: dict[str, Any] = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    if layers:
        options["custom_opsets"] = {"fff": 1}
    with _replaced(model, layers, calls), torch.no_grad(), warnings.catch_warnings():
        # It is in the library; and absent inputs have none.
        warnings.filterwarnings("ignore", "The shape inference of (fff::....FFF|prim::Constant) type is missing")
        warnings.filterwarnings("ignore", ".*_graph_op. is deprecated")  # 1.13's word on g.op(), which remained
        torch.onnx.export(model, tuple(example), path, input_names=list(input_names), output_names=output_names,
                          dynamic_axes=dynamic_axes, opset_version=OPSET, **options)
    unused = [name for name, count in calls.items() if count == 0]
    if unused:
        raise ExportError(f"never called as a module: {', '.join(unused)}")
    onnx.checker.check_model(path)
    nodes = sum(node.domain == "fff" for node in onnx.load(path, load_external_data=False).graph.node)
    if nodes != sum(calls.values()):
        raise ExportError(f"{nodes} nodes of FFF layers where {sum(calls.values())} were traced")
    return list(layers)


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 2:
        print("usage: export.py MODEL_FOLDER OUT.onnx", file=sys.stderr)
        return 2
    from fastbert import FastBert

    model = FastBert(pathlib.Path(arguments[0])).eval()
    ids, mask = torch.zeros(2, 8, dtype=torch.long), torch.ones(2, 8)
    axes = {0: "batch", 1: "length"}
    layers = export(model, (ids, mask), arguments[1], input_names=["input_ids", "attention_mask"],
                    output_names=["hidden"], dynamic_axes={"input_ids": axes, "attention_mask": axes, "hidden": axes})
    print(f"{arguments[1]}: {len(layers)} FFF layers as fff:PathFFF")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
