"""What may stand between a layer and its norm: what it does to a scale and to a bias of its input.

An operation f *keeps scale* where f(a*x) = a*f(x) for a > 0 and it mixes no channels: a norm behind it still divides
by a. It *keeps shift* where f(x + b) = f(x) + b too, for a b per channel: the norm's own mean still takes a bias off.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from normexport.train.vectors import CONVOLUTIONS, TRANSPOSED

_MAX_POOLS = (
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.MaxPool3d,
    nn.AdaptiveMaxPool1d,
    nn.AdaptiveMaxPool2d,
    nn.AdaptiveMaxPool3d,
)
_KEEP_SHIFT: tuple[type[nn.Module], ...] = (nn.Identity, *_MAX_POOLS)
_KEEP_SCALE: tuple[type[nn.Module], ...] = (
    *_KEEP_SHIFT,
    *(nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.RReLU),
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d),
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d),
    *(nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d),
    nn.Upsample,
)
_FUNCTIONS: Mapping[Any, bool] = {
    **dict.fromkeys((functional.max_pool1d, functional.max_pool2d, functional.max_pool3d), True),
    **dict.fromkeys((torch.clone, torch.relu, torch.relu_, functional.relu, functional.relu_), False),
    **dict.fromkeys((functional.leaky_relu, functional.leaky_relu_, functional.dropout, functional.dropout2d), False),
    **dict.fromkeys((functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d), False),
    **dict.fromkeys((functional.adaptive_avg_pool2d, functional.adaptive_max_pool2d, functional.interpolate), False),
    **dict.fromkeys((operator.neg, torch.neg, torch.abs), False),
}
#: A number times x keeps scale; x plus a number does not.
_BY_A_NUMBER = (operator.mul, operator.truediv, operator.imul, operator.itruediv, torch.mul, torch.div)
_METHODS: Mapping[str, bool] = {
    **dict.fromkeys(("contiguous", "clone", "float", "double"), True),
    **dict.fromkeys(("relu", "relu_", "abs", "neg", "mul", "mul_", "div", "div_"), False),
}


def keeps(node: fx.Node, source: fx.Node, module: nn.Module | None) -> tuple[bool, bool]:
    """Whether what `node` computes of `source` keeps (scale, shift)."""
    if module is not None:
        return isinstance(module, _KEEP_SCALE), isinstance(module, _KEEP_SHIFT)
    if node.args[:1] != (source,) and not (node.target is operator.mul and source in node.args):
        return False, False
    others = [each for each in node.all_input_nodes if each is not source]
    if others or node.args.count(source) > 1:
        return False, False
    target: Callable[..., Any] | str = node.target
    if target in _BY_A_NUMBER:
        # A divisor: 2 / x keeps nothing. A mode of rounding is no number either.
        return len(node.args) == 2 and not node.kwargs, False
    table: Mapping[Any, bool] = _METHODS if node.op == "call_method" else _FUNCTIONS
    if target in table:
        return _is_plain(node), table[target]
    return False, False


def _is_plain(node: fx.Node) -> bool:
    """Whether no argument changes what it is: `div` by a rounding mode, `max_pool2d` that gives places too."""
    return "rounding_mode" not in node.kwargs and not node.kwargs.get("return_indices", False)


def spatial_axes(layer: nn.Module) -> int | None:
    """Of a convolution; None of a Linear, which takes any."""
    return next((n for cls, n in (CONVOLUTIONS | TRANSPOSED).items() if isinstance(layer, cls)), None)
