"""`normexport::running_norm`: a norm with running statistics, an affine map per channel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from normexport.nn.ops.support import check_channels, on_axis_1, pullback, work_dtype
from normexport.norms import running_kind


def _formula(x: Tensor, mean: Tensor, inv_scale: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    work = work_dtype(x)
    a = inv_scale.to(work) * scale.to(work)
    y = (x.to(work) - on_axis_1(mean.to(work), x)) * on_axis_1(a, x) + on_axis_1(bias.to(work), x)
    return y.to(x.dtype)


def _check(x: Tensor, mean: Tensor, inv_scale: Tensor, scale: Tensor, bias: Tensor, kind: str) -> None:
    running_kind(kind)
    check_channels("running_norm", x, mean=mean, inv_scale=inv_scale, scale=scale, bias=bias)


@torch.library.custom_op("normexport::running_norm", mutates_args=())
def running_norm(x: Tensor, mean: Tensor, inv_scale: Tensor, scale: Tensor, bias: Tensor, kind: str) -> Tensor:
    """`y = (x - mean) * inv_scale * scale + bias` on axis 1; differentiable in every tensor.

    x (N, C, *space) of any floating type; mean, inv_scale, scale, bias (C,); y like x. `kind` ("l1") says
    which statistic was running; the arithmetic does not depend on it.

    Raises:
        UsageError: unknown kind, x not floating or without axis 1, or a vector that is not (C,).
    """
    _check(x, mean, inv_scale, scale, bias, kind)
    return _formula(x, mean, inv_scale, scale, bias)


@running_norm.register_fake
def _fake(x: Tensor, mean: Tensor, inv_scale: Tensor, scale: Tensor, bias: Tensor, kind: str) -> Tensor:
    _check(x, mean, inv_scale, scale, bias, kind)
    return torch.empty_like(x)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:5])


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return (*pullback(_formula, ctx.saved_tensors, ctx.needs_input_grad, grad), None)


running_norm.register_autograd(_backward, setup_context=_setup)
