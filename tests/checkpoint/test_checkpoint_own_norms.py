"""Own norms under BatchNorm's names: the code decides wherever there is code; without it both readings are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import normexport
import normexport.nn as nxnn
from normexport.checkpoint import load
from normexport.verdicts import Verdict
from tests.checkpoint import own_norms
from tests.checkpoint.layouts import Net
from tests.checkpoint.own_norms import OWN
from tests.checkpoint.support import IMAGES, assert_same, batch_norm_net, forward, only_norm, own_forward, refused, save

by_class = pytest.mark.parametrize(("kind", "trained", "dialect"), OWN, ids=[each[0].__name__ for each in OWN])


def net_of(kind: Any) -> Net:
    """Convolution, norm and ReLU, with the statistics and parameters of a trained network."""
    torch.manual_seed(3)
    net = Net(kind(6))
    for name, value in net.bn.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.rand(6) + 0.5 if name == "running_var" else torch.randn(6))
    return net.eval()


@by_class
@pytest.mark.parametrize("way", ["state_dict", "module", "stripped"])
def test_with_code_the_code_decides(tmp_path: Path, kind: Any, trained: str, dialect: str | None, way: str) -> None:
    net = net_of(kind)
    state = {key: value for key, value in net.state_dict().items() if way != "stripped" or "tracked" not in key}
    file = save(tmp_path / "m.pt", net if way == "module" else state if way == "stripped" else net.state_dict())
    checkpoint = load(file, trust=True) if way == "module" else load(file, model=lambda: Net(kind(6)))
    assert_same(forward(checkpoint.model), own_forward(net))
    if dialect is None:
        assert type(checkpoint.model.bn) is kind
        assert "bn: computes more than a norm of its keys; its own forward is exported" in checkpoint.notes
    else:
        assert isinstance(checkpoint.model.bn, nxnn.RunningNorm)
        assert (only_norm(checkpoint).kind, only_norm(checkpoint).dialect) == (trained, dialect)


@by_class
def test_the_code_of_a_program_decides_alike(tmp_path: Path, kind: Any, trained: str, dialect: str | None) -> None:
    """A program has no training in it: of kinds that it shows, only BatchNorm's own and what names hint at."""
    program = torch.export.export(net_of(kind), (IMAGES,))
    torch.export.save(program, tmp_path / "m.pt2")
    record = only_norm(load(tmp_path / "m.pt2"))
    assert record.dialect == (dialect or "graph")
    assert record.kind in (trained, "unknown")
    assert (record.kind == "batchnorm") == (trained == "batchnorm")
    assert record.called == (f"class {kind.__name__}" if record.kind == "unknown" else record.kind)


@by_class
def test_an_own_norm_is_converted_and_proven(tmp_path: Path, kind: Any, trained: str, dialect: str | None) -> None:
    checkpoint = load(save(tmp_path / "m.pt", net_of(kind)), trust=True)
    conversion = normexport.convert(checkpoint, tmp_path / "out", ["3x7x7"])
    assert conversion.judgement.verdict is Verdict.PASSED
    assert [outcome.fate for outcome in conversion.outcomes] == ["folded"]


def test_a_program_with_another_epsilon_is_read_with_it(tmp_path: Path) -> None:
    net = net_of(lambda channels: own_norms.OwnNorm(channels, eps=0.03))
    torch.export.save(torch.export.export(net, (IMAGES,)), tmp_path / "m.pt2")
    assert only_norm(load(tmp_path / "m.pt2")).dialect == "own-divisor"


def test_without_code_a_file_of_an_own_class_names_both_readings(tmp_path: Path) -> None:
    file = save(tmp_path / "m.pt", net_of(own_norms.Counting).state_dict())
    record = only_norm(load(file))
    assert record.dialect == "ambiguous"
    assert record.health == (
        "running_var may be a variance (batchnorm) or the average of d (own-divisor): "
        "give its code with --model, or pass --dialect batchnorm|own-divisor",
    )
    assert only_norm(load(file, dialect="own-divisor")).dialect == "own-divisor"


@pytest.mark.parametrize("keep_notes", [True, False])
def test_without_code_a_file_with_the_notes_of_batch_norm_says_what_else_it_may_be(
    tmp_path: Path, keep_notes: bool
) -> None:
    state = net_of(own_norms.Inheriting).state_dict()
    file = save(tmp_path / "m.pt", state if keep_notes else dict(state))
    checkpoint = load(file)
    assert only_norm(checkpoint).dialect == "batchnorm"
    (note,) = checkpoint.notes
    assert "running_var is read as a variance" in note
    assert note.endswith("give its code with --model, or pass --dialect own-divisor")
    named = load(file, dialect="own-divisor")
    assert (only_norm(named).dialect, named.notes) == ("own-divisor", ())


def test_an_own_norm_does_not_load_into_batch_norm_in_silence(tmp_path: Path) -> None:
    """PyTorch says "all keys matched"; the version that it noted is not BatchNorm's."""
    net = net_of(own_norms.Counting)
    misled = batch_norm_net().eval()
    assert str(misled.load_state_dict(net.state_dict())) == "<All keys matched successfully>"
    assert (own_forward(misled) - own_forward(net)).abs().max() > 0.05
    file = save(tmp_path / "m.pt", net.state_dict())
    message = refused(file, model=batch_norm_net)
    assert message.startswith("bn: running_var may be a variance (batchnorm) or the average of d (own-divisor)")
    checkpoint = load(file, model=batch_norm_net, dialect="own-divisor")
    assert_same(forward(checkpoint.model), own_forward(net))


def test_a_subclass_of_batch_norm_is_read_into_batch_norm_by_the_word_of_the_user(tmp_path: Path) -> None:
    net = net_of(own_norms.Inheriting)
    checkpoint = load(save(tmp_path / "m.pt", net.state_dict()), model=batch_norm_net, dialect="own-divisor")
    assert_same(forward(checkpoint.model), own_forward(net))


def test_a_dialect_that_the_code_contradicts_is_refused(tmp_path: Path) -> None:
    file = save(tmp_path / "m.pt", net_of(own_norms.Counting))
    message = refused(file, trust=True, dialect="batchnorm")
    assert message.startswith("bn: has the keys of batchnorm but its forward computes something else")
    assert message.endswith("leave --dialect out, so that its own forward decides")


@pytest.mark.parametrize("channels", [1, 2, 17])
@pytest.mark.parametrize("make", [own_norms.OwnNorm, nn.BatchNorm2d])
def test_norms_of_any_width_are_read(tmp_path: Path, channels: int, make: Any) -> None:
    """One channel shows no kind: every statistic is a multiple of every other."""
    net = make(channels).eval()
    checkpoint = load(save(tmp_path / "m.pt", net), trust=True)
    expected = {own_norms.OwnNorm: "l1" if channels > 1 else "unknown", nn.BatchNorm2d: "batchnorm"}[make]
    assert only_norm(checkpoint).kind == expected
