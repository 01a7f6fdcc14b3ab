"""`normexport::bounded_weight_norm`: a weight whose slices have a fixed norm; see `normexport.norms.weight`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from normexport.errors import UsageError
from normexport.nn.ops.support import pullback, work_dtype
from normexport.norms.weight import reduced_axes


def slice_norms(v: Tensor, axis: int, p: float) -> Tensor:
    """||v||_p of each slice along `axis` (shape 1 on every other axis), or of all of v where axis is -1."""
    axes = reduced_axes(v.dim(), axis)
    if not axes:  # v is (O,): each slice is one element; torch would take no axes for all axes
        return v.abs()
    norms: Tensor = torch.linalg.vector_norm(v, float(p), dim=axes, keepdim=True)
    return norms


def _formula(v: Tensor, rho: Tensor, axis: int, p: float) -> Tensor:
    values = v.to(work_dtype(v))
    # rho / ||v|| first: where rho is ||v|| itself the factor is exactly 1 and w is v to the bit.
    return (values * (rho.to(values.dtype) / slice_norms(values, axis, p))).to(v.dtype)


def _check(v: Tensor, rho: Tensor, axis: int, p: float) -> None:
    if not v.is_floating_point():
        raise UsageError("bounded_weight_norm", f"v is {v.dtype}", "pass a floating-point tensor")
    if not -1 <= axis < v.dim():
        raise UsageError("bounded_weight_norm", f"v has no axis {axis}", f"choose -1 (all) to {v.dim() - 1}")
    if not p > 0:
        raise UsageError("bounded_weight_norm", f"p = {p} is not a norm", "choose p > 0, infinity included")
    if rho.dim() > v.dim() or any(
        r != 1 and r != s for r, s in zip(reversed(rho.shape), reversed(v.shape), strict=False)
    ):
        raise UsageError(
            "bounded_weight_norm",
            f"rho of shape {tuple(rho.shape)} does not broadcast to v of shape {tuple(v.shape)}",
            "pass rho of shape (), (1,) or with the slices on their axis, as (O, 1, 1, 1)",
        )


@torch.library.custom_op("normexport::bounded_weight_norm", mutates_args=())
def bounded_weight_norm(v: Tensor, rho: Tensor, axis: int, p: float) -> Tensor:
    """`w = rho * v / ||v||_p`, the norm over all axes but `axis`, over all of them where axis is -1.

    v of any floating shape; rho (), (1,) or broadcastable to v; w like v; differentiable in both. p > 0,
    infinity included. A slice that is all zero has no direction and gives NaN.

    Raises:
        UsageError: v not floating, no such axis, p not positive, or rho does not broadcast.
    """
    _check(v, rho, axis, p)
    return _formula(v, rho, axis, p)


@bounded_weight_norm.register_fake
def _fake(v: Tensor, rho: Tensor, axis: int, p: float) -> Tensor:
    _check(v, rho, axis, p)
    return torch.empty_like(v)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    v, rho, ctx.axis, ctx.p = inputs
    ctx.save_for_backward(v, rho)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    def formula(v: Tensor, rho: Tensor) -> Tensor:
        return _formula(v, rho, ctx.axis, ctx.p)

    return (*pullback(formula, ctx.saved_tensors, ctx.needs_input_grad, grad), None, None)


bounded_weight_norm.register_autograd(_backward, setup_context=_setup)
