"""The weight of a layer as vectors, of which a norm keeps nothing but the direction.

A batch or instance norm divides every output channel by a statistic of that channel alone, so every channel's weights
are a vector. A group norm divides a group of channels by one statistic, a layer norm all of them: there, the weights
of a group or of the whole layer are one vector.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

#: Layers that are linear in a weight with an axis of output channels, by the number of their spatial axes.
CONVOLUTIONS: dict[type[nn.Module], int] = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}
TRANSPOSED: dict[type[nn.Module], int] = {nn.ConvTranspose1d: 1, nn.ConvTranspose2d: 2, nn.ConvTranspose3d: 3}
LINEAR_LAYERS: tuple[type[nn.Module], ...] = (*CONVOLUTIONS, *TRANSPOSED, nn.Linear)


def output_channels(layer: nn.Module) -> int:
    """How many output channels a layer has."""
    any_layer: Any = layer
    return int(any_layer.out_features if isinstance(layer, nn.Linear) else any_layer.out_channels)


def vector_norms(layer: nn.Module, vectors: int) -> Tensor:
    """(vectors,) float64: the L2 norm of each vector of the layer's weight."""
    rows = _rows(_weight(layer).detach(), layer, vectors)
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
    return norms


def spread(factors: Tensor, layer: nn.Module) -> Tensor:
    """factors (vectors,), one for each vector, in a shape that broadcasts against the layer's weight."""
    weight, channels = _weight(layer), output_channels(layer)
    each = factors.repeat_interleave(channels // factors.numel())
    ones = [1] * (weight.dim() - 2)
    groups, outputs = _groups(layer), weight.shape[1]
    if not groups:
        return each.reshape(-1, 1, *ones)
    rows = each.reshape(groups, 1, outputs).expand(groups, weight.shape[0] // groups, outputs)
    return rows.reshape(weight.shape[0], outputs, *ones)


def _rows(values: Tensor, layer: nn.Module, vectors: int) -> Tensor:
    """A tensor like the layer's weight as (vectors, elements of each)."""
    groups = _groups(layer)
    if groups:  # (I, O/groups, ...): the output channels are group-major
        inputs, outputs = values.shape[0] // groups, values.shape[1]
        values = values.reshape(groups, inputs, outputs, -1).transpose(1, 2)
    return values.reshape(vectors, -1)


def _weight(layer: nn.Module) -> Tensor:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight


def _groups(layer: Any) -> int:
    """Of a transposed convolution, which has its output channels on axis 1 of the weight; 0 of others."""
    transposed = isinstance(layer, tuple(TRANSPOSED))
    return int(layer.groups) if transposed else 0
