"""Small modules that store norms as public training code does, written from its formulas.

All the original authors' norms: 4-D input, statistics per channel over N, H, W, buffers starting at zero, and the
inverted average `running = momentum*old + (1-momentum)*new` with momentum 0.1 (10 % of the old is kept).
"""

from __future__ import annotations

import math

import torch
from torch import nn

from tests.checkpoint.observers import QuantMeasure, QuantMeasureRange, quantize


def c(n):
    """C(n) of L-infinity and Top-k norms: 0.5*(1+sqrt(pi*ln 4))/sqrt(2 ln n)."""
    return 0.5 * (1 + math.sqrt(math.pi * math.log(4))) / math.sqrt(2 * math.log(n))


def wide(vector):
    return vector.reshape(1, -1, 1, 1)


class Averaged(nn.Module):
    """Shared by the norms below: buffers, the inverted average, `y = (x - mean) * multiplier * gamma + beta`."""

    gamma_key, beta_key, stat_key = "weight", "bias", "running_var"

    def __init__(self, channels, momentum=0.1, eps=1e-5):
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer(self.stat_key, torch.zeros(channels))
        self.register_parameter(self.gamma_key, nn.Parameter(torch.ones(channels)))
        self.register_parameter(self.beta_key, nn.Parameter(torch.zeros(channels)))

    def denominator(self, d):
        """d (C, n), centred -> what training divides by, (C,)."""
        raise NotImplementedError

    def stored(self, denominator):
        return 1 / denominator

    def multiplier(self, stored):
        return stored

    def forward(self, x):
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

    def __init__(self, channels, normalized=True, **kwargs):
        super().__init__(channels, **kwargs)
        self.factor = math.sqrt(math.pi / 2) if normalized else 1.0

    def denominator(self, d):
        return self.factor * d.abs().mean(1) + self.eps


class ConvNetTopk(Averaged):
    def __init__(self, channels, k=10, **kwargs):
        super().__init__(channels, **kwargs)
        self.k = k

    def denominator(self, d):
        return c(d.shape[1]) * d.abs().topk(self.k, dim=1).values.mean(1) + self.eps


class LpNormL1(ConvNetL1):
    """norm_matters lp_norm: parameter `mean` is beta, `scale` is gamma. Alternative-Batch-Norm's `MeanBN` too."""

    gamma_key, beta_key = "scale", "mean"


class LpNorm(Averaged):
    gamma_key, beta_key = "scale", "mean"

    def __init__(self, channels, p=2, **kwargs):
        super().__init__(channels, **kwargs)
        self.p = p

    def denominator(self, d):
        return (d.abs().pow(self.p).mean(1) + self.eps) ** (1 / self.p)


class LpNormTopk(ConvNetTopk):
    gamma_key, beta_key = "scale", "mean"

    def __init__(self, channels, k=1, **kwargs):
        super().__init__(channels, k=k, **kwargs)


class GhostTopk(LpNormTopk):
    """C is applied inside the average: the steady state is 0.25*C*M/(1 - 0.75*C)."""

    def __init__(self, channels, k=10, **kwargs):
        super().__init__(channels, k=k, **kwargs)
        self.register_buffer("meanTOPK", torch.zeros(channels))

    def denominator(self, d):
        top = d.abs().topk(self.k, dim=1).values.mean(1)
        self.meanTOPK.copy_((0.75 * self.meanTOPK + 0.25 * top.detach()) * c(d.shape[1]))
        return self.meanTOPK + self.eps


class MeanBnL1(Averaged):
    """norm_matters mean_bn L1BatchNorm: running_scale is the average of d, no epsilon anywhere."""

    stat_key = "running_scale"

    def denominator(self, d):
        return math.sqrt(math.pi / 2) * d.abs().mean(1)

    def stored(self, denominator):
        return denominator

    def multiplier(self, stored):
        return 1 / stored


class MeanBN(nn.Module):
    """norm_matters mean_bn MeanBN: takes the mean off and divides by nothing."""

    def __init__(self, channels, momentum=0.1):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("running_mean", torch.zeros(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        mean = self.running_mean
        if self.training:
            mean = x.mean((0, 2, 3))
            self.running_mean.mul_(self.momentum).add_(mean.detach() * (1 - self.momentum))
        return x - wide(mean) + wide(self.bias)


class QuantizedRangeBN(Averaged):
    """quantized.pytorch RangeBN: 1/d stored; num_chunks lands in `stochastic`, so evaluation is random."""

    observer = QuantMeasure

    def __init__(self, channels, num_chunks=16, num_bits=8, stochastic=True, **kwargs):
        super().__init__(channels, **kwargs)
        self.num_chunks, self.num_bits, self.stochastic = num_chunks, num_bits, stochastic
        self.quantize_input = self.observer()

    def denominator(self, d):
        pieces = d.reshape(d.shape[0], self.num_chunks, -1)
        spread = pieces.amax(2).mean(1) - pieces.amin(2).mean(1)
        return 0.35 * c(pieces.shape[2]) * spread + self.eps

    def rounded(self, v):
        return quantize(v, self.num_bits, float(v.min()), float(v.max()), self.stochastic)

    def forward(self, x):
        x = self.quantize_input(x)
        if self.training:
            return super().forward(x)
        y = (x - wide(self.running_mean)) * wide(self.rounded(self.running_var))
        return y * wide(self.rounded(self.weight)) + wide(self.rounded(self.bias))


class ConvNetRangeBN(QuantizedRangeBN):
    """convNet.pytorch RangeBN: running_var is the average of d, eps is added after."""

    observer = QuantMeasureRange

    def denominator(self, d):
        return super().denominator(d) - self.eps

    def stored(self, denominator):
        return denominator

    def multiplier(self, stored):
        return 1 / (stored + self.eps)

    def forward(self, x):
        return Averaged.forward(self, self.quantize_input(x))


class Elektronn3L1(Averaged):
    """gamma and beta (1, C); running_var is the average of d = sqrt(3.1416/2)*mean|x-mu| + eps."""

    gamma_key, beta_key = "gamma", "beta"

    def __init__(self, channels, momentum=0.9, **kwargs):
        super().__init__(channels, momentum=momentum, **kwargs)
        self.gamma, self.beta = nn.Parameter(torch.ones(1, channels)), nn.Parameter(torch.zeros(1, channels))

    def denominator(self, d):
        return math.sqrt(3.1416 / 2) * d.abs().mean(1) + self.eps

    def stored(self, denominator):
        return denominator

    def multiplier(self, stored):
        return 1 / stored


class RunningMad(Averaged):
    """PyTorch's momentum, a per-channel `scale` buffer: inv_scale = scale/(stat + eps)."""

    stat_key = "running_mad"

    def __init__(self, channels, **kwargs):
        super().__init__(channels, momentum=0.9, **kwargs)
        self.register_buffer("scale", torch.linspace(0.5, 1.5, channels))

    def denominator(self, d):
        return d.abs().mean(1)

    def stored(self, denominator):
        return denominator

    def multiplier(self, stored):
        return self.scale / (stored + self.eps)


class RunningMaxdev(RunningMad):
    stat_key = "running_maxdev"

    def denominator(self, d):
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


def trained(norm, channels=6, steps=3, seed=0):
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

    def __init__(self, norm, channels=6):
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, bias=False)
        self.bn = norm

    def forward(self, x):
        return torch.relu(self.bn(self.conv(x)))
