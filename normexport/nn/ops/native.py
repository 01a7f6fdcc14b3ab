"""`normexport::native_norm`: `live_norm` of channels by the compiled kernels, for training on the CPU.

Forward keeps mean, statistic and what tells the largest d apart (`marks`), backward reads x and the gradient of y once
for its sums and once for the gradient of x. The gradient is the closed form of `live_formula`, equals sharing alike;
its own gradient is the formula's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from normexport.nn.ops import live
from normexport.nn.ops.live_formula import Three, gradient
from normexport.nn.ops.support import vjp
from normexport.nn.ops.transpose import is_channels_last
from normexport.norms import kind as kind_of
from normexport.plugins import training_call
from normexport.plugins.kernels import TYPES, load, number_of
from normexport.plugins.kernels import NxNorm as Description

Four = tuple[Tensor, Tensor, Tensor, Tensor]


def has_channels_side_by_side(x: Tensor) -> bool:
    """Whether the channels of a sample's position lie side by side, and those of a channel do not."""
    return x.is_contiguous() if x.dim() == 2 else is_channels_last(x)


def _packed(x: Tensor, like: Tensor) -> Tensor:
    """x in the memory format of `like`."""
    if like.dim() == 2 or not has_channels_side_by_side(like):
        return x.contiguous()
    return x.contiguous(memory_format=torch.channels_last if x.dim() == 4 else torch.channels_last_3d)


def _describe(x: Tensor, kind: str, k: int, chunks: int) -> Description:
    return Description(
        kind=number_of(kind),
        type=TYPES[str(x.dtype)[6:]],
        layout=training_call.HWC if has_channels_side_by_side(x) else training_call.LINEAR,
        batch=x.shape[0],
        channels=x.shape[1],
        space=x[:1, :1].numel(),
        k=k,
        chunks=chunks,
    )


def _run(
    tensors: dict[str, Tensor | None], of: type[Any], norm: Description, epsilon: float, correction: float
) -> None:
    places = {name: each.data_ptr() for name, each in tensors.items() if each is not None and each.numel()}
    step = of(**places, epsilon=epsilon, correction=correction)
    training_call.run(load(), norm, step, torch.get_num_threads())


def _vector(values: Tensor, x: Tensor) -> Tensor:
    return values.to(x.dtype).contiguous()


def _mark_rows(kind: str, chunks: int) -> int:
    """Marks of a channel at most, of its chunks or of itself; a size that depends on no size of x."""
    return 2 * chunks if "chunks" in kind_of(kind).parameters else 1


def _forward(
    x: Tensor, scale: Tensor, bias: Tensor, kind: str, epsilon: float, correction: float, k: int, chunks: int
) -> Four:
    live._check(x, scale, bias, kind, False, epsilon, correction, k, chunks, 0)
    results: Four = _fake(x, scale, bias, kind, epsilon, correction, k, chunks)
    if x.numel() == 0:
        return results
    given = _packed(x, x)
    y = results[0] if results[0].stride() == given.stride() else torch.empty_like(given)
    tensors = {"x": given, "scale": _vector(scale, x), "bias": _vector(bias, x), "y": y}
    tensors |= dict(zip(("mean", "stat", "marks"), results[1:], strict=True))
    _run({**tensors}, training_call.NxForward, _describe(given, kind, k, chunks), epsilon, correction)
    return (y if y is results[0] else results[0].copy_(y), *results[1:])


