"""Measure, in one pass over data, what converted norms need: running statistics and the ratio to the old ones."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from normexport.errors import UsageError
from normexport.nn.base import Norm
from normexport.nn.group import LayerNorm
from normexport.nn.ops import live_norm
from normexport.norms import Scope
from normexport.norms.l2 import L2

Forward = Callable[[nn.Module, Any], object]


class Estimator(nn.Module):
    """Stands in for a torch norm during the pass: observes, and passes on what the network expects.

    Its output is the old norm's on the statistics of x where scales are matched (what the finished norm will
    compute), else the new norm's.
    """

    def __init__(self, path: str, old: Any, new: Norm, match_scale: bool) -> None:
        super().__init__()
        self.path, self.old, self.new, self.match_scale = path, old, new, match_scale
        self.count = 0
        self.sums: list[Tensor] = []  # of mean, stat and variance, each (C,) float64

    def forward(self, x: Tensor) -> Tensor:
        if self.new.scope.is_instance and x.dim() == min(self.new.ranks):
            return self.forward(x.unsqueeze(0)).squeeze(0)
        if x.numel() == 0:
            return torch.empty_like(x)
        y = self._observe(self.new.rows_of(x) if isinstance(self.new, LayerNorm) else x)
        return self._old(x) if self.match_scale else y.reshape(x.shape)

    def _observe(self, x: Tensor) -> Tensor:
        n, c = x.shape[:2]
        if x.numel() == {Scope.BATCH: c, Scope.INSTANCE: n * c, Scope.GROUP: n * self.new.num_groups}[self.new.scope]:
            of = "channel" if self.new.scope is not Scope.GROUP else "group"
            raise UsageError(self.path, f"a batch has one element per {of}", "pass larger batches")
        try:
            y, mean, stat = self.new.live(x)
        except UsageError as error:
            raise UsageError(self.path, error.cause, error.remedy) from None
        zeros = mean.new_zeros(x.shape[1])
        own = (self.new.scope.is_instance, 0.0, 0.0, 1, 1, self.new.num_groups)
        _, _, sigma = live_norm(x, zeros, zeros, L2.name, *own)
        observed = [each.double() for each in (mean, stat, sigma.square())]
        if self.new.scope.is_per_sample:
            observed = [each.mean(0) for each in observed]
        if self.new.scope is Scope.GROUP:  # as each channel has it
            observed = [each.repeat_interleave(c // self.new.num_groups) for each in observed]
        self.sums = [a + b for a, b in zip(self.sums, observed, strict=True)] if self.sums else observed
        self.count += 1
        return y

    def _old(self, x: Tensor) -> Tensor:
        if self.new.scope is Scope.GROUP:
            return torch.as_tensor(self.old(x))
        compute: Any = functional.instance_norm if self.new.scope.is_instance else functional.batch_norm
        y: Tensor = compute(x, None, None, self.old.weight, self.old.bias, True, 0.0, self.old.eps)
        return y

    def finish(self) -> Norm:
        """The new norm with what was observed: averages over the batches; unchanged where there were none.

        Raises:
            UsageError: something observed is not finite.
        """
        if self.count == 0:
            return self.new
        mean, stat, variance = (each / self.count for each in self.sums)
        if not all(bool(each.isfinite().all()) for each in (mean, stat, variance)):
            raise UsageError(self.path, "its statistics on the data are not finite", "check data and model for NaN")
        with torch.no_grad():
            self._store(mean, stat)
            if self.match_scale:
                self._scale((stat + self.new.eps) / (variance + self.old.eps).sqrt())
        return self.new

    def _store(self, mean: Tensor, stat: Tensor) -> None:
        new = self.new
        if new.running_mean is None or new.running_scale is None or new.num_batches_tracked is None:
            return
        new.running_mean.copy_(mean)
        new.running_scale.copy_(stat)
        new.num_batches_tracked.fill_(self.count)

    def _scale(self, ratio: Tensor) -> None:
        if self.new.weight is None:
            self.new.affine = True
            shape = self.new.normalized_shape if isinstance(self.new, LayerNorm) else ratio.shape
            ones = torch.ones(shape, dtype=torch.float32, device=ratio.device)
            self.new.weight = nn.Parameter(ones, requires_grad=False)
        self.new.weight.mul_(ratio.reshape(self.new.weight.shape))


def estimate(model: nn.Module, data: Iterable[Any], forward: Forward) -> None:
    """Run a model that has estimators over `data`, all else in evaluation; modes are as before afterwards.

    Raises:
        UsageError: `data` is empty, or a batch is not what `forward` takes.
    """
    if isinstance(data, Tensor):  # its rows would be taken for batches
        raise UsageError("convert_norms", "data is one tensor", "pass a list of batches: data=[x]")
    modes = [(module, module.training) for module in model.modules()]
    tensors = [*model.parameters(), *model.buffers()]
    device = tensors[0].device if tensors else torch.device("cpu")
    batches = 0
    model.eval()
    try:
        with torch.no_grad():
            for batch in data:
                forward(model, _move(batch, device))
                batches += 1
    finally:
        for module, training in modes:
            module.training = training
    if batches == 0:
        raise UsageError("convert_norms", "data holds no batch", "pass at least one batch of inputs")
    unreached = [m.path for m in model.modules() if isinstance(m, Estimator) and m.count == 0]
    if unreached:
        names = ", ".join(unreached)
        warnings.warn(f"{names}: no batch reached these norms; their statistics stay at 0 and 1", stacklevel=3)


def call_on_batch(model: nn.Module, batch: Any) -> object:
    """Call the model on a tensor, on the first entry of a tuple or list, or on the entries of a dict it names.

    Raises:
        UsageError: the batch is none of these, or a dict without any argument of `model.forward`.
    """
    if isinstance(batch, Tensor):
        return model(batch)
    if isinstance(batch, Mapping):
        return model(**_arguments(model, batch))
    if isinstance(batch, (tuple, list)) and batch:
        first = batch[0]
        return model(*first) if isinstance(first, (tuple, list)) else call_on_batch(model, first)
    raise UsageError(
        "convert_norms",
        f"a batch is {type(batch).__name__}",
        "pass tensors, (input, labels) tuples or dicts, or forward=",
    )


def _arguments(model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(model.forward).parameters
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values()):
        return dict(batch)
    known = {name: value for name, value in batch.items() if name in parameters}
    if not known:
        cause = f"none of the entries {', '.join(batch)} is an argument of {type(model).__name__}.forward"
        raise UsageError("convert_norms", cause, "rename them, or pass forward=")
    return known


def _move(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {name: _move(value, device) for name, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        return [_move(value, device) for value in batch]
    return batch
