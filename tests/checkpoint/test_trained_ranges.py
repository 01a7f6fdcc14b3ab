"""State_dicts of quantisation-aware training with torch.ao for a float model: refused, or read without ranges."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.ao import quantization

import normexport
from normexport.checkpoint import load
from normexport.errors import UsageError
from normexport.verdicts import Verdict
from tests.checkpoint.support import IMAGES, refused, save

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")


def _net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 1))


def _prepared() -> nn.Module:
    net = _net().train()
    net.qconfig = quantization.get_default_qat_qconfig("fbgemm")
    prepared: nn.Module = quantization.prepare_qat(net)
    for _ in range(3):
        prepared(IMAGES)
    return prepared


def test_ranges_of_training_are_refused_by_name_with_the_option_that_leaves_them_out(tmp_path: Path) -> None:
    state = _prepared().state_dict()
    assert any("weight_fake_quant" in key for key in state), "torch.ao must have put its keys there"
    message = refused(save(tmp_path / "m.pt", state), model=_net)
    assert "was trained with fake quantisation of torch.ao (0.weight_fake_quant, " in message
    assert "let --model make it prepared (prepare_qat), or leave its ranges out with --unquantised" in message


@pytest.mark.parametrize("prefix", ["", "model."])
def test_left_out_as_asked_the_float_weights_are_those_of_the_file_and_nothing_passes(
    tmp_path: Path, prefix: str
) -> None:
    prepared = _prepared()
    file = save(tmp_path / "m.pt", {prefix + key: value for key, value in prepared.state_dict().items()})
    checkpoint = load(file, model=_net, unquantised=True)
    for name, value in checkpoint.model.state_dict().items():
        assert torch.equal(value, prepared.state_dict()[name])
    assert any("fake quantisation of torch.ao is left out" in words for words in checkpoint.unproven)
    conversion = normexport.convert(checkpoint, tmp_path / "out", ["3x7x7"])
    assert conversion.judgement.verdict is Verdict.INCONCLUSIVE


def test_a_model_prepared_for_that_training_is_not_taken_apart(tmp_path: Path) -> None:
    message = refused(save(tmp_path / "m.pt", _prepared().state_dict()), model=_prepared, unquantised=True)
    assert "has fake quantisers of torch.ao (0.weight_fake_quant), which are not left out of it" in message


def test_a_file_without_such_keys_has_nothing_to_be_left_out(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no fake quantisation that is known"):
        load(save(tmp_path / "m.pt", _net().state_dict()), model=_net, unquantised=True)


def test_keys_of_a_network_that_only_sound_so_stay(tmp_path: Path) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.activation_post_process = nn.Module()
            self.activation_post_process.scale = nn.Parameter(torch.ones(2))

    file = save(tmp_path / "m.pt", Scaled().state_dict())
    assert load(file, model=Scaled).unproven == ()
