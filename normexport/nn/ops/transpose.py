"""Tensors whose channels lie side by side (channels_last), and their copies with channels apart from each other."""

from __future__ import annotations

import torch
from torch import Tensor

#: From so many elements of a sample on, and of its channels, it pays to transpose samples one by one.
_LARGE = 60 * 60


def is_channels_last(x: Tensor) -> bool:
    """Whether the channels of a sample's position lie side by side, and those of a channel do not."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return x.dim() in formats and not x.is_contiguous() and x.is_contiguous(memory_format=formats[x.dim()])


def copy_transposed(to: Tensor, x: Tensor) -> Tensor:
    """Copy x (N, C, *space) into `to`, where one of the two is channels_last and the other contiguous; `to`.

    PyTorch copies a matrix into its transpose by blocks that stay in the cache, a tensor of more axes element by
    element: several times slower. It does so on one thread.
    """
    if torch.get_num_threads() > 1 or x.device.type != "cpu" or x.dtype != to.dtype or x[:1].numel() < _LARGE:
        return to.copy_(x)
    for one, other in zip(to, x, strict=True):
        one, other = one.flatten(1), other.flatten(1)
        if one.is_contiguous():
            one.copy_(other)
        else:
            one.t().copy_(other.t())
    return to
