"""What `live_norm` computes, in PyTorch's own operators: the norm, and its gradient in closed form.

With d = x - mean, a = scale / (stat + epsilon) and g the gradient of y, each row of n elements that share a statistic has

    T = g_stat - sum(g * scale * d) / (stat + epsilon)^2         what a larger statistic is worth
    dx = a*g + T*slope(d) + (g_mean - sum(a*g) - T*sum(slope(d))) / n
    dscale = sum(g * d) / (stat + epsilon),  dbias = sum(g)      per channel

where slope(d) is the statistic's derivative for each d, which its kind knows (`NormKind.torch_slope`). Nothing but the
mean and the statistic is kept from the forward pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from normexport.nn.ops.support import on_axis_1, vjp, work_dtype
from normexport.norms import kind as kind_of

Three = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Layout:
    """Where the elements of a statistic lie in x (N, C, *space): rows (R, members, elements of a channel).

    R is C, N*C or N*num_groups; a row has one member, or the channels of a group.
    """

    instance: bool
    num_groups: int

    @property
    def is_per_sample(self) -> bool:
        """Whether rows are of one sample each."""
        return self.instance or self.num_groups > 0

    def rows(self, x: Tensor) -> Tensor:
        """x (N, C, *space) -> (R, members, elements), in working precision."""
        n, c = x.shape[:2]
        values = x.to(work_dtype(x))
        if not self.is_per_sample:
            return values.transpose(0, 1).reshape(c, 1, -1)
        per_sample = self.num_groups or c
        return values.reshape(n * per_sample, c // per_sample, -1)

    def unrows(self, rows: Tensor, x: Tensor) -> Tensor:
        """`rows` turned back, as x in shape and type; a view where that is possible."""
        n, c = x.shape[:2]
        values = rows.reshape(x.shape) if self.is_per_sample else rows.reshape(c, n, *x.shape[2:]).transpose(0, 1)
        return values.to(x.dtype)

    def of_channels(self, vector: Tensor, x: Tensor) -> Tensor:
        """One value per channel, (C,), as rows take it: (R, members, 1)."""
        n, c = x.shape[:2]
        if not self.is_per_sample:
            return vector.reshape(c, 1, 1)
        per_sample = self.num_groups or c
        return vector.expand(n, c).reshape(n * per_sample, c // per_sample, 1)

    def per_channel(self, sums: Tensor, x: Tensor) -> Tensor:
        """One value per row and member, (R, members), summed over the samples: (C,)."""
        c = x.shape[1]
        return sums.reshape(-1, c).sum(0) if self.is_per_sample else sums.reshape(c)


def norm(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    kind: str,
    instance: bool,
    epsilon: float,
    correction: float,
    k: int,
    chunks: int,
    num_groups: int = 0,
) -> Three:
    values = x.to(work_dtype(x))
    n, c = values.shape[:2]
    per_sample = num_groups or (c if instance else 0)
    # One row a statistic, in two axes: OpenVINO 2026.4 gets amax of three, with what follows it, wrong.
    rows = values.reshape(n * per_sample, -1) if per_sample else values.transpose(0, 1).reshape(c, -1)
    mean = rows.mean(-1)
    stat = kind_of(kind).torch_statistic(rows - mean.unsqueeze(-1), k=k, chunks=chunks, correction=correction)
    if per_sample:
        mean, stat = mean.reshape(n, per_sample), stat.reshape(n, per_sample)
    a = scale.to(values.dtype) / _per_channel(stat + epsilon, c)
    # The mean leaves before anything is scaled: an offset then costs one rounding of the mean, none of y.
    centred = values - on_axis_1(_per_channel(mean, c), x)
    y = centred * on_axis_1(a, x) + on_axis_1(bias.to(values.dtype), x)
    return y.to(x.dtype), mean, stat


def _per_channel(statistics: Tensor, channels: int) -> Tensor:
    """(C,) or (N, C) as it is; (N, G), one per group, as (N, C)."""
    if statistics.dim() == 1 or statistics.shape[1] == channels:
        return statistics
    n, groups = statistics.shape
    return statistics.unsqueeze(-1).expand(n, groups, channels // groups).reshape(n, channels)



def gradient(
    grad_y: Tensor,
    grad_mean: Tensor,
    grad_stat: Tensor,
    x: Tensor,
    scale: Tensor,
    mean: Tensor,
    stat: Tensor,
    kind: str,
    instance: bool,
    epsilon: float,
    correction: float,
    k: int,
    chunks: int,
    num_groups: int = 0,
) -> Three:
    """(dx like x, dscale, dbias (C,) in working precision) of `norm`, whose mean and stat are given."""
    layout = Layout(instance, num_groups)
    g, d = layout.rows(grad_y.to(x.dtype)), layout.rows(x) - mean.reshape(-1, 1, 1)
    inverse = 1 / (stat.reshape(-1, 1, 1) + epsilon)
    weight = layout.of_channels(scale.to(d.dtype), x)
    products, sums = (g * d).sum(-1), g.sum(-1)
    worth = grad_stat.reshape(-1, 1) - (products.unsqueeze(-1) * weight).sum((1, 2)).unsqueeze(-1) * inverse[..., 0] ** 2
    slopes = _slope(kind, d.flatten(1), worth, k=k, chunks=chunks, correction=correction)
    taken = (sums.unsqueeze(-1) * weight * inverse).sum((1, 2)).unsqueeze(-1) + slopes.sum(-1, keepdim=True)
    shift = (grad_mean.reshape(-1, 1) - taken) / slopes.shape[-1]
    dx = (g * (weight * inverse)).add_((slopes + shift).reshape(d.shape))
    dscale = layout.per_channel(products * inverse[..., 0], x)
    return layout.unrows(dx, x), dscale, layout.per_channel(sums, x)


def _slope(kind: str, d: Tensor, worth: Tensor, **parameters: Any) -> Tensor:
    """worth (R, 1) times the derivative of the statistic of d (R, n) for each d."""
    of_kind = kind_of(kind)
    if of_kind.torch_slope is not None:
        slope: Tensor = of_kind.torch_slope(d, worth, **parameters)
        return slope
    (pulled,) = vjp(lambda values: of_kind.torch_statistic(values, **parameters), (d,), worth.squeeze(-1))
    return pulled
