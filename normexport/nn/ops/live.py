"""`normexport::live_norm`: a norm with the statistics of the tensor at hand, and its gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from normexport.errors import UsageError
from normexport.nn.ops.support import check_channels, on_axis_1, vjp, work_dtype
from normexport.norms import kind as kind_of
from normexport.norms import require_groups

_Three = tuple[Tensor, Tensor, Tensor]


def _formula(
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
) -> _Three:
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


def _check(x: Tensor, scale: Tensor, bias: Tensor, kind: str, instance: bool, *how: Any) -> None:
    k, chunks, num_groups = (*how, 0)[2:5]
    parameters = kind_of(kind).parameters
    check_channels("live_norm", x, scale=scale, bias=bias)
    if num_groups:
        require_groups(x.shape[1], num_groups)
    if num_groups and instance:
        raise UsageError("live_norm", f"num_groups = {num_groups} of an instance norm", "ask for one of the two")
    if "chunks" in parameters and chunks < 1:
        raise UsageError("live_norm", f"chunks = {chunks}", "choose at least 1 chunk")
    if "k" in parameters:
        _check_k(k, x, instance, num_groups)


def _check_k(k: int, x: Tensor, instance: bool, num_groups: int) -> None:
    n: Any = x.shape[1] // num_groups if num_groups else 1 if instance else x.shape[0]
    for size in x.shape[2:]:
        n = n * size
    # A symbolic size is left to the run: comparing it here would write k <= n into an exported program.
    if k < 1 or (isinstance(n, int) and x.numel() > 0 and n < k):
        raise UsageError(
            "live_norm",
            f"Top-k asks for the {k} largest of the {n} elements that each statistic reduces",
            "choose 1 <= k <= elements, or a larger batch or input",
        )


def _empty_statistics(x: Tensor, instance: bool, num_groups: int) -> tuple[Tensor, Tensor]:
    shape = (x.shape[0], num_groups) if num_groups else x.shape[:2] if instance else x.shape[1:2]
    return x.new_zeros(shape, dtype=work_dtype(x)), x.new_zeros(shape, dtype=work_dtype(x))


@torch.library.custom_op("normexport::live_norm", mutates_args=())
def live_norm(
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
) -> tuple[Tensor, Tensor, Tensor]:
    """`y = scale * d / (stat + epsilon) + bias` with `d = x - mean` and the statistics of x: (y, mean, stat).

    x (N, C, *space) of any floating type; scale, bias (C,). mean and stat reduce N and space and are (C,), or
    reduce space alone where `instance` and are (N, C), or are those of each sample's `num_groups` groups of channels
    and are (N, num_groups) where that is not 0; they are float32 (float64 for float64 x), y is like x.
    `correction` 0.0 is the kind's own constant, any other value replaces it; `k` and `chunks` matter to
    the kinds that have such a parameter. All three results are differentiable, twice.

    n = 1 and a constant channel give bias; a NaN makes its channel NaN; an empty x gives an empty y, with mean
    and stat 0.

    Raises:
        UsageError: unknown kind, x not floating, scale or bias not (C,), k > n, chunks < 1, a num_groups that
            does not divide C.
    """
    _check(x, scale, bias, kind, instance, epsilon, correction, k, chunks, num_groups)
    if x.numel() == 0:
        return torch.empty_like(x), *_empty_statistics(x, instance, num_groups)
    return _formula(x, scale, bias, kind, instance, epsilon, correction, k, chunks, num_groups)


@live_norm.register_fake
def _fake(x: Tensor, scale: Tensor, bias: Tensor, kind: str, instance: bool, *how: Any) -> _Three:
    _check(x, scale, bias, kind, instance, *how)
    return torch.empty_like(x), *_empty_statistics(x, instance, (*how, 0)[4])


def _pullback(
    grad_y: Tensor, grad_mean: Tensor, grad_stat: Tensor, x: Tensor, scale: Tensor, bias: Tensor, *how: Any
) -> _Three:
    cotangents = (grad_y, grad_mean, grad_stat)
    dx, dscale, dbias = vjp(lambda *tensors: _formula(*tensors, *how), (x, scale, bias), cotangents)
    return dx, dscale, dbias


# An operator of its own, so that torch.compile sees one node with symbolic sizes: traced, the formulas' log n
# and chunk lengths would fix n, and every new batch size would compile again.
@torch.library.custom_op("normexport::live_norm_backward", mutates_args=())
def live_norm_backward(
    grad_y: Tensor,
    grad_mean: Tensor,
    grad_stat: Tensor,
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
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `live_norm` for x, scale and bias, each like its tensor; itself differentiable."""
    like = (x, scale, bias)
    if x.numel() == 0:
        return torch.empty_like(x), torch.zeros_like(scale), torch.zeros_like(bias)
    how = (kind, instance, epsilon, correction, k, chunks, num_groups)
    grads = _pullback(grad_y, grad_mean, grad_stat, *like, *how)
    # A gradient may be expanded or share memory with another; an operator's results may not.
    dx, dscale, dbias = (torch.empty_like(t).copy_(g) for t, g in zip(like, grads, strict=True))
    return dx, dscale, dbias


@live_norm_backward.register_fake
def _backward_fake(grad_y: Tensor, grad_mean: Tensor, grad_stat: Tensor, *rest: Any) -> _Three:
    x, scale, bias = rest[:3]
    return torch.empty_like(x), torch.empty_like(scale), torch.empty_like(bias)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: _Three) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.how = inputs[3:]


def _backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
    return (*live_norm_backward(*grads, *ctx.saved_tensors, *ctx.how), *[None] * len(ctx.how))


def _backward_setup(ctx: Any, inputs: tuple[Any, ...], output: _Three) -> None:
    ctx.save_for_backward(*inputs[:6])
    ctx.how = inputs[6:]


def _backward_backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
    inner = vjp(lambda *tensors: _pullback(*tensors, *ctx.how), ctx.saved_tensors, grads)
    return (*inner, *[None] * len(ctx.how))


live_norm.register_autograd(_backward, setup_context=_setup)
live_norm_backward.register_autograd(_backward_backward, setup_context=_backward_setup)
