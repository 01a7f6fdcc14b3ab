"""Tensors in the memory layouts that the CUDA kernels take, the address formula of kernels.h as torch operations."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from normexport.plugins import cuda

LAYOUTS = tuple(cuda.LAYOUTS)


def lanes(layout: str, channels: int) -> int:
    """Channels side by side in memory.

    Raises:
        ValueError: they do not divide the channels; a benchmark needs no padding.
    """
    side = {"LINEAR": 1, "CHW2": 2, "CHW4": 4, "CHW32": 32}.get(layout, channels)
    step = {"HWC8": 8, "HWC16": 16}.get(layout, side)
    if channels % step:
        raise ValueError(f"{layout}: {channels} channels are no multiple of {step}")
    return side


def packed(x: Tensor, layout: str) -> Tensor:
    """x (N, C, ...) as it lies in memory, (N, C/v, space, v), contiguous."""
    v = lanes(layout, x.shape[1])
    return x.flatten(2).unflatten(1, (-1, v)).transpose(2, 3).contiguous()


def unpacked(x: Tensor, shape: Sequence[int]) -> Tensor:
    """What `packed` made of a tensor of `shape`."""
    return x.transpose(2, 3).flatten(1, 2).reshape(tuple(shape))
