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
from typing import Any, NamedTuple

from torch import Tensor

from normexport.nn.ops.support import on_axis_1, vjp, work_dtype
from normexport.norms import NormKind
from normexport.norms import kind as kind_of
from normexport.norms.kind import beside, element_axes

Three = tuple[Tensor, Tensor, Tensor]


class How(NamedTuple):
    """What `live_norm` is told behind its tensors; see there."""

    kind: str
    instance: bool
    epsilon: float
    correction: float
    k: int
    chunks: int
    num_groups: int = 0

    @property
    def of_kind(self) -> NormKind:
        """What a norm of that kind is."""
        return kind_of(self.kind)

    @property
    def layout(self) -> Layout:
        """Where the elements of a statistic lie."""
        return Layout(self.instance, self.num_groups)

    @property
    def parameters(self) -> dict[str, Any]:
        """What a kind's functions take by name."""
        return {"k": self.k, "chunks": self.chunks, "correction": self.correction}


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

    def flat_rows(self, x: Tensor) -> Tensor:
        """`rows` in two axes, (R, n); a copy where channels have several samples."""
        n, c = x.shape[:2]
        values = x.to(work_dtype(x))
        if not self.is_per_sample:
            return values.transpose(0, 1).reshape(c, -1)
        return values.reshape(n * self._per_sample(c), -1)

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

    def beside_channels(self, values: Tensor, x: Tensor) -> Tensor:
        """`statistics`, as they broadcast against x: those of a group beside each of its channels."""
        n, c = x.shape[:2]
        if self.num_groups:
            values = values.unsqueeze(-1).expand(n, self.num_groups, c // self.num_groups).reshape(n, c)
        return on_axis_1(values, x)

    def _per_sample(self, channels: int) -> int:
        return self.num_groups or channels


def norm(x: Tensor, scale: Tensor, bias: Tensor, *how: Any) -> Three:
    """(y like x, mean, stat), for exporters."""
    # One row a statistic, in two axes: OpenVINO 2026.4 gets amax of three, with what follows it, wrong.
    return _norm(x, scale, bias, How(*how).layout.flat_rows(x), How(*how))


def fused_norm(x: Tensor, scale: Tensor, bias: Tensor, *how: Any) -> Three:
    """`norm` for compilers: axes stay apart, which makes loops without divisions."""
    given = How(*how)
    if given.of_kind.torch_slope is None:
        return norm(x, scale, bias, *how)
    return _norm(x, scale, bias, given.layout.rows(x), given)


def _norm(x: Tensor, scale: Tensor, bias: Tensor, rows: Tensor, how: How) -> Three:
    # y is not made of the rows' deviations: turned back they are a tensor more to inductor, written, read and copied.
    layout = how.layout
    mean, _, stat = measure(rows, how)
    mean, stat = layout.statistics(mean, x), layout.statistics(stat, x)
    # The mean leaves before anything is scaled: an offset then costs one rounding of the mean, none of y.
    centred = x.to(mean.dtype) - layout.beside_channels(mean, x)
    slope = on_axis_1(scale.to(mean.dtype), x) / layout.beside_channels(stat + how.epsilon, x)
    return (centred * slope + on_axis_1(bias.to(mean.dtype), x)).to(x.dtype), mean, stat


def measure(rows: Tensor, how: How) -> Three:
    """(mean (R,), deviations from it like `rows`, statistic (R,)) of rows (R, *elements) in working precision."""
    mean = rows.mean(element_axes(rows))
    d = rows - beside(mean, rows)
    stat: Tensor = how.of_kind.torch_statistic(d, **how.parameters)
    return mean, d, stat


def gradient(
    grad_y: Tensor,
    grad_mean: Tensor,
    grad_stat: Tensor,
    x: Tensor,
    scale: Tensor,
    mean: Tensor,
    stat: Tensor,
    *how: Any,
) -> Three:
    """(dx like x, dscale, dbias (C,) in working precision) of `norm`, whose mean and stat are given."""
    given = How(*how)
    pull = Pull.of((grad_y, grad_mean, grad_stat), x, scale, (mean, stat), given)
    slopes, total = slope(pull.d, pull.worth, given)
    dx = pull.g * pull.a + (slopes + beside(pull.shift(total), slopes))
    return given.layout.unrows(dx, x), pull.dscale, pull.dbias


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
    def of(cls, grads: Three, x: Tensor, scale: Tensor, statistics: tuple[Tensor, Tensor], how: How) -> Pull:
        layout = how.layout
        grad_y, grad_mean, grad_stat = grads
        mean, stat = statistics
        g, rows = layout.rows(grad_y.to(x.dtype)), layout.rows(x)
        d = rows - beside(mean, rows)
        inverse, weight = 1 / (stat.reshape(-1, 1) + how.epsilon), layout.of_channels(scale, x)
        products, sums = (g * d).sum((2, 3)), g.sum((2, 3))
        worth = grad_stat.reshape(-1) - ((products * weight[..., 0, 0]).sum(1) * inverse.square()[:, 0])
        owed = grad_mean.reshape(-1) - (sums * weight[..., 0, 0] * inverse).sum(1)
        vectors = layout.per_channel(products * inverse, x), layout.per_channel(sums, x)
        return cls(d, g, weight * beside(inverse, d), worth, owed, *vectors)

    def shift(self, total: Tensor) -> Tensor:
        """What every dx of a row has, (R,); `total`: the sum of its slopes, (R,)."""
        return (self.owed - total) / self.d[0].numel()


def slope(d: Tensor, worth: Tensor, how: How) -> tuple[Tensor, Tensor]:
    """worth (R,) times the derivative of the statistic for each d, like d, and its sum over each row (R,)."""
    of_kind = how.of_kind
    if of_kind.torch_slope is not None:
        both: tuple[Tensor, Tensor] = of_kind.torch_slope(d, worth, **how.parameters)
        return both
    (pulled,) = vjp(lambda rows: of_kind.torch_statistic(rows, **how.parameters), (d.flatten(1),), worth)
    return pulled.reshape(d.shape), pulled.sum(1)
