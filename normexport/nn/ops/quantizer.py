"""Fake quantisation: `normexport::uniform_quantize` on a grid of its own, `normexport::fake_quantize` on integers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from normexport.nn.ops.support import work_dtype


def _formula(x: Tensor, centre: Tensor, step: Tensor, bits: int) -> Tensor:
    half, work = 2 ** (bits - 1), work_dtype(x)
    centre, step = centre.to(work), step.to(work)
    levels = ((x.to(work) - centre) / step).round().clamp(-half, half - 1)
    return (levels * step + centre).to(x.dtype)


@torch.library.custom_op("normexport::uniform_quantize", mutates_args=())
def uniform_quantize(x: Tensor, centre: Tensor, step: Tensor, bits: int) -> Tensor:
    """`y = clamp(round((x - centre)/step), -h, h - 1)*step + centre` with h = 2^(bits-1); halves round to even.

    x of any shape and floating type; centre and step of one element; y like x. Its gradient is that of y = x.
    """
    return _formula(x, centre, step, bits)


def _integer_formula(x: Tensor, scale: Tensor, zero_point: Tensor, low: int, high: int, axis: int) -> Tensor:
    work = work_dtype(x)
    shape = [-1 if each == axis else 1 for each in range(x.dim())] if axis >= 0 else []
    scale, zero_point = scale.to(work).reshape(shape), zero_point.to(work).reshape(shape)
    levels = ((x.to(work) / scale).round() + zero_point).clamp(low, high)
    return ((levels - zero_point) * scale).to(x.dtype)


@torch.library.custom_op("normexport::fake_quantize", mutates_args=())
def fake_quantize(x: Tensor, scale: Tensor, zero_point: Tensor, low: int, high: int, axis: int) -> Tensor:
    """`y = (clamp(round(x/scale) + zero_point, low, high) - zero_point)*scale`; halves round to even.

    x of any shape and floating type; scale and zero_point () where axis is -1, else (C,) along that axis; y like x.
    Its gradient is that of y = x.
    """
    return _integer_formula(x, scale, zero_point, low, high, axis)


@uniform_quantize.register_fake
def _fake(x: Tensor, centre: Tensor, step: Tensor, bits: int) -> Tensor:
    return torch.empty_like(x)


@fake_quantize.register_fake
def _fake_of_integers(x: Tensor, scale: Tensor, zero_point: Tensor, low: int, high: int, axis: int) -> Tensor:
    return torch.empty_like(x)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
    return grad, None, None, None


def _backward_of_integers(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None, None]:
    return grad, None, None, None, None, None


uniform_quantize.register_autograd(_backward)
fake_quantize.register_autograd(_backward_of_integers)
