"""Into how many vectors a norm cuts the channels of the layer before it, and whether it takes a bias off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from normexport.nn import Norm
from normexport.nn.group import LayerNorm
from normexport.norms import Scope


@dataclass(frozen=True)
class Division:
    """What a norm does to the output of a layer.

    Attributes:
        vectors: how many groups of channels that follow each other have a statistic each.
        axis: of the channels: 1, or -1 where the norm takes the last axes.
        takes_bias_off: a constant per channel leaves with the mean.
    """

    vectors: int
    axis: int
    takes_bias_off: bool


def is_norm(module: nn.Module, channel_norms: tuple[type[nn.Module], ...] = ()) -> bool:
    """Whether a module divides by statistics of its input, at least while it trains."""
    ours = (Norm, _BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
    return isinstance(module, channel_norms) or (isinstance(module, ours) and has_library_forward(module))


def has_library_forward(module: nn.Module) -> bool:
    """Whether a class computes what the class of PyTorch or of this library does that it is, or inherits."""
    home: str = type(module).forward.__module__
    return home.startswith(("torch.nn.", "normexport.nn."))


def divide(module: nn.Module, channels: int, model_trains: bool) -> Division | str:
    """What the norm does to `channels` channels in training; in words, why their scale does not leave."""
    norm: Any = module
    if model_trains and not norm.training and getattr(norm, "running_mean", None) is not None:
        return "is in evaluation and divides by its running statistics"
    if isinstance(module, (nn.LayerNorm, nn.RMSNorm, LayerNorm)):
        if tuple(norm.normalized_shape) != (channels,):
            return f"takes its statistics over {tuple(norm.normalized_shape)}, not over the {channels} channels"
        return Division(1, -1, takes_bias_off=False)
    if isinstance(module, nn.GroupNorm) or (isinstance(module, Norm) and module.scope is Scope.GROUP):
        groups = int(norm.num_groups)
        return Division(groups, 1, takes_bias_off=groups == channels)
    own = getattr(norm, "num_features", channels)
    if own != channels:
        return f"has {own} channels where the layer has {channels}"
    return Division(channels, 1, takes_bias_off=True)