@torch.library.custom_op("normexport::native_norm", mutates_args=())
def native_norm(
    x: Tensor, scale: Tensor, bias: Tensor, kind: str, epsilon: float, correction: float, k: int, chunks: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(y, mean, stat, marks) of `live_norm`'s statistics per channel; marks (rows, C) are for its gradient alone.

    x (N, C, *space), float32 or float64, on the CPU; scale, bias (C,). mean and stat (C,) have the type of x.
    Results are those of `live_norm` within rounding, and do not depend on the number of threads.

    Raises:
        UsageError: as `live_norm`.
        MissingComponent: the kernel library is not built, or no kernel computes that kind.
    """
    return _forward(x, scale, bias, kind, epsilon, correction, k, chunks)


@native_norm.register_fake
def _fake(
    x: Tensor, scale: Tensor, bias: Tensor, kind: str, epsilon: float, correction: float, k: int, chunks: int
) -> Four:
    mean, stat = x.new_zeros(x.shape[1:2]), x.new_zeros(x.shape[1:2])
    return torch.empty_like(x), mean, stat, x.new_empty((_mark_rows(kind, chunks), x.shape[1]))


def _gradient(
    given: tuple[Tensor, Tensor | None, Tensor | None, Tensor, Tensor, Tensor, Tensor, Tensor],
    kind: str,
    epsilon: float,
    correction: float,
    k: int,
    chunks: int,
) -> Three:
    """What `native_norm_backward` gives; gradients of mean and stat that are None are 0."""
    grad_y, grad_mean, grad_stat, x, scale, mean, stat, marks = given
    results = torch.empty_like(x), x.new_empty(x.shape[1:2]), x.new_empty(x.shape[1:2])
    if x.numel() == 0:
        return results[0], results[1].zero_(), results[2].zero_()
    packed, g = _packed(x, x), _packed(grad_y.to(x.dtype), x)
    dx = results[0] if results[0].stride() == packed.stride() else torch.empty_like(packed)
    vectors = {"grad_mean": grad_mean, "grad_stat": grad_stat, "scale": scale, "mean": mean, "stat": stat}
    tensors = {name: _vector(each, x) for name, each in vectors.items() if each is not None}
    tensors |= {"x": packed, "grad_y": g, "marks": marks.contiguous(), "grad_x": dx}
    tensors |= {"grad_scale": results[1], "grad_bias": results[2]}
    _run({**tensors}, training_call.NxBackward, _describe(packed, kind, k, chunks), epsilon, correction)
    return (dx if dx is results[0] else results[0].copy_(dx), *results[1:])


@torch.library.custom_op("normexport::native_norm_backward", mutates_args=())
def native_norm_backward(
    grad_y: Tensor,
    grad_mean: Tensor,
    grad_stat: Tensor,
    x: Tensor,
    scale: Tensor,
    mean: Tensor,
    stat: Tensor,
    marks: Tensor,
    kind: str,
    epsilon: float,
    correction: float,
    k: int,
    chunks: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `native_norm` for x, scale and bias, from what it gave. Itself differentiable."""
    given = grad_y, grad_mean, grad_stat, x, scale, mean, stat, marks
    return _gradient(given, kind, epsilon, correction, k, chunks)


@native_norm_backward.register_fake
def _backward_fake(grad_y: Tensor, grad_mean: Tensor, grad_stat: Tensor, x: Tensor, *rest: Any) -> Three:
    return torch.empty_like(x), x.new_empty(x.shape[1:2]), x.new_empty(x.shape[1:2])


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Four) -> None:
    x, scale, bias, *ctx.how = inputs
    ctx.bias_dtype = bias.dtype
    ctx.mark_non_differentiable(output[3])
    ctx.save_for_backward(x, scale, *output[1:])


def _backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
    x, scale, *kept = ctx.saved_tensors
    dx, dscale, dbias = native_norm_backward(*grads[:3], x, scale, *kept, *ctx.how)
    return (dx, dscale.to(scale.dtype), dbias.to(ctx.bias_dtype), *[None] * len(ctx.how))


def _backward_setup(ctx: Any, inputs: tuple[Any, ...], output: Three) -> None:
    ctx.save_for_backward(*inputs[:7])
    ctx.how = inputs[8:]


def _backward_backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
    kind, *numbers = ctx.how
    how: tuple[Any, ...] = (kind, False, *numbers)
    inner = vjp(lambda *tensors: gradient(*tensors, *how), ctx.saved_tensors, grads)
    return (*inner, None, *[None] * len(ctx.how))


native_norm.register_autograd(_backward, setup_context=_setup)
native_norm_backward.register_autograd(_backward_backward, setup_context=_backward_setup)


class EagerNorm(torch.autograd.Function):
    """`native_norm` where nothing compiles or traces: an operator written in Python costs 0.1 ms more a call."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, bias: Tensor, *how: Any) -> Four:
        results = _forward(x, scale, bias, *how)
        ctx.set_materialize_grads(False)
        _setup(ctx, (x, scale, bias, *how), results)
        return results

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        x, scale, mean, stat, marks = ctx.saved_tensors
        grad_y, grad_mean, grad_stat, _ = grads
        grad_y = torch.zeros_like(x) if grad_y is None else grad_y
        if torch.is_grad_enabled():  # its own gradient may be asked for
            zero = torch.zeros_like(mean)
            of_statistics = (zero if each is None else each for each in (grad_mean, grad_stat))
            return _backward(ctx, grad_y, *of_statistics)
        given = grad_y, grad_mean, grad_stat, x, scale, mean, stat, marks
        dx, dscale, dbias = _gradient(given, *ctx.how)
        return (dx, dscale.to(scale.dtype), dbias.to(ctx.bias_dtype), *[None] * len(ctx.how))
