"""Which norm a layer is, as its own forward decides beside the keys of its tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import normexport.nn as nxnn
from normexport.checkpoint import load
from tests.checkpoint import layouts
from tests.checkpoint.layouts import Net, trained
from tests.checkpoint.support import (
    assert_same,
    forward,
    only_norm,
    own_forward,
    refused,
    save,
)


def test_a_layer_that_changes_where_eps_enters_keeps_its_own_forward(tmp_path: Path) -> None:
    """sigma = 1e-3 with eps = 1e-5: the place of eps changes the answer; the layer's forward is the judge."""

    class Moved(layouts.RunningMad):
        def multiplier(self, stored: torch.Tensor) -> torch.Tensor:
            return self.scale / (stored.square() + self.eps).sqrt()

    net = Net(trained(Moved(6)))
    net.bn.running_mad.fill_(1e-3)
    file = save(tmp_path / "m.pt", net.state_dict())
    checkpoint = load(file, model=lambda: Net(Moved(6)))
    assert type(checkpoint.model.bn).__name__ == "Moved"
    assert_same(forward(checkpoint.model), own_forward(net))
    message = refused(file, model=lambda: Net(Moved(6)), dialect="running-mad")
    assert message.startswith("bn: has the keys of running-mad but its forward computes something else")


def test_forward_settles_what_keys_leave_open(tmp_path: Path) -> None:
    """weight, bias, running_mean, running_var with no version: three layers, three readings, no --dialect."""

    class Frozen(layouts.ConvNetL1):
        def multiplier(self, stored: torch.Tensor) -> torch.Tensor:
            return (stored + self.eps).rsqrt()

    for cls, dialect in ((layouts.ConvNetL1, "convnet-lp"), (Frozen, "batchnorm")):
        net = Net(trained(cls(6)))
        checkpoint = load(save(tmp_path / "m.pt", net.state_dict()), model=lambda cls=cls: Net(cls(6)))
        assert only_norm(checkpoint).dialect == dialect
        assert_same(forward(checkpoint.model), own_forward(net))


def test_class_names_do_not_decide(tmp_path: Path) -> None:
    """MeanBN is an L1 norm in one project and takes off only the mean in another; L1BatchNorm2d has two layouts."""
    for cls, dialect in ((layouts.LpNormL1, "lp-norm"), (layouts.MeanBN, "mean-bn"), (layouts.MeanBnL1, "mean-bn-l1")):
        renamed = type("MeanBN", (cls,), {})
        net = Net(trained(renamed(6)))
        checkpoint = load(save(tmp_path / "m.pt", net.state_dict()), model=lambda made=renamed: Net(made(6)))
        assert only_norm(checkpoint).dialect == dialect
        assert_same(forward(checkpoint.model), own_forward(net))


def test_a_layer_that_does_more_than_its_keys_say_keeps_its_own_forward(tmp_path: Path) -> None:
    """A fused norm and activation with BatchNorm's keys."""

    class Fused(layouts.ConvNetL1):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(super().forward(x))

    net = Net(trained(Fused(6)))
    checkpoint = load(save(tmp_path / "m.pt", net.state_dict()), model=lambda: Net(Fused(6)))
    assert type(checkpoint.model.bn).__name__ == "Fused"
    assert any("bn: computes more than a norm" in note for note in checkpoint.notes)
    assert_same(forward(checkpoint.model), own_forward(net))


@pytest.mark.parametrize("own", [layouts.LpNormL1, nxnn.L1BatchNorm2d])
def test_a_norm_used_at_two_places_is_replaced_at_both(tmp_path: Path, own: type[nn.Module]) -> None:
    """Its tensors stand in the file twice, under both names."""

    class Twice(nn.Module):
        def __init__(self, norm: type[nn.Module]) -> None:
            super().__init__()
            self.first = norm(6)
            self.second = nn.Sequential(self.first)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(x))

    net = Twice(layouts.LpNormL1)
    trained(net.first)
    checkpoint = load(save(tmp_path / "m.pt", net.state_dict()), model=lambda: Twice(own))
    model: Any = checkpoint.model
    assert model.first is model.second[0]
    x = torch.randn(2, 6, 3, 3)
    assert_same(forward(checkpoint.model, x), own_forward(net, x))


def test_a_network_with_a_running_mean_of_its_own_is_no_norm(tmp_path: Path) -> None:
    """Keys of MeanBN, and an output like its input, on a module with children: it is more than a norm."""

    class Normalised(nn.Module):
        running_mean: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("running_mean", torch.ones(3))
            self.bn = layouts.LpNormL1(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.bn(x - self.running_mean.reshape(1, 3, 1, 1))

    net = Normalised()
    trained(net.bn, channels=3)
    checkpoint = load(save(tmp_path / "m.pt", net.state_dict()), model=Normalised)
    assert [record.path for record in checkpoint.norms] == ["bn"]
    assert_same(forward(checkpoint.model), own_forward(net))


def test_a_norm_whose_forward_needs_more_than_x_keeps_it(tmp_path: Path) -> None:
    class Conditional(layouts.LpNormL1):
        def forward(self, x: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:  # type: ignore[override]  # on purpose
            return super().forward(x) + shift

    class Outer(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.bn(self.conv(x), 1.0)

    net = Outer(Conditional(6))
    net.bn.load_state_dict(trained(layouts.LpNormL1(6)).state_dict())
    checkpoint = load(save(tmp_path / "m.pt", net.state_dict()), model=lambda: Outer(Conditional(6)))
    assert any("bn: its forward could not be run alone" in note for note in checkpoint.notes)
    assert_same(forward(checkpoint.model), own_forward(net))


def test_a_model_that_is_itself_a_norm_is_replaced(tmp_path: Path) -> None:
    norm = trained(layouts.MeanBnL1(6))
    checkpoint = load(save(tmp_path / "m.pt", norm.state_dict()), model=lambda: layouts.MeanBnL1(6))
    assert isinstance(checkpoint.model, nxnn.RunningNorm)
    assert_same(forward(checkpoint.model, torch.ones(1, 6, 2, 2)), own_forward(norm, torch.ones(1, 6, 2, 2)))
