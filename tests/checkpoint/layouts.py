"""Small modules that store norms as public training code does, written from its formulas.

All the original authors' norms: 4-D input, statistics per channel over N, H, W, buffers starting at zero, and the
inverted average `running = momentum*old + (1-momentum)*new` with momentum 0.1 (10 % of the old is kept).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from tests.checkpoint.observers import QuantMeasure, QuantMeasureRange, quantize


def c(n: int) -> float:
    """C(n) of L-infinity and Top-k norms: 0.5*(1+sqrt(pi*ln 4))/sqrt(2 ln n)."""
    return 0.5 * (1 + math.sqrt(math.pi * math.log(4))) / math.sqrt(2 * math.log(n))


def wide(vector: torch.Tensor) -> torch.Tensor:
    return vector.reshape(1, -1, 1, 1)


class Averaged(nn.Module):
    """Shared by the norms below: buffers, the inverted average, `y = (x - mean) * multiplier * gamma + beta`."""

    running_mean: torch.Tensor

    gamma_key, beta_key, stat_key = "weight", "bias", "running_var"

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer(self.stat_key, torch.zeros(channels))
        self.register_parameter(self.gamma_key, nn.Parameter(torch.ones(channels)))
        self.register_parameter(self.beta_key, nn.Parameter(torch.zeros(channels)))

    def denominator(self, d: torch.Tensor) -> torch.Tensor:
        """d (C, n), centred -> what training divides by, (C,)."""
        raise NotImplementedError

    def stored(self, denominator: torch.Tensor) -> torch.Tensor:
        return 1 / denominator

    def multiplier(self, stored: torch.Tensor) -> torch.Tensor:
        return stored

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            mean = x.mean((0, 2, 3))
            d = (x - wide(mean)).transpose(0, 1).flatten(1)
            new = self.stored(self.denominator(d))
            for buffer, value in ((self.running_mean, mean), (getattr(self, self.stat_key), new)):
                buffer.mul_(self.momentum).add_(value.detach() * (1 - self.momentum))
        else:
            mean, new = self.running_mean, getattr(self, self.stat_key)
        y = (x - wide(mean)) * wide(self.multiplier(new))
        return y * wide(getattr(self, self.gamma_key)) + wide(getattr(self, self.beta_key))


class ConvNetL1(Averaged):
    """convNet.pytorch lp_norm: running_var is the average of 1/d."""

    def __init__(self, channels: int, normalized: bool = True, **kwargs: Any) -> None:
        super().__init__(channels, **kwargs)
        self.factor = math.sqrt(math.pi / 2) if normalized else 1.0

    def denominator(self, d: torch.Tensor) -> torch.Tensor:
        return self.factor * d.abs().mean(1) + self.eps


class ConvNetTopk(Averaged):
    def __init__(self, channels: int, k: int = 10, **kwargs: Any) -> None:
        super().__init__(channels, **kwargs)
        self.k = k

    def denominator(self, d: torch.Tensor) -> torch.Tensor:
        return c(d.shape[1]) * d.abs().topk(self.k, dim=1).values.mean(1) + self.eps


class LpNormL1(ConvNetL1):
    """norm_matters lp_norm: parameter `mean` is beta, `scale` is gamma. Alternative-Batch-Norm's `MeanBN` too."""

    gamma_key, beta_key = "scale", "mean"


class LpNorm(Averaged):
    gamma_key, beta_key = "scale", "mean"

    def __init__(self, channels: int, p: int = 2, **kwargs: Any) -> None:
        super().__init__(channels, **kwargs)
        self.p = p

    def denominator(self, d: torch.Tensor) -> torch.Tensor:
        return (d.abs().pow(self.p).mean(1) + self.eps) ** (1 / self.p)


class LpNormTopk(ConvNetTopk):
    gamma_key, beta_key = "scale", "mean"

    def __init__(self, channels: int, k: int = 1, **kwargs: Any) -> None:
        super().__init__(channels, k=k, **kwargs)


class GhostTopk(LpNormTopk):
    """C is applied inside the average: the steady state is 0.25*C*M/(1 - 0.75*C)."""

    meanTOPK: torch.Tensor

    def __init__(self, channels: int, k: int = 10, **kwargs: Any) -> None:
        super().__init__(channels, k=k, **kwargs)
        self.register_buffer("meanTOPK", torch.zeros(channels))

    def denominator(self, d: torch.Tensor) -> torch.Tensor:
        top = d.abs().topk(self.k, dim=1).values.mean(1)
        self.meanTOPK.copy_((0.75 * self.meanTOPK + 0.25 * top.detach()) * c(d.shape[1]))
        return self.meanTOPK + self.eps


class MeanBnL1(Averaged):
    """norm_matters mean_bn L1BatchNorm: running_scale is the average of d, no epsilon anywhere."""

    stat_key = "running_scale"

    def denominator(self, d: torch.Tensor) -> torch.Tensor:
        return math.sqrt(math.pi / 2) * d.abs().mean(1)

    def stored(self, denominator: torch.Tensor) -> torch.Tensor:
        return denominator

    def multiplier(self, stored: torch.Tensor) -> torch.Tensor:
        return 1 / stored


