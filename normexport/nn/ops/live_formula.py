"""What `live_norm` computes, in PyTorch's own operators: the norm, and its gradient in closed form.

With d = x - mean, a = scale / (stat + epsilon) and g the gradient of y, a row of n elements that share a statistic has

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
from normexport.norms.kind import beside

Three = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Layout:
    """Where the elements of a statistic lie in x (N, C, *space): rows (R, members, samples, elements of a channel).

    R is C, N*C or N*num_groups. A row has all samples or one, and one channel, its member, or those of a group.
    """

    instance: bool
    num_groups: int

    @property
    def is_per_sample(self) -> bool:
        """Whether rows are of one sample each."""
        return self.instance or self.num_groups > 0

    def rows(self, x: Tensor) -> Tensor:
        """x as rows in working precision; a view where that is possible."""
        n, c = x.shape[:2]
        values = x.to(work_dtype(x))
        if not self.is_per_sample:
            return values.reshape(n, c, 1, -1).permute(1, 2, 0, 3)
        return values.reshape(n * self._per_sample(c), c // self._per_sample(c), 1, -1)

    def unrows(self, rows: Tensor, x: Tensor) -> Tensor:
        """`rows` turned back, as x in shape and type; a view where that is possible."""
        values = rows if self.is_per_sample else rows.permute(2, 0, 1, 3)
        return values.reshape(x.shape).to(x.dtype)

    def of_channels(self, vector: Tensor, x: Tensor) -> Tensor:
        """One value per channel, (C,), as rows take it: (R, members, 1, 1), in working precision."""
        n, c = x.shape[:2]
        values = vector.to(work_dtype(x))
        if not self.is_per_sample:
            return values.reshape(c, 1, 1, 1)
        return values.expand(n, c).reshape(n * self._per_sample(c), c // self._per_sample(c), 1, 1)

    def per_channel(self, sums: Tensor, x: Tensor) -> Tensor:
        """One value per row and member, (R, members), summed over the samples: (C,)."""
        c = x.shape[1]
        return sums.reshape(-1, c).sum(0) if self.is_per_sample else sums.reshape(c)

    def statistics(self, values: Tensor, x: Tensor) -> Tensor:
        """One value per row, (R,), as the operator gives them: (C,), (N, C) or (N, num_groups)."""
        n, c = x.shape[:2]
        return values.reshape(n, self._per_sample(c)) if self.is_per_sample else values

    def _per_sample(self, channels: int) -> int:
        return self.num_groups or channels


def _beside(values: Tensor) -> Tensor:
    """Statistics of any shape as rows take them, (R, 1, 1, 1)."""
    return values.reshape(-1, 1, 1, 1)


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


def fused_norm(
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
    """`norm` for processors: d is computed once, and axes stay apart: to a compiler, loops without divisions."""
    of_kind, layout = kind_of(kind), Layout(instance, num_groups)
    if of_kind.torch_slope is None:
        return norm(x, scale, bias, kind, instance, epsilon, correction, k, chunks, num_groups)
    rows = layout.rows(x)
    mean = rows.mean((1, 2, 3))
    d = rows - _beside(mean)
    stat = of_kind.torch_statistic(d, k=k, chunks=chunks, correction=correction)
    y = d * (layout.of_channels(scale, x) / _beside(stat + epsilon)) + layout.of_channels(bias, x)
    return layout.unrows(y, x), layout.statistics(mean, x), layout.statistics(stat, x)


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
    pull = Pull.of(layout, (grad_y, grad_mean, grad_stat), x, scale, (mean, stat), epsilon)
    slopes, total = slope(kind, pull.d, pull.worth, k=k, chunks=chunks, correction=correction)
    dx = pull.g * pull.a + (slopes + beside(pull.shift(total), slopes))
    return layout.unrows(dx, x), pull.dscale, pull.dbias


@dataclass(frozen=True)
class Pull:
    """What a gradient needs of all elements before it can write the first: the letters of this module's text.

    Attributes:
        d, g: rows (R, members, samples, elements).
        a: (R, members, 1, 1).
        worth: T (R,).
        owed: g_mean - sum(a*g) (R,).
        dscale, dbias: (C,).
    """

    d: Tensor
    g: Tensor
    a: Tensor
    worth: Tensor
    owed: Tensor
    dscale: Tensor
    dbias: Tensor

    @classmethod
    def of(
        cls, layout: Layout, grads: Three, x: Tensor, scale: Tensor, statistics: tuple[Tensor, Tensor], epsilon: float
    ) -> Pull:
        grad_y, grad_mean, grad_stat = grads
        mean, stat = statistics
        g, d = layout.rows(grad_y.to(x.dtype)), layout.rows(x) - _beside(mean)
        inverse, weight = 1 / (stat.reshape(-1, 1) + epsilon), layout.of_channels(scale, x)
        products, sums = (g * d).sum((2, 3)), g.sum((2, 3))
        worth = grad_stat.reshape(-1) - ((products * weight[..., 0, 0]).sum(1) * inverse.square()[:, 0])
        owed = grad_mean.reshape(-1) - (sums * weight[..., 0, 0] * inverse).sum(1)
        vectors = layout.per_channel(products * inverse, x), layout.per_channel(sums, x)
        return cls(d, g, weight * _beside(inverse), worth, owed, *vectors)

    def shift(self, total: Tensor) -> Tensor:
        """What every dx of a row has, (R,); `total`: the sum of its slopes, (R,)."""
        return (self.owed - total) / self.d[0].numel()


def slope(kind: str, d: Tensor, worth: Tensor, **parameters: Any) -> tuple[Tensor, Tensor]:
    """worth (R,) times the derivative of the statistic for each d, like d, and its sum over each row (R,)."""
    of_kind = kind_of(kind)
    if of_kind.torch_slope is not None:
        both: tuple[Tensor, Tensor] = of_kind.torch_slope(d, worth, **parameters)
        return both
    (pulled,) = vjp(lambda rows: of_kind.torch_statistic(rows, **parameters), (d.flatten(1),), worth)
    return pulled.reshape(d.shape), pulled.sum(1)
