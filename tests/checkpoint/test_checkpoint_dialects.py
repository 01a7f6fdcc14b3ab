"""Every dialect of the table decodes to what its own layer computes in evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import nn

import normexport.nn as nxnn
from normexport.checkpoint import DIALECTS, dialects, load, read_state
from normexport.checkpoint.inspect_state import inspect_state
from normexport.checkpoint.recognise import Stored
from normexport.errors import CheckpointError, UsageError
from tests.checkpoint import layouts
from tests.checkpoint.layouts import NORMS, Net, trained
from tests.checkpoint.support import (
    IMAGES,
    assert_same,
    batch_norm_net,
    forward,
    l1_net,
    only_norm,
    own_forward,
    refused,
    save,
)

IDS = [f"{cls.__name__}{options or ''}" for cls, options, _, _ in NORMS]
by_layout = pytest.mark.parametrize(("cls", "options", "dialect", "kind"), NORMS, ids=IDS)


@by_layout
def test_module_of_the_layout_becomes_a_running_norm_with_its_own_evaluation(
    cls: type[nn.Module], options: dict[str, Any], dialect: str, kind: str, tmp_path: Path
) -> None:
    net = Net(trained(cls(6, **options)))
    file = save(tmp_path / "m.pt", {"epoch": 3, "state_dict": net.state_dict()})
    unquantised = "quantize_input" in net.bn._modules
    checkpoint = load(file, model=lambda: Net(cls(6, **options)), unquantised=unquantised)
    assert isinstance(checkpoint.model.bn, nxnn.RunningNorm)
    assert only_norm(checkpoint).dialect == dialect
    assert (only_norm(checkpoint).path, only_norm(checkpoint).kind) == ("bn", kind)
    assert only_norm(checkpoint).statistics == "running"
    assert_same(forward(checkpoint.model), own_forward(net))


@by_layout
def test_state_of_the_layout_is_decoded_into_a_model_with_our_norm(
    cls: type[nn.Module], options: dict[str, Any], dialect: str, kind: str, tmp_path: Path
) -> None:
    """The factory already uses normexport's layer; keys and arithmetic of the file differ from it."""
    net = Net(trained(cls(6, **options)))
    file = save(tmp_path / "m.pt", net.state_dict())
    if DIALECTS[dialect].stat == "running_var" and dialect == "convnet-lp":
        assert "--dialect" in refused(file, model=l1_net)
    checkpoint = load(file, model=l1_net, dialect=dialect)
    assert only_norm(checkpoint).dialect == dialect
    assert_same(forward(checkpoint.model), own_forward(net))


@by_layout
def test_bare_state_is_recognised_by_its_keys(
    cls: type[nn.Module], options: dict[str, Any], dialect: str, kind: str, tmp_path: Path
) -> None:
    file = save(tmp_path / "m.pt", Net(trained(cls(6, **options))).state_dict())
    checkpoint = load(file)
    assert checkpoint.model is None
    assert only_norm(checkpoint).dialect == ("ambiguous" if dialect == "convnet-lp" else dialect)
    assert only_norm(load(file, dialect=dialect)).dialect == dialect


@by_layout
def test_float64_decode_agrees_with_the_layer_to_1e_9(
    cls: type[nn.Module], options: dict[str, Any], dialect: str, kind: str
) -> None:
    """No rounding of weights in between: decode alone, against the layer's own forward in float64."""
    norm = trained(cls(6, **options)).double()
    stored = Stored("bn", {**dict(norm.named_parameters()), **dict(norm.named_buffers())})
    params = DIALECTS[dialect].decode(stored.arrays(), getattr(norm, "eps", 0.0))
    x = torch.randn(5, 6, 3, 3, dtype=torch.float64) * 3 + 1
    a, b = (torch.from_numpy(v).reshape(1, -1, 1, 1) for v in params.coefficients())
    expected = own_forward(norm, x)
    torch.testing.assert_close(a * x + b, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))