class MeanBN(nn.Module):
    """norm_matters mean_bn MeanBN: takes the mean off and divides by nothing."""

    running_mean: torch.Tensor

    def __init__(self, channels: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("running_mean", torch.zeros(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = self.running_mean
        if self.training:
            mean = x.mean((0, 2, 3))
            self.running_mean.mul_(self.momentum).add_(mean.detach() * (1 - self.momentum))
        return x - wide(mean) + wide(self.bias)


class QuantizedRangeBN(Averaged):
    """quantized.pytorch RangeBN: 1/d stored; num_chunks lands in `stochastic`, so evaluation is random."""

    running_var: torch.Tensor
    weight: nn.Parameter
    bias: nn.Parameter

    observer: type[nn.Module] = QuantMeasure

    def __init__(
        self, channels: int, num_chunks: int = 16, num_bits: int = 8, stochastic: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(channels, **kwargs)
        self.num_chunks, self.num_bits, self.stochastic = num_chunks, num_bits, stochastic
        self.quantize_input = self.observer()

    def denominator(self, d: torch.Tensor) -> torch.Tensor:
        pieces = d.reshape(d.shape[0], self.num_chunks, -1)
        spread = pieces.amax(2).mean(1) - pieces.amin(2).mean(1)
        return 0.35 * c(pieces.shape[2]) * spread + self.eps

    def rounded(self, v: torch.Tensor) -> torch.Tensor:
        return quantize(v, self.num_bits, float(v.min()), float(v.max()), self.stochastic)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.quantize_input(x)
        if self.training:
            return super().forward(x)
        y = (x - wide(self.running_mean)) * wide(self.rounded(self.running_var))
        return y * wide(self.rounded(self.weight)) + wide(self.rounded(self.bias))


class ConvNetRangeBN(QuantizedRangeBN):
    """convNet.pytorch RangeBN: running_var is the average of d, eps is added after."""

    observer = QuantMeasureRange

    def denominator(self, d: torch.Tensor) -> torch.Tensor:
        return super().denominator(d) - self.eps

    def stored(self, denominator: torch.Tensor) -> torch.Tensor:
        return denominator

    def multiplier(self, stored: torch.Tensor) -> torch.Tensor:
        return 1 / (stored + self.eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return Averaged.forward(self, self.quantize_input(x))


class Elektronn3L1(Averaged):
    """gamma and beta (1, C); running_var is the average of d = sqrt(3.1416/2)*mean|x-mu| + eps."""

    gamma_key, beta_key = "gamma", "beta"

    def __init__(self, channels: int, momentum: float = 0.9, **kwargs: Any) -> None:
        super().__init__(channels, momentum=momentum, **kwargs)
        self.gamma, self.beta = nn.Parameter(torch.ones(1, channels)), nn.Parameter(torch.zeros(1, channels))

    def denominator(self, d: torch.Tensor) -> torch.Tensor:
        return math.sqrt(3.1416 / 2) * d.abs().mean(1) + self.eps

    def stored(self, denominator: torch.Tensor) -> torch.Tensor:
        return denominator

    def multiplier(self, stored: torch.Tensor) -> torch.Tensor:
        return 1 / stored


class RunningMad(Averaged):
    """PyTorch's momentum, a per-channel `scale` buffer: inv_scale = scale/(stat + eps)."""

    scale: torch.Tensor

    stat_key = "running_mad"

    def __init__(self, channels: int, **kwargs: Any) -> None:
        super().__init__(channels, momentum=0.9, **kwargs)
        self.register_buffer("scale", torch.linspace(0.5, 1.5, channels))

    def denominator(self, d: torch.Tensor) -> torch.Tensor:
        return d.abs().mean(1)

    def stored(self, denominator: torch.Tensor) -> torch.Tensor:
        return denominator

    def multiplier(self, stored: torch.Tensor) -> torch.Tensor:
        return self.scale / (stored + self.eps)


class RunningMaxdev(RunningMad):
    stat_key = "running_maxdev"

    def denominator(self, d: torch.Tensor) -> torch.Tensor:
        return d.abs().amax(1)


#: Each layout with its dialect and the kind that a module of it shows.
NORMS = [
    (LpNormL1, {}, "lp-norm", "l1"),
    (LpNormL1, {"normalized": False}, "lp-norm", "l1"),
    (LpNorm, {"p": 2}, "lp-norm", "l2"),
    (LpNorm, {"p": 3}, "lp-norm", "unknown"),
    (LpNormTopk, {"k": 1}, "lp-norm", "linf"),
    (LpNormTopk, {"k": 10}, "lp-norm", "topk"),
    (GhostTopk, {}, "ghost-topk", "topk"),
    (MeanBnL1, {}, "mean-bn-l1", "l1"),
    (MeanBN, {}, "mean-bn", "mean"),
    (ConvNetL1, {}, "convnet-lp", "l1"),
    (ConvNetTopk, {}, "convnet-lp", "topk"),
    (QuantizedRangeBN, {}, "range-quantized", "range"),
    (ConvNetRangeBN, {}, "range-convnet", "range"),
    (Elektronn3L1, {}, "elektronn3", "l1"),
    (RunningMad, {}, "running-mad", "l1"),
    (RunningMaxdev, {}, "running-maxdev", "linf"),
]


def trained(norm: Any, channels: int = 6, steps: int = 3, seed: int = 0) -> Any:
    """`norm` after a few steps in training on data with its own location and scale per channel, then eval."""
    generator = torch.Generator().manual_seed(seed)
    location, spread = torch.linspace(-2, 3, channels), torch.linspace(0.2, 4, channels)
    with torch.no_grad():
        for _ in range(steps):
            x = torch.randn(8, channels, 4, 4, generator=generator) * wide(spread) + wide(location)
            norm.train()(x)
        for parameter in norm.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return norm.eval()


class Net(nn.Module):
    """Convolution, norm, ReLU."""

    def __init__(self, norm: Any, channels: int = 6) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, bias=False)
        self.bn = norm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.bn(self.conv(x)))
