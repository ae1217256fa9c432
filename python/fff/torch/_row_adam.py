"""AdamW for the rows of weights that a batch meets."""

from __future__ import annotations

import ctypes
import weakref
from typing import Callable, Iterable, Optional, Union

import torch
from torch import nn

from .. import _c, _system
from . import _training
from ._modules import FFF, _Layer
from ._training import RowGradients


class _Recorder:
    """What a layer's backward pass gives its rows to, as long as the optimizer lives. Copies of a layer, and pickles, have none."""

    def __init__(self, owner: RowAdam, layer: _Layer):
        layer_ = weakref.ref(layer)

        def leave(_owner) -> None:
            of = layer_()
            if of is not None and of.__dict__.get("_sink") is self:
                del of.__dict__["_sink"]
        self.owner, self.pending = weakref.ref(owner, leave), []  # type: ignore[var-annotated]
        self.exchanged = False  # what is pending is the mean of all processes' already
        layer.__dict__["_sink"] = self

    def __call__(self, found: RowGradients) -> None:
        if self.exchanged:
            raise RuntimeError("a backward pass after processes have exchanged their gradients, and before step() or zero_grad()")
        self.pending.append(found)

    def clear(self) -> None:
        self.pending.clear()
        self.exchanged = False

    def __deepcopy__(self, _memo) -> None:
        return None

    def __reduce__(self):
        return type(None), ()


def _matrix(weight: torch.Tensor, transposed: bool) -> torch.Tensor:
    """A view with a row a neuron."""
    return weight.unsqueeze(1) if weight.dim() == 1 else weight.t() if transposed else weight