def test_ghost_topk_with_weight_and_bias_is_the_multiplier_reading() -> None:
    norm = trained(layouts.GhostTopk(6))
    own = {**dict(norm.named_buffers()), "weight": norm.scale, "bias": norm.mean}
    (dialect,) = Stored("bn", own).readings()
    np.testing.assert_array_equal(dialect.decode(Stored("bn", own).arrays()).inv_scale, norm.running_var.double())


def test_dialect_that_contradicts_the_keys_is_refused(tmp_path: Path) -> None:
    file = save(tmp_path / "m.pt", Net(trained(layouts.Elektronn3L1(6))).state_dict())
    for model in (None, l1_net):
        message = refused(file, model=model, dialect="range-quantized")
        assert "--dialect range-quantized contradicts its keys (found: elektronn3)" in message


def test_the_two_range_norms_are_told_apart_by_their_observer() -> None:
    """Hazard 2: the same running_var, read reciprocally."""
    quantized, convnet = trained(layouts.QuantizedRangeBN(6)), trained(layouts.ConvNetRangeBN(6))
    assert [DIALECTS[name].reading.words[:14] for name in ("range-quantized", "range-convnet")] == [
        "the average of",
        "the average of",
    ]
    for norm, name, inverse in (
        (quantized, "range-quantized", quantized.running_var.double()),
        (convnet, "range-convnet", 1 / (convnet.running_var.double() + 1e-5)),
    ):
        stored = Stored("bn", norm.state_dict())
        (dialect,) = stored.readings()
        assert dialect.name == name
        np.testing.assert_allclose(dialect.decode(stored.arrays()).inv_scale, inverse, rtol=1e-12)


def test_random_range_norm_is_exported_at_its_mean_and_says_so(tmp_path: Path) -> None:
    """Hazard 3: two runs of the original differ; the mean of many runs is the unrounded arithmetic."""
    norm = trained(layouts.QuantizedRangeBN(6))
    x = torch.randn(2, 6, 3, 3)
    norm.quantize_input = nn.Identity()
    with torch.no_grad():
        runs = torch.stack([norm(x) for _ in range(4000)])
    assert not torch.equal(runs[0], runs[1])
    norm = trained(layouts.QuantizedRangeBN(6))
    file = save(tmp_path / "m.pt", norm.state_dict())
    kept = load(file, model=lambda: layouts.QuantizedRangeBN(6))
    assert kept.notes == ("the model: its forward rounds at random; it is taken without its noise",)
    checkpoint = load(file, model=lambda: layouts.QuantizedRangeBN(6), unquantised=True)
    assert any("rounds at random" in note for note in checkpoint.notes)
    assert any("fake quantisation of its input is left out" in note for note in checkpoint.notes)
    error = (runs.double().mean(0) - forward(checkpoint.model, x)).abs()
    # Five standard errors of the mean; extreme parameters are clamped to their range, by at most half a step.
    steps = sum(float((v.max() - v.min()).detach()) / 255 for v in (norm.weight, norm.running_var, norm.bias))
    assert (error <= 5 * runs.double().std(0) / 4000**0.5 + 0.25 * steps * (1 + x.abs())).all()


def test_every_dialect_is_listed_with_one_line() -> None:
    assert set(dialects()) == set(DIALECTS)
    assert {name for _, _, name, _ in NORMS} | {"batchnorm"} <= set(dialects())
    assert all(line and "\n" not in line for line in dialects().values())


def test_unknown_dialect_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="choose one of batchnorm, normexport"):
        load(save(tmp_path / "m.pt", batch_norm_net().state_dict()), dialect="nonsense")


vectors = st.integers(1, 5).flatmap(
    lambda n: st.tuples(*[st.lists(st.floats(0.015625, 64, width=32), min_size=n, max_size=n) for _ in range(4)])
)


