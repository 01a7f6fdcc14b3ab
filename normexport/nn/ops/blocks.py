"""A live norm of a large tensor, some statistics at a time, so that what lies between input and result stays cached.

Each statistic is its own, so that a norm of some channels, or of some samples, is a live norm. On a CPU one operator
after the other on a whole tensor reads and writes memory as often as there are operators: forward and backward of an
L1 batch norm took five times as long as torch.nn.BatchNorm2d, and held eight tensors like x at its peak.

Where channels lie side by side, every block of some of them would read all of x: forward and backward took up to 29
times as long as torch.nn.BatchNorm2d. There x is transposed first, and the result back.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from normexport.nn.ops.eager import gradient_into, norm_into
from normexport.nn.ops.live_formula import How, Layout, Three
from normexport.nn.ops.transpose import copy_transposed, is_channels_last

#: Elements of a block for each thread: 1 MB of float32, about the second level's cache of a core. Measured on one
#: thread, 2^17 took 4 to 12 % longer and 2^19 as long, or 8 % longer where a channel is small.
BLOCK_ELEMENTS = 1 << 18


def norm_by_blocks(x: Tensor, scale: Tensor, bias: Tensor, *how: Any) -> Three:
    """What `live_formula.norm` gives, in the memory format that the operator's fake promises."""
    layout = How(*how).layout
    y = torch.empty_like(x)
    given, result = _apart(x, layout), _room(y, layout)
    parts = []
    for block in _blocks(x, layout):
        vectors = _channels(scale, layout, block), _channels(bias, layout, block)
        parts.append(norm_into(_part(result, layout, block), _part(given, layout, block), *vectors, *how))
    mean, stat = (torch.cat(each) if len(parts) > 1 else each[0] for each in zip(*parts, strict=True))
    return _together(y, result), mean, stat


def gradient_by_blocks(grads: Three, x: Tensor, scale: Tensor, statistics: tuple[Tensor, Tensor], *how: Any) -> Three:
    """What `live_formula.gradient` gives."""
    layout = How(*how).layout
    dx = torch.empty_like(x)
    given, g, result = _apart(x, layout), _apart(grads[0], layout), _room(dx, layout)
    sums = []
    for block in _blocks(x, layout):
        grad_mean, grad_stat, mean, stat = (each[block] for each in (*grads[1:], *statistics))
        of_block = (_part(g, layout, block), grad_mean, grad_stat), _part(given, layout, block)
        weight = _channels(scale, layout, block)
        sums.append(gradient_into(_part(result, layout, block), *of_block, weight, (mean, stat), *how))
    # Channels of different blocks follow each other; samples of different blocks share their channels.
    dscale, dbias = (
        torch.stack(each).sum(0) if layout.is_per_sample else torch.cat(each) for each in zip(*sums, strict=True)
    )
    return _together(dx, result), dscale, dbias


def _apart(x: Tensor, layout: Layout) -> Tensor:
    """x with each channel in one piece of a sample's memory, as blocks of channels read it."""
    if layout.is_per_sample or not is_channels_last(x):
        return x
    return copy_transposed(torch.empty_like(x, memory_format=torch.contiguous_format), x)


def _room(y: Tensor, layout: Layout) -> Tensor:
    """Where blocks write what becomes y."""
    if layout.is_per_sample or not is_channels_last(y):
        return y
    return torch.empty_like(y, memory_format=torch.contiguous_format)


def _together(y: Tensor, result: Tensor) -> Tensor:
    return y if result is y else copy_transposed(y, result)


def _blocks(x: Tensor, layout: Layout) -> Iterator[slice]:
    """Of the samples or of the channels."""
    count = x.shape[0 if layout.is_per_sample else 1]
    threads = torch.get_num_threads() if x.device.type == "cpu" else 1
    elements = BLOCK_ELEMENTS * threads if x.device.type == "cpu" else x.numel()
    step = max(1, elements * count // x.numel())
    if step > threads:  # they share a sum's channels: of five, one of two threads would have three, the other wait
        step = (step + threads // 2) // threads * threads
    for start in range(0, count, step):
        yield slice(start, min(count, start + step))


def _part(x: Tensor, layout: Layout, block: slice) -> Tensor:
    return x[block] if layout.is_per_sample else x[:, block]


def _channels(vector: Tensor, layout: Layout, block: slice) -> Tensor:
    return vector if layout.is_per_sample else vector[block]
