"""Networks trained a few steps with the fake quantisation of torch.ao, and the integers that PyTorch says they have."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.ao import quantization

#: 0..255 and one scale a weight; 0..127 and a scale a channel; 0..255 whose scales PyTorch's conversion keeps.
FULL, REDUCED, PLAIN = "qnnpack", "fbgemm", "plain"
SHAPE = (3, 8, 8)


class Fused(nn.Module):
    """Conv, BatchNorm and ReLU as one; pooled; a grouped Conv and BatchNorm as one; Linear."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = quantization.QuantStub(), quantization.DeQuantStub()
        self.conv, self.bn, self.relu = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.mid, self.bn2 = nn.Conv2d(6, 6, 3, padding=1, groups=2, bias=False), nn.BatchNorm2d(6)
        self.fc = nn.Linear(54, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.bn(self.conv(self.quant(x)))))
        y: Tensor = self.dequant(self.fc(self.bn2(self.mid(x)).flatten(1)))
        return y

    FUSED = (["conv", "bn", "relu"], ["mid", "bn2"])


def quietly(make: Callable[[], Any]) -> Any:
    """What `make` returns, without torch.ao's warnings that it moves to another package."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


def prepared(backend: str = FULL, network: Any = Fused) -> nn.Module:
    """A network as `prepare_qat` makes it, in training mode."""

    def make() -> Any:
        torch.manual_seed(0)
        net = network().train()
        if network.FUSED:
            quantization.fuse_modules_qat(net, [list(each) for each in network.FUSED], inplace=True)
        net.qconfig = _plain() if backend == PLAIN else quantization.get_default_qat_qconfig(backend)
        return quantization.prepare_qat(net)

    net: nn.Module = quietly(make)
    return net


def _plain() -> Any:
    """Fake quantisers that compute scales as PyTorch's conversion does; the fused ones divide by 128, it by 127.5."""
    make: Any = quantization.FakeQuantize.with_args
    activation = make(observer=quantization.MovingAverageMinMaxObserver, quant_min=0, quant_max=255)
    weight = make(
        observer=quantization.MovingAveragePerChannelMinMaxObserver,
        quant_min=-128,
        quant_max=127,
        dtype=torch.qint8,
        qscheme=torch.per_channel_symmetric,
    )
    return quantization.QConfig(activation, weight)


def weight_integers(layer: Any) -> Tensor:
    """The integers of a layer's weight by PyTorch's own quantisation, with the scale that training left."""
    weight, quantiser = layer.weight.detach(), layer.weight_fake_quant
    if hasattr(layer, "bn"):
        scale = layer.bn.weight / torch.sqrt(layer.bn.running_var + layer.bn.eps)
        weight = (weight * scale.reshape(-1, *[1] * (weight.dim() - 1))).detach()
    if quantiser.is_per_channel:
        return torch.quantize_per_channel(weight, quantiser.scale, quantiser.zero_point, 0, torch.qint8).int_repr()
    found = torch.quantize_per_tensor(weight, float(quantiser.scale), int(quantiser.zero_point), torch.qint8)
    return found.int_repr()


def trained(net: nn.Module) -> nn.Module:
    """Trained for 20 steps, in evaluation mode, its observers off as a network's are that is done."""
    optimizer = torch.optim.SGD(net.parameters(), 0.05)
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        x = torch.randn(16, *SHAPE, generator=generator)
        loss = nn.functional.cross_entropy(net(x), (x.mean((1, 2, 3)) > 0).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net.eval().apply(quantization.disable_observer)
    return net


def converted(net: nn.Module) -> Any:
    """PyTorch's own int8 network, which says scales, zero points and integers."""
    return quietly(lambda: quantization.convert(copy.deepcopy(net).eval()))


def images(count: int = 64, seed: int = 9) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))