@settings(max_examples=60)
@given(vectors)
def test_divisor_and_multiplier_layouts_of_one_norm_decode_alike(
    values: tuple[list[float], list[float], list[float], list[float]],
) -> None:
    """The same norm written as 1/d and as d gives one meaning, whatever its numbers."""
    mean, d, gamma, beta = (np.array(each, dtype=np.float64) for each in values)
    multiplier = {"running_mean": mean, "running_var": 1 / d, "weight": gamma, "bias": beta}
    divisor = {"running_mean": mean, "running_var": d, "gamma": gamma[None], "beta": beta[None]}
    scale = {"running_mean": mean, "running_scale": d, "weight": gamma, "bias": beta}
    found = [
        DIALECTS[name].decode(own).coefficients()
        for name, own in (("convnet-lp", multiplier), ("elektronn3", divisor), ("mean-bn-l1", scale))
    ]
    expected = (gamma / d, beta - mean * gamma / d)
    for a, b in found:
        np.testing.assert_allclose(a, expected[0], rtol=1e-12)
        np.testing.assert_allclose(b, expected[1], rtol=1e-9, atol=1e-12 * np.abs(expected[0] * mean).max())


def test_read_state_and_inspect_state_work_without_a_factory(tmp_path: Path) -> None:
    state = read_state(save(tmp_path / "m.pt", {"model": Net(trained(layouts.MeanBnL1(6))).state_dict()}))
    norms, weights = inspect_state(state)
    assert [record.dialect for record in norms] == ["mean-bn-l1"]
    assert weights == ()


def test_wrong_number_of_channels_is_one_line(tmp_path: Path) -> None:
    file = save(tmp_path / "m.pt", Net(trained(layouts.LpNormL1(8), channels=8), channels=8).state_dict())
    with pytest.raises(CheckpointError, match="bn: has 6 channels in the model and 8 in the file"):
        load(file, model=l1_net)


def test_what_holds_for_many_norms_is_one_note(tmp_path: Path) -> None:
    def make() -> nn.Sequential:
        return nn.Sequential(*(layouts.ConvNetRangeBN(6) for _ in range(5)))

    net = make()
    for norm in net:
        trained(norm)
    checkpoint = load(save(tmp_path / "m.pt", net.state_dict()), model=make, unquantised=True)
    assert checkpoint.notes == ("0, 1, 2 and 2 more: fake quantisation of its input is left out",)


def test_epsilon_that_no_file_stores_is_the_models_and_noted(tmp_path: Path) -> None:
    """eps enters after the average in convNet's RangeBN: a model with another eps computes something else."""
    net = Net(trained(layouts.ConvNetRangeBN(6, eps=0.25)))
    file = save(tmp_path / "m.pt", net.state_dict())
    checkpoint = load(file, model=lambda: Net(nxnn.RangeBatchNorm2d(6, eps=0.25)))
    assert "bn: epsilon 0.25 is the model's; the file does not store it" in checkpoint.notes
    assert_same(forward(checkpoint.model), own_forward(net))


@pytest.mark.parametrize("metadata", [True, False])
@pytest.mark.parametrize("eps", [0.1, 1e-5])
def test_a_factory_of_ours_decides_what_a_state_without_counters_means(
    tmp_path: Path, eps: float, metadata: bool
) -> None:
    """Scripts strip the counters; what is left has the keys of mean-bn-l1, which divides by s alone and not s + eps."""

    def factory() -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(3, 6, 3), nxnn.L1BatchNorm2d(6, eps=eps))

    net: Any = factory()
    net.train()(IMAGES)
    with torch.no_grad():
        net.eval()[1].running_scale[2] = 1e-5
    whole: Any = net.state_dict()
    state = type(whole)((key, value) for key, value in whole.items() if "tracked" not in key)
    if metadata:
        state._metadata = whole._metadata
    file = save(tmp_path / "m.pt", state)
    ways: tuple[dict[str, Any], ...] = ({}, {"dialect": "normexport"})
    for options in ways:
        checkpoint = load(file, model=factory, **options)
        assert only_norm(checkpoint).dialect == "normexport"
        assert_same(forward(checkpoint.model), own_forward(net))
    assert only_norm(load(file)).dialect == ("normexport" if metadata else "ambiguous")
    if not metadata:  # naming the other reading is the user's word
        assert only_norm(load(file, model=factory, dialect="mean-bn-l1")).dialect == "mean-bn-l1"
