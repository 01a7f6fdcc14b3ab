"""Layers that are found scale invariant are: scaled weights leave the output; of the others the reason is told."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations
from torch.optim.swa_utils import AveragedModel

import normexport.nn as nxn
from normexport.errors import UsageError
from normexport.train import effective_step_size, find_scale_invariant
from normexport.train.vectors import spread, vector_norms

TINY = 1e-12  # an epsilon, so that what it costs stays below the roundings of float64


def batch_norm(channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels, eps=TINY)


def tail(module: nn.Module, *more: nn.Module) -> Any:
    return nn.Sequential(module, *more)


class Residual(nn.Module):
    def __init__(self, before: bool) -> None:
        super().__init__()
        self.before = before
        self.conv, self.bn = nn.Conv2d(4, 4, 3, padding=1, bias=False), batch_norm(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x) + x) if self.before else self.bn(self.conv(x)) + x


class TwoNorms(nn.Module):
    """One convolution into two norms: of every channel, and of two groups."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3, bias=False)
        self.one, self.other = batch_norm(8), nn.GroupNorm(2, 8, eps=TINY)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.one(y) + self.other(functional.relu(y * 2.0))


class OwnPooling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(4, 6, 3), batch_norm(6)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(functional.max_pool2d(self.conv(x), 2))


IMAGE = (3, 4, 9, 9)
INVARIANT: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "bias that the norm takes off": (lambda: tail(nn.Conv2d(4, 6, 3), batch_norm(6)), IMAGE, 6),
    "grouped": (lambda: tail(nn.Conv2d(4, 6, 3, groups=2, bias=False), nxn.L1BatchNorm2d(6, eps=TINY)), IMAGE, 6),
    "instance": (lambda: tail(nn.Conv2d(4, 6, 3), nxn.LinfInstanceNorm2d(6, eps=TINY)), IMAGE, 6),
    "transposed": (
        lambda: tail(nn.ConvTranspose2d(4, 6, 3, groups=2, bias=False), nxn.TopKBatchNorm2d(6, eps=TINY)), IMAGE, 6,
    ),
    "one spatial axis": (lambda: tail(nn.Conv1d(4, 5, 2, bias=False), nn.BatchNorm1d(5, eps=TINY)), (3, 4, 9), 5),
    "three": (lambda: tail(nn.Conv3d(4, 5, 2, bias=False), nxn.RangeBatchNorm3d(5, eps=TINY)), (2, 4, 5, 5, 5), 5),
    "linear": (lambda: tail(nn.Linear(7, 5), nxn.L1BatchNorm1d(5, eps=TINY)), (8, 7), 5),
    "groups of channels": (lambda: tail(nn.Conv2d(4, 6, 3, bias=False), nxn.L1GroupNorm(3, 6, eps=TINY)), IMAGE, 3),
    "transposed, in groups of its own": (
        lambda: tail(nn.ConvTranspose2d(4, 8, 3, groups=2, bias=False), nn.GroupNorm(4, 8, eps=TINY)), IMAGE, 4,
    ),
    "layer": (lambda: tail(nn.Linear(7, 5, bias=False), nn.LayerNorm(5, eps=TINY)), (2, 3, 7), 1),
    "layer of ours": (lambda: tail(nn.Linear(7, 5, bias=False), nxn.L1LayerNorm(5, eps=TINY)), (2, 3, 7), 1),
    "root mean square": (lambda: tail(nn.Linear(7, 5, bias=False), nn.RMSNorm(5, eps=TINY)), (2, 3, 7), 1),
    "through operations that keep scale": (
        lambda: tail(nn.Conv2d(4, 6, 3, bias=False), nn.LeakyReLU(), nn.AvgPool2d(2, padding=1), batch_norm(6)),
        *(IMAGE, 6),
    ),
    "a bias through a maximum": (lambda: tail(nn.Conv2d(4, 6, 3), nn.MaxPool2d(2), batch_norm(6)), IMAGE, 6),
    "a function's maximum": (OwnPooling, IMAGE, 6),
    "residual behind the norm": (lambda: Residual(before=False), IMAGE, 4),
    "two norms": (TwoNorms, IMAGE, 2),
}  # fmt: skip


