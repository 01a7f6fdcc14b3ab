"""A live norm of a large tensor, some statistics at a time, so that what lies between input and result stays cached.

Each statistic is its own, so that a norm of some channels, or of some samples, is a live norm. On a CPU one operator
after the other on a whole tensor reads and writes memory as often as there are operators: forward and backward of an
L1 batch norm took five times as long as torch.nn.BatchNorm2d, and held eight tensors like x at its peak.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from normexport.nn.ops.live_formula import Layout, Three, fused_norm, gradient

#: Elements of a block for each thread: 1 MB of float32, about the second level's cache of a core. Measured on one
#: thread, 2^17 took 4 to 12 % longer and 2^19 as long, or 8 % longer where a channel is small.
BLOCK_ELEMENTS = 1 << 18


def norm_by_blocks(x: Tensor, scale: Tensor, bias: Tensor, *how: Any) -> Three:
    """What `live_formula.fused_norm` gives."""
    layout = _layout(*how)
    blocks = list(_blocks(x, layout))
    if len(blocks) == 1:
        y, mean, stat = fused_norm(x, scale, bias, *how)
        return _laid_out_as(x, y), mean, stat
    parts = []
    y = torch.empty_like(x)
    for block in blocks:
        vectors = _channels(scale, layout, block), _channels(bias, layout, block)
        part, *statistics = fused_norm(_part(x, layout, block), *vectors, *how)
        _part(y, layout, block).copy_(part)
        parts.append(statistics)
    mean, stat = (torch.cat(each) for each in zip(*parts, strict=True))
    return y, mean, stat


def gradient_by_blocks(grads: Three, x: Tensor, scale: Tensor, statistics: tuple[Tensor, Tensor], *how: Any) -> Three:
    """What `live_formula.gradient` gives."""
    layout = _layout(*how)
    blocks = list(_blocks(x, layout))
    if len(blocks) == 1:
        dx, dscale, dbias = gradient(*grads, x, scale, *statistics, *how)
        return _laid_out_as(x, dx), dscale, dbias
    dx = torch.empty_like(x)
    sums = []
    for block in blocks:
        grad_mean, grad_stat, mean, stat = (each[block] for each in (*grads[1:], *statistics))
        given = (_part(grads[0], layout, block), grad_mean, grad_stat, _part(x, layout, block))
        part, *vectors = gradient(*given, _channels(scale, layout, block), mean, stat, *how)
        _part(dx, layout, block).copy_(part)
        sums.append(vectors)
    # Channels of different blocks follow each other; samples of different blocks share their channels.
    dscale, dbias = (
        torch.stack(each).sum(0) if layout.is_per_sample else torch.cat(each) for each in zip(*sums, strict=True)
    )
    return dx, dscale, dbias


def _laid_out_as(x: Tensor, values: Tensor) -> Tensor:
    """values (fresh, shaped as x) in the memory format that the operators' fakes promise."""
    promised = torch.empty_like(x)
    return values if values.stride() == promised.stride() else promised.copy_(values)


def _layout(kind: str, instance: bool, epsilon: float, correction: float, k: int, chunks: int, groups: int) -> Layout:
    return Layout(instance, groups)


def _blocks(x: Tensor, layout: Layout) -> Iterator[slice]:
    """Of the samples or of the channels."""
    count = x.shape[0 if layout.is_per_sample else 1]
    elements = BLOCK_ELEMENTS * torch.get_num_threads() if x.device.type == "cpu" else x.numel()
    step = max(1, elements * count // x.numel())
    for start in range(0, count, step):
        yield slice(start, min(count, start + step))


def _part(x: Tensor, layout: Layout, block: slice) -> Tensor:
    return x[block] if layout.is_per_sample else x[:, block]


def _channels(vector: Tensor, layout: Layout, block: slice) -> Tensor:
    return vector if layout.is_per_sample else vector[block]
