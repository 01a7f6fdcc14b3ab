"""One memory of the model, two values in the file: refused by name, in whatever way the memory is shared."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import normexport.nn as nxnn
from normexport.checkpoint import load
from tests.checkpoint.support import refused, save


class Three(nn.Module):
    """One weight under three names."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(4, 4) for _ in range(3))
        self.b.weight = self.c.weight = self.a.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c(self.b(self.a(x)))


class Viewed(nn.Module):
    """Two parameters over one memory, one of them turned over."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.b.weight = nn.Parameter(self.a.weight.detach().t())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.a(x))


class Apart(nn.Module):
    """Two parameters beside one another in one memory."""

    def __init__(self) -> None:
        super().__init__()
        memory = torch.randn(8, 4)
        self.a, self.b = nn.Parameter(memory[:4]), nn.Parameter(memory[4:])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.a @ self.b


class Twice(nn.Module):
    def __init__(self, norm: type[nn.BatchNorm2d] = nn.BatchNorm2d) -> None:
        super().__init__()
        self.a = self.b = norm(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.a(x))


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    """A state_dict whose tensors share nothing, without notes."""
    return OrderedDict((key, value.clone()) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("kind", "key", "names"),
    [
        (Three, "b.weight", "a.weight and b.weight"),
        (Three, "c.weight", "a.weight and c.weight"),
        (Viewed, "a.weight", "a.weight and b.weight"),
        (Twice, "b.running_mean", "a.running_mean and b.running_mean"),
    ],
)
def test_values_that_do_not_fit_in_one_memory_are_refused_by_name(
    kind: type[nn.Module], key: str, names: str, tmp_path: Path
) -> None:
    whole = state(kind())
    assert load(save(tmp_path / "whole.pt", whole), model=kind).model is not None
    whole[key] = whole[key] + 1
    message = refused(save(tmp_path / "torn.pt", whole), model=kind)
    assert f"{names} are one tensor in the model and two in the file" in message


def test_neighbours_in_one_memory_are_two_weights(tmp_path: Path) -> None:
    net = Apart()
    loaded: Any = load(save(tmp_path / "m.pt", state(net)), model=Apart).model
    assert torch.equal(loaded.a, net.a)
    assert torch.equal(loaded.b, net.b)


def test_two_norms_of_another_dialect_for_one_module_are_refused(tmp_path: Path) -> None:
    norm: Any = nxnn.L1BatchNorm2d(4)
    stored = nn.ModuleDict({"a": nxnn.L1BatchNorm2d(4), "b": norm})
    assert load(save(tmp_path / "whole.pt", stored.state_dict()), model=Twice).norms[0].dialect == "normexport"
    norm.running_mean += 1
    message = refused(save(tmp_path / "torn.pt", stored.state_dict()), model=Twice)
    assert "a.running_mean and b.running_mean are one tensor in the model and two in the file" in message


def test_two_weights_that_prefixes_of_wrappers_tell_apart_are_refused(tmp_path: Path) -> None:
    weight = torch.randn(4, 4)
    both = OrderedDict({"fc.weight": weight, "_orig_mod.fc.weight": weight + 1})
    message = refused(save(tmp_path / "m.pt", both), model=lambda: nn.ModuleDict({"fc": nn.Linear(4, 4, bias=False)}))
    assert "_orig_mod.fc.weight: has the same name as fc.weight without the prefixes of wrappers" in message
