"""A part that stands for another of the file is shown to compute the same, or the verdict says that it was not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import normexport.nn as nxnn
from normexport import check, convert, load
from normexport.verdicts import Verdict
from tests.checkpoint import layouts
from tests.checkpoint.layouts import Net, trained
from tests.checkpoint.support import IMAGES, own_forward, refused, save
from tests.narrow import present


class Clipping(layouts.LpNormL1):
    """Its layout's norm for inputs of the usual size, and something else beyond."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).clamp(-30, 30)


class Leaking(layouts.LpNormL1):
    """Adds a little that only strong inputs show."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + 1e-7 * x**3


@pytest.mark.parametrize("kind", [Clipping, Leaking])
def test_a_layer_that_is_a_norm_for_usual_inputs_alone_is_not_taken_for_one(
    kind: type[layouts.LpNormL1], tmp_path: Path
) -> None:
    net = Net(trained(kind(6)))
    checkpoint = load(save(tmp_path / "m.pt", net), trust=True)
    assert isinstance(checkpoint.model.bn, kind)
    strong = 1e4 * IMAGES
    torch.testing.assert_close(checkpoint.model.double()(strong.double()), own_forward(net, strong))
    assert "bn: computes more than a norm of its keys; its own forward is exported" in checkpoint.notes
    message = refused(tmp_path / "m.pt", trust=True, dialect="lp-norm")
    assert "bn: has the keys of lp-norm but its forward computes something else" in message


def test_a_norm_with_a_hook_keeps_its_forward_and_its_hook(tmp_path: Path) -> None:
    net = Net(trained(layouts.LpNormL1(6)))
    net.bn.register_forward_hook(double)
    checkpoint = load(save(tmp_path / "m.pt", net), trust=True)
    assert isinstance(checkpoint.model.bn, layouts.LpNormL1)
    assert any("has hooks; its own forward is exported with them" in note for note in checkpoint.notes)
    torch.testing.assert_close(checkpoint.model.double()(IMAGES.double()), own_forward(net))


def double(module: nn.Module, args: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
    return output * 2


def test_a_hook_on_a_norm_that_the_file_has_in_another_dialect_is_not_lost_in_silence(tmp_path: Path) -> None:
    def factory() -> Net:
        net = Net(nn.BatchNorm2d(6))
        net.bn.register_forward_hook(double)
        return net

    net = Net(trained(nxnn.L1BatchNorm2d(6)))
    checkpoint = load(save(tmp_path / "m.pt", net.state_dict()), model=factory)
    assert checkpoint.unproven == ("bn: its hooks are left out with the norm that it replaces",)


@pytest.mark.slow
def test_fake_quantisation_that_is_left_out_is_inconclusive(tmp_path: Path) -> None:
    net = Net(trained(layouts.ConvNetRangeBN(6)))
    checkpoint = load(save(tmp_path / "m.pt", net), trust=True, unquantised=True)
    assert "bn: fake quantisation of its input is left out" in checkpoint.unproven
    conversion = convert(checkpoint, tmp_path / "out", ["3x7x7"])
    assert conversion.judgement.verdict is Verdict.INCONCLUSIVE
    assert "bn: fake quantisation of its input is left out" in conversion.judgement.reasons
    judgement = check(checkpoint, tmp_path / "out" / "model.onnx", ["3x7x7"]).judgement
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "bn: fake quantisation of its input is left out" in judgement.reasons


class DataParallel(nn.Module):
    """Called as PyTorch's wrapper is, and no wrapper."""

    def __init__(self, module: nn.Linear) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * self.module(x)


def test_only_pytorchs_own_wrappers_without_hooks_are_taken_off(tmp_path: Path) -> None:
    linear = nn.Linear(2, 2)
    x = torch.ones(1, 2)
    hooked = nn.DataParallel(linear)
    hooked.register_forward_hook(double)
    for wrapped in (DataParallel(linear), hooked):
        loaded = present(load(save(tmp_path / "m.pt", wrapped), trust=True).model)
        assert torch.equal(loaded(x), 2 * linear(x))
    assert isinstance(load(save(tmp_path / "m.pt", nn.DataParallel(linear)), trust=True).model, nn.Linear)


def test_notes_without_a_kind_give_way_to_the_dialect_that_the_user_names(tmp_path: Path) -> None:
    net = Net(trained(nxnn.L1BatchNorm2d(6, eps=0.1)))
    whole: Any = net.state_dict()
    state = type(whole)((key, value) for key, value in whole.items() if "tracked" not in key)
    state._metadata = {path: {"version": 1} for path in whole._metadata}
    file = save(tmp_path / "m.pt", state)
    assert (
        load(file, model=lambda: Net(nxnn.L1BatchNorm2d(6, eps=0.1)), dialect="normexport").norms[0].dialect
        == "normexport"
    )
    assert load(file, dialect="normexport").norms[0].dialect == "normexport"
