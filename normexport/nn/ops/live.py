"""`normexport::live_norm`: a norm with the statistics of the tensor at hand, and its gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from normexport.errors import UsageError
from normexport.nn.ops.blocks import gradient_by_blocks, norm_by_blocks
from normexport.nn.ops.live_formula import Three, gradient
from normexport.nn.ops.support import check_channels, vjp, work_dtype
from normexport.norms import kind as kind_of
from normexport.norms import require_groups


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
    return norm_by_blocks(x, scale, bias, kind, instance, epsilon, correction, k, chunks, num_groups)


@live_norm.register_fake
def _fake(x: Tensor, scale: Tensor, bias: Tensor, kind: str, instance: bool, *how: Any) -> Three:
    _check(x, scale, bias, kind, instance, *how)
    return torch.empty_like(x), *_empty_statistics(x, instance, (*how, 0)[4])


# An operator of its own, so that an exporter which keeps `live_norm` sees one node for its gradient too.
@torch.library.custom_op("normexport::live_norm_backward", mutates_args=())
def live_norm_backward(
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
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `live_norm` for x, scale and bias; mean and stat are what it gave. Itself differentiable.

    The first is like x, the others are (C,) in the precision of the statistics.
    """
    if x.numel() == 0:
        nothing = x.new_zeros(scale.shape, dtype=work_dtype(x))
        return torch.empty_like(x), nothing, nothing.clone()
    how = (kind, instance, epsilon, correction, k, chunks, num_groups)
    return gradient_by_blocks((grad_y, grad_mean, grad_stat), x, scale, (mean, stat), *how)


@live_norm_backward.register_fake
def _backward_fake(grad_y: Tensor, grad_mean: Tensor, grad_stat: Tensor, x: Tensor, scale: Tensor, *rest: Any) -> Three:
    vectors = (x.new_empty(scale.shape, dtype=work_dtype(x)) for _ in range(2))
    dx, (dscale, dbias) = torch.empty_like(x), vectors
    return dx, dscale, dbias


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Three) -> None:
    x, scale, bias, *ctx.how = inputs
    ctx.bias_dtype = bias.dtype
    ctx.save_for_backward(x, scale, *output[1:])


def _backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
    x, scale, mean, stat = ctx.saved_tensors
    dx, dscale, dbias = live_norm_backward(*grads, x, scale, mean, stat, *ctx.how)
    return (dx, dscale.to(scale.dtype), dbias.to(ctx.bias_dtype), *[None] * len(ctx.how))


def _backward_setup(ctx: Any, inputs: tuple[Any, ...], output: Three) -> None:
    ctx.save_for_backward(*inputs[:7])
    ctx.how = inputs[7:]


def _backward_backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
    inner = vjp(lambda *tensors: gradient(*tensors, *ctx.how), ctx.saved_tensors, grads)
    return (*inner, *[None] * len(ctx.how))


live_norm.register_autograd(_backward, setup_context=_setup)
live_norm_backward.register_autograd(_backward_backward, setup_context=_backward_setup)