@pytest.mark.parametrize("name", INVARIANT)
def test_scaling_each_vector_leaves_the_output(name: str) -> None:
    make, shape, vectors = INVARIANT[name]
    torch.manual_seed(0)
    model, x = make().double().train(), torch.randn(shape, dtype=torch.float64)
    found = find_scale_invariant(model, x)
    (layer,) = found.layers
    assert layer.vectors == vectors
    assert not found.others
    scaled: Any = copy.deepcopy(model)
    module = scaled.get_submodule(layer.path)
    factors = torch.linspace(0.5, 3, vectors, dtype=torch.float64) if vectors > 1 else torch.tensor([3.0])
    before = vector_norms(module, vectors)
    with torch.no_grad():
        module.weight.mul_(spread(factors, module))
        torch.testing.assert_close(vector_norms(module, vectors), before * factors)
        torch.testing.assert_close(scaled(x), model(x), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", ["groups of channels", "transposed, in groups of its own", "layer"])
def test_of_channels_with_statistics_in_common_one_alone_does_not_scale(name: str) -> None:
    make, shape, _ = INVARIANT[name]
    model: Any = make().double()
    x = torch.randn(shape, dtype=torch.float64)
    before = model(x)
    with torch.no_grad():
        model[0].weight[0] *= 3
    assert not torch.allclose(model(x), before, atol=1e-3)


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Conv2d(4, 4, 3, bias=False), nn.Conv2d(4, 4, 3, bias=False)
        self.other.weight = self.one.weight
        self.bn = batch_norm(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.other(self.bn(self.one(x)))


class Functional(nn.Module):
    """Its weight is used by hand as well."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(4, 4, 3, bias=False), batch_norm(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)) + functional.conv2d(x, self.conv.weight)


class SecondUse(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(4, 4, 3, bias=False), batch_norm(4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.conv(x)
        return self.bn(y), y


class OwnConv(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + 1


class OwnBatchNorm(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:
        return input


def frozen() -> nn.Module:
    model = tail(nn.Conv2d(4, 6, 3), batch_norm(6)).train()
    model[1].eval()
    return model


OTHERS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "no norm": (lambda: tail(nn.Conv2d(4, 6, 3), nn.ReLU()), "goes into the model's output before any norm"),
    "tanh": (lambda: tail(nn.Conv2d(4, 6, 3), nn.Tanh(), batch_norm(6)), "goes into 1 (Tanh) before any norm"),
    "another layer": (lambda: tail(nn.Conv2d(4, 6, 3), nn.Conv2d(6, 6, 3)), "goes into 1 (Conv2d)"),
    "six": (lambda: tail(nn.Conv2d(4, 6, 3), nn.ReLU6(), batch_norm(6)), "goes into 1 (ReLU6)"),
    "a bias before a ReLU": (lambda: tail(nn.Conv2d(4, 6, 3), nn.ReLU(), batch_norm(6)), "has a bias that its norm 2"),
    "a bias before a group": (lambda: tail(nn.Conv2d(4, 6, 3), nn.GroupNorm(3, 6)), "has a bias that its norm 1"),
    "residual": (lambda: Residual(before=True), "goes into add before any norm"),
    "shared": (Shared, "its weight is other.weight too"),
    "used by hand": (Functional, "used outside of the layer"),
    "second use": (SecondUse, "goes into the model's output before any norm"),
    "own forward": (lambda: tail(OwnConv(4, 6, 3), batch_norm(6)), "OwnConv has a forward of its own"),
    "own norm": (lambda: tail(nn.Conv2d(4, 6, 3), OwnBatchNorm(6)), "before any norm"),
    "frozen": (frozen, "its norm 1 is in evaluation"),
    "weight norm": (
        lambda: tail(parametrizations.weight_norm(nn.Conv2d(4, 6, 3)), batch_norm(6)), "a parametrization",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_a_layer_that_is_not_is_listed_with_the_reason(name: str) -> None:
    make, reason = OTHERS[name]
    found = find_scale_invariant(make())
    assert reason in next(iter(found.others.values()))
    assert "0" not in {each.path for each in found.layers} or name == "frozen"


def test_a_linear_before_a_norm_of_axis_1_needs_the_number_of_axes() -> None:
    """Equal sizes hide it: of (N, 5, 5) the norm's channels are not the Linear's."""
    model = tail(nn.Linear(7, 5), nn.BatchNorm1d(5))
    assert "pass example=" in find_scale_invariant(model).others["0"]
    assert find_scale_invariant(model, torch.randn(8, 7)).layers
    wrong = find_scale_invariant(model, torch.randn(8, 5, 7))
    assert "its channels are on axis 2" in wrong.others["0"]


def test_the_example_leaves_statistics_and_random_numbers_as_they_were() -> None:
    model: Any = tail(nn.Linear(7, 5), nn.Dropout(), nn.BatchNorm1d(5))
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    find_scale_invariant(model, torch.randn(8, 7, generator=torch.Generator().manual_seed(0)))
    assert torch.rand(1) == expected
    assert model[2].num_batches_tracked == 0


def test_a_norm_of_ones_own_counts_where_it_is_named() -> None:
    class Mine(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True)

    model = tail(nn.Conv2d(4, 6, 3), Mine())
    assert not find_scale_invariant(model).layers
    assert find_scale_invariant(model, channel_norms=(Mine,)).layers[0].norm == "1"


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel, AveragedModel])
def test_of_a_wrapper_the_network_inside_is_meant(wrap: Any) -> None:
    model = wrap(tail(nn.Conv2d(4, 6, 3), batch_norm(6)))
    found = find_scale_invariant(model)
    assert [each.path for each in found.layers] == ["0"]
    assert effective_step_size(model, 0.1)["0"].shape == (6,)


class Branches(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("model", "example", "cause"),
    [
        (tail(nn.Conv2d(4, 6, 3), Branches()), None, "can't be traced by torch.fx (symbolically traced variables"),
        (tail(nn.LazyConv2d(6, 3), batch_norm(6)), None, "is lazy and has no size yet"),
        (tail(nn.Conv2d(4, 6, 3), batch_norm(6)), torch.randn(3, 5, 9, 9), "does not take the example"),
    ],
)
def test_what_can_not_be_told_is_one_line(model: nn.Module, example: Any, cause: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_scale_invariant(model, example)
    assert cause in str(caught.value)
    assert "\n" not in str(caught.value)