class RowAdam(torch.optim.Optimizer):
    """AdamW of path-sum layers, whose backward passes then list the rows of the neurons that tokens met, instead of filling
    gradients with zeros for all others: `.grad` of their weights stays None. It reads and writes these rows alone.

    layers   an FFF, BenchmarkFFF or NodeMajorFFF, a model that holds some, or several of these; float32, on the CPU. All other
             parameters of the model are another optimizer's: others() lists them.
    lr, betas, eps, weight_decay   as torch.optim.AdamW's; the decay is that of weights, by lr * weight_decay of themselves

    For the rows that were met since the last step, of input weights, biases and output weights, with n the number of the layer's steps,

        m = beta1 m + (1 - beta1) g          w = w - lr weight_decay w - lr (m / (1 - beta1^n)) / (sqrt(v / (1 - beta2^n)) + eps)
        v = beta2 v + (1 - beta2) g^2

    which is AdamW's step. All other rows stay as they are: AdamW would go on moving them by the momentum that they have, and shrink
    them; when they are met again nothing is made up for. Where every step meets every neuron, it is AdamW.

    The gradients of several backward passes before a step are added; zero_grad() drops them. They are those that backward() would add
    to `.grad`, and no others: torch.autograd.grad() and backward(inputs=...) of something else leave none. They are no tensor of the
    parameter's shape: torch.nn.utils.clip_grad_norm_() and DistributedDataParallel do not see them; clip_grad_norm_() here does, and
    for several processes there is distribute(). Nor does a GradScaler: unscale_() does nothing, and its step() fails. A hook on such
    a weight for its gradient (register_hook(), register_post_accumulate_grad_hook()) makes backward() a RuntimeError.
    learning rate schedulers and state_dict() are as of any optimizer: a group a layer; step, exp_avg and exp_avg_sq a parameter.
    Output weights of FFFs are laid out neuron after neuron (node_major_()); where that changes later, a step copies the rows that were
    met. A layer whose optimizer is gone has `.grad` again. RowAdam is neither copied nor pickled, and takes no further groups.
    """

    def __init__(self, layers: Union[nn.Module, Iterable[nn.Module]], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 1e-2):
        for name, value, bound in (("lr", lr, float("inf")), ("eps", eps, float("inf")), ("weight_decay", weight_decay, float("inf")),
                                   ("betas[0]", betas[0], 1), ("betas[1]", betas[1], 1)):
            if not 0 <= value < bound:
                raise ValueError(f"{name} is {value}, and must be from 0 to below {bound}")
        self._layers = list({id(module): module for given in ([layers] if isinstance(layers, nn.Module) else layers)
                             for module in given.modules() if isinstance(module, _Layer)}.values())
        if not self._layers:
            raise ValueError("there is no path-sum layer in it: FFF, BenchmarkFFF or NodeMajorFFF")
        for layer in self._layers:
            _check(layer)
        groups = [{"params": [weight for weight in layer._weights() if weight is not None]} for layer in self._layers]
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        self._group = None  # of processes that share the batch
        self._recorders = [_Recorder(self, layer) for layer in self._layers]

    def add_param_group(self, param_group: dict) -> None:
        if hasattr(self, "_layers") and len(self.param_groups) == len(self._layers):
            raise ValueError("a RowAdam's groups are the layers that it was given: make another RowAdam of other layers")
        super().add_param_group(param_group)

    def __reduce_ex__(self, _protocol):
        raise TypeError("a RowAdam belongs to its layers, and is neither copied nor pickled: make a RowAdam of the copied model, and load "
                        "this one's state_dict() into it")

    def _follow(self) -> None:
        """Parameters that load_state_dict(assign=True) has put in place of others go on with the moments of these."""
        for layer, group in zip(self._layers, self.param_groups):
            weights = [weight for weight in layer._weights() or () if weight is not None]
            if len(weights) == len(group["params"]):
                for before, weight in zip(group["params"], weights):
                    if weight is not before and before in self.state:
                        self.state[weight] = self.state.pop(before)
                group["params"] = weights

    def others(self, model: nn.Module) -> list[nn.Parameter]:
        """The parameters of `model` that are not these layers'."""
        self._follow()
        own = {id(weight) for group in self.param_groups for weight in group["params"]}
        return [weight for weight in model.parameters() if id(weight) not in own]

    @torch.no_grad()
    def distribute(self, model: nn.Module, group=None) -> None:
        """For training on several processes, each with a part of the batch: from now on a step uses the mean of their gradients, of
        the rows that any of them met, as DistributedDataParallel does for other parameters. Call it before
        DistributedDataParallel(model), which then leaves these layers to RowAdam. All processes of `group` (None: all there are) begin
        with the first one's weights, and have the same bits after each step; all must call gradients(), clip_grad_norm_() and
        step() alike. They exchange the rows that were met, not whole gradients."""
        if not torch.distributed.is_available() or not torch.distributed.is_initialized():
            raise RuntimeError("torch.distributed is not initialised")
        self._follow()
        own = {id(weight) for group_ in self.param_groups for weight in group_["params"]}
        names = [name for name, weight in model.named_parameters() if id(weight) in own]
        if len(names) < len(own):
            raise ValueError(f"the model holds {len(names)} of the {len(own)} weights that this optimizer has")
        ignored = set(getattr(model, "_ddp_params_and_buffers_to_ignore", ())) | set(names)
        nn.parallel.DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, ignored)
        self._group = group if group is not None else torch.distributed.group.WORLD
        first = 0 if group is None else torch.distributed.distributed_c10d._get_global_rank(group, 0)
        for group_ in self.param_groups:
            for weight in group_["params"]:
                given = weight.detach().contiguous()
                torch.distributed.broadcast(given, first, self._group)
                weight.copy_(given)

    def gradients(self) -> list[Optional[RowGradients]]:
        """What the next step will use, a layer each; None for those that no backward pass has met. The tensors may be written to."""
        for layer, recorder in zip(self._layers, self._recorders):
            if len(recorder.pending) > 1:
                recorder.pending[:] = [_sum(recorder.pending)]
            if self._group is not None and not recorder.exchanged:
                shared = _mean_of_processes(layer, recorder.pending[0] if recorder.pending else None, self._group)
                recorder.pending[:] = [] if shared is None else [shared]
                recorder.exchanged = True
        return [recorder.pending[0] if recorder.pending else None for recorder in self._recorders]

    @torch.no_grad()
    def clip_grad_norm_(self, max_norm: float, parameters: Iterable[torch.Tensor] = ()) -> torch.Tensor:
        """As torch.nn.utils.clip_grad_norm_(), for these layers' gradients and those of `parameters` together; returns the norm."""
        found = [part for each in self.gradients() if each is not None for part in each[1:] if part is not None]
        found += [weight.grad for weight in parameters if weight.grad is not None]
        if not found:
            return torch.zeros((), dtype=torch.float32, device="cpu")
        norm = torch.stack([part.norm() for part in found]).norm()
        factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
        for part in found:
            part.mul_(factor)
        return norm

    def zero_grad(self, set_to_none: bool = True) -> None:
        for recorder in self._recorders:
            recorder.clear()
        super().zero_grad(set_to_none=set_to_none)

    @torch.no_grad()
    def step(self, closure: Optional[Callable] = None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._follow()
        for layer, group, found, recorder in zip(self._layers, self.param_groups, self.gradients(), self._recorders):
            if any(weight.grad is not None for weight in group["params"]):
                raise RuntimeError(f"the weights of this {type(layer).__name__} have .grad: its backward pass was not the kernels'")
            if found is not None:
                for weight, gradient, transposed in zip(layer._weights(), found[1:], (False, False, not layer._node_major)):
                    if gradient is not None:
                        self._step(weight, found.rows, gradient, transposed, group)
            recorder.clear()
        return loss

    def _step(self, weight: torch.Tensor, rows: torch.Tensor, gradient: torch.Tensor, transposed: bool, group: dict) -> None:
        state, matrix = self.state[weight], _matrix(weight, transposed)
        number = int(state.get("step", 0)) + 1  # a tensor in a checkpoint of AdamW's
        for name in ("exp_avg", "exp_avg_sq"):
            if name not in state or not _has_rows(_matrix(state[name], transposed)):  # of a checkpoint
                laid_out = torch.zeros_like(matrix, memory_format=torch.contiguous_format)
                laid_out = laid_out.reshape(weight.shape) if weight.dim() == 1 else laid_out.t() if transposed else laid_out
                state[name] = laid_out.copy_(state[name]) if name in state else laid_out
        moments = [_matrix(state[name], transposed) for name in ("exp_avg", "exp_avg_sq")]
        settings = _c.Adam(ctypes.sizeof(_c.Adam), group["lr"], *group["betas"], group["eps"], group["weight_decay"], number)
        if _has_rows(matrix):
            _adam(settings, rows, gradient, [matrix, *moments])
        else:  # laid out anew since the constructor
            at = rows.long()
            copies = [each.index_select(0, at).contiguous() for each in (matrix, *moments)]
            _adam(settings, torch.arange(rows.numel(), dtype=torch.int32, device="cpu"), gradient, copies)
            for each, copied in zip((matrix, *moments), copies):
                each.index_copy_(0, at, copied)
        state["step"] = number
        weight[:0].zero_()  # writes nothing, and counts as a write


def _has_rows(matrix: torch.Tensor) -> bool:
    """Whether each row is contiguous, and none overlaps another."""
    return _training.is_node_major(matrix.t())


def _adam(settings: _c.Adam, rows: torch.Tensor, gradient: torch.Tensor, matrices: list) -> None:
    """A step of these rows of the weight and its moments, matrices with contiguous rows."""
    neurons, width = matrices[0].shape
    places = [number for each in matrices for number in (each.data_ptr(), max(each.stride(0), width))]
    _system.check(_c.library.fff_adam_rows(
        0, ctypes.byref(settings), rows.numel(), rows.data_ptr(), neurons, width, gradient.data_ptr(), width, *places), "adam_rows")


def _check(layer: _Layer) -> None:
    weights = layer._weights()
    if weights is None or not all(weight is None or isinstance(weight, nn.Parameter) for weight in weights):
        raise ValueError(f"the weights of this {type(layer).__name__} are not plain parameters with a row a neuron")
    if layer.dense_training:
        raise ValueError(f"this {type(layer).__name__} has dense_training, and is trained by dense()")
    if not _training.by_kernels((*weights, layer._limits())):
        raise ValueError(f"the weights of this {type(layer).__name__} are not float32 on the CPU")
    if isinstance(layer, FFF):
        _training.node_major_(weights[2])
    into, bias, out = weights
    if not all(rows is None or rows.is_contiguous() for rows in (into, bias, out if layer._node_major else out.t())):
        raise ValueError(f"the weights of this {type(layer).__name__} are parts of others, or lie neuron beside neuron")


def _sum(found: list) -> RowGradients:
    """Rows that several list, added in their order."""
    rows, at = torch.unique(torch.cat([each.rows for each in found]), return_inverse=True)

    def added(parts) -> Optional[torch.Tensor]:
        like = next((part for part in parts if part is not None), None)
        if like is None:
            return None
        total = like.new_zeros(rows.numel(), *like.shape[1:])
        for part, places in zip(parts, at.split([len(each.rows) for each in found])):
            if part is not None:  # else the weight was frozen then
                total.index_add_(0, places, part)
        return total
    return RowGradients(rows, *(added(parts) for parts in list(zip(*found))[1:]))


def _mean_of_processes(layer: _Layer, found: Optional[RowGradients], group) -> Optional[RowGradients]:
    """The mean of what all processes have found, the same bits on each: they are added in the order of ranks."""
    if found is None:
        found = _nothing(layer)
    ranks = torch.distributed.get_world_size(group)
    own = torch.tensor([found.rows.numel()], device="cpu")
    counts = [torch.zeros_like(own) for _ in range(ranks)]
    torch.distributed.all_gather(counts, own, group)
    numbers = [int(count) for count in counts]

    def gathered(part: Optional[torch.Tensor]) -> list:
        if part is None:
            return [None] * ranks
        padded = part.new_zeros(max(numbers), *part.shape[1:])
        padded[:len(part)] = part
        parts = [torch.empty_like(padded) for _ in range(ranks)]
        torch.distributed.all_gather(parts, padded, group)
        return [each[:number] for each, number in zip(parts, numbers)]

    if max(numbers) == 0:
        return None
    total = _sum([RowGradients(*parts) for parts in zip(*(gathered(part) for part in found))])
    for part in total[1:]:
        if part is not None:
            part.div_(ranks)
    return total


def _nothing(layer: _Layer) -> RowGradients:
    """The gradients of a process that has met no row."""
    into, bias, out = (weight if weight is not None and weight.requires_grad else None for weight in layer._weights())
    empty = torch.empty(0, dtype=torch.float32, device="cpu")
    return RowGradients(empty.int(), None if into is None else empty.reshape(0, layer.input_width), None if bias is None else empty,
                        None if out is None else empty.reshape(0, layer.output_width))
