"""A batch norm with the statistics of the batches of several processes, as torch.nn.SyncBatchNorm has them.

Formulas are those of `live_formula`; every sum, maximum and count is of all processes, so that each computes what one
process computes that has all of the batch, in the order of ranks. Gradients of scale and bias are of the process's own
batch: they are added up, or averaged, by whatever does that with the other parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from normexport.errors import UsageError
from normexport.nn.ops.live_formula import Layout, Three
from normexport.norms import kind as kind_of

_LAYOUT = Layout(instance=False, num_groups=0)


@dataclass(frozen=True)
class ProcessTeam:
    """`norms.kind.Team` by torch.distributed; every process calls the same methods in the same order."""

    group: Any  #: None is the default group
    count: int
    before: int

    @classmethod
    def of(cls, elements: int, like: Tensor, group: Any) -> ProcessTeam:
        """The team of a process that has so many elements of each channel."""
        own = torch.tensor([elements], dtype=torch.int64, device=like.device)
        sizes = [torch.empty_like(own) for _ in range(dist.get_world_size(group))]
        dist.all_gather(sizes, own, group)
        counts = [int(size) for size in sizes]
        return cls(group, sum(counts), sum(counts[: dist.get_rank(group)]))

    def sum(self, values: Tensor) -> Tensor:
        return self._reduce(values, dist.ReduceOp.SUM)

    def max(self, values: Tensor) -> Tensor:
        return self._reduce(values, dist.ReduceOp.MAX)

    def gather(self, values: Tensor) -> Tensor:
        parts = [torch.empty_like(values) for _ in range(dist.get_world_size(self.group))]
        dist.all_gather(parts, values.contiguous(), self.group)
        return torch.cat(parts, 1)

    def _reduce(self, values: Tensor, how: Any) -> Tensor:
        total = values.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, how, self.group)
        return total


def is_shared(group: Any) -> bool:
    """Whether there is more than one process in the group, None for the default one."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size(group) > 1


class _SharedNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, bias: Tensor, group: Any, kind: str, epsilon: float, how: dict[str, Any]
    ) -> Three:
        rows = _rows(x)
        team = ProcessTeam.of(rows.shape[1], x, group)
        if team.count <= 1:
            raise ValueError(f"Expected more than 1 value per channel in all processes, got input size {x.shape}")
        mean = team.sum(rows.sum(1)) / team.count
        d = rows - mean.unsqueeze(1)
        # A maximum over processes may pass over NaN, a sum does not; 0 times an infinite mean is NaN too.
        stat = _shared(kind).statistic(d, team, **how) + 0 * mean
        slope = scale.to(d.dtype) / (stat + epsilon)
        y = d * slope.unsqueeze(1) + bias.to(d.dtype).unsqueeze(1)
        ctx.save_for_backward(x, scale, mean, stat)
        ctx.given = team, kind, epsilon, how, bias.dtype
        return _like(y, x), mean, stat

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_mean: Tensor, grad_stat: Tensor) -> tuple[Any, ...]:
        x, scale, mean, stat = ctx.saved_tensors
        team, kind, epsilon, how, bias_dtype = ctx.given
        g, d = _rows(grad_y), _rows(x) - mean.unsqueeze(1)
        inverse = 1 / (stat + epsilon)
        slope = scale.to(d.dtype) * inverse
        products, sums = (g * d).sum(1), g.sum(1)
        of_products, of_sums, of_mean, of_stat = team.sum(torch.stack([products, sums, grad_mean, grad_stat]))
        worth = of_stat - slope * inverse * of_products
        slopes = _shared(kind).slope(d, worth, stat, team, **how)
        shift = (of_mean - slope * of_sums - team.sum(slopes.sum(1))) / team.count
        dx = g * slope.unsqueeze(1) + slopes + shift.unsqueeze(1)
        vectors = (products * inverse).to(scale.dtype), sums.to(bias_dtype)
        return (_like(dx, x), *vectors, None, None, None, None)


def shared_norm(x: Tensor, scale: Tensor, bias: Tensor, group: Any, kind: str, epsilon: float, **how: Any) -> Three:
    """`live_norm` of the batches of all processes of a group: (y of this process, mean, stat).

    x (N, C, *space), N of each process's own, 0 too; differentiable, once. `how`: correction, k, chunks.

    Raises:
        UsageError: the kind does not know how; k exceeds the elements of all processes.
        ValueError: one element per channel in all processes together.
    """
    # What a process says to others is not for a compiler to move.
    apply: Any = torch.compiler.disable(_SharedNorm.apply)
    three: Three = apply(x, scale, bias, group, kind, epsilon, how)
    return three


def _shared(kind: str) -> Any:
    shared = kind_of(kind).shared
    if shared is None:
        raise UsageError(f"kind {kind!r}", "has no statistic over several processes", "give its NormKind a `shared`")
    return shared


def _rows(x: Tensor) -> Tensor:
    """x (N, C, *space) -> (C, n) in working precision."""
    rows = (
        _LAYOUT.rows(x)
        if x.numel()
        else x.new_zeros((x.shape[1], 0), dtype=torch.promote_types(x.dtype, torch.float32))
    )
    return rows.flatten(1)


def _like(rows: Tensor, x: Tensor) -> Tensor:
    return torch.empty_like(x) if x.numel() == 0 else _LAYOUT.unrows(rows.reshape(x.shape[1], 1, x.shape[0], -1), x)
