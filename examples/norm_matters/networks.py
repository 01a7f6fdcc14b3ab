"""The network of all figures, and what can stand behind or upon its convolutions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn
from torch.nn.utils import parametrizations

from normexport import nn as nxn

MakeNorm = Callable[[int], nn.Module]
#: Of each convolution: outputs, kernel size, stride. The image is 14x14 after the first, 7x7 after the third.
LAYERS = ((16, 5, 2), (16, 3, 1), (32, 3, 2), (32, 3, 1), (32, 3, 1))
DIGITS = 10


@dataclass(frozen=True)
class Variant:
    """What normalises a network.

    Attributes:
        norm: makes the norm behind a convolution of that many channels; None for none.
        weights: is called with every convolution, to normalise its weight.
    """

    norm: MakeNorm | None
    weights: Callable[[nn.Module], object] | None = None


VARIANTS: Mapping[str, Variant] = {
    "L2": Variant(nn.BatchNorm2d),
    "L1": Variant(nxn.L1BatchNorm2d),
    "L-infinity": Variant(nxn.LinfBatchNorm2d),
    "Top-10": Variant(nxn.TopKBatchNorm2d),
    "Range": Variant(nxn.RangeBatchNorm2d),
    "L2 and bounded weight norm": Variant(nn.BatchNorm2d, nxn.bounded_weight_norm),
    "bounded weight norm": Variant(None, nxn.bounded_weight_norm),
    "weight norm": Variant(None, parametrizations.weight_norm),
    "none": Variant(None),
}


def build(variant: Variant) -> nn.Sequential:
    """Five convolutions, each with its norm and a ReLU, the mean over the image, a linear layer: 28 thousand weights.

    (N, 1, 28, 28) -> logits (N, 10). Where there is no norm, a convolution has a bias, and first weights that keep the
    size of signals (He et al. 2015): PyTorch's own let them die out within these five layers, and nothing is learned.
    """
    modules: list[nn.Module] = []
    inputs = 1
    for outputs, size, stride in LAYERS:
        conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=variant.norm is None)
        if variant.norm is None:
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        if variant.weights is not None:
            variant.weights(conv)
        modules += [conv, *([variant.norm(outputs)] if variant.norm else []), nn.ReLU()]
        inputs = outputs
    return nn.Sequential(*modules, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, DIGITS))
