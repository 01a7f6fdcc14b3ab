"""Networks that quantise while they compute: on their own grids, or without at a price that is said."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

import normexport
from normexport import load
from normexport.errors import UsageError
from normexport.verdicts import Verdict
from tests.checkpoint.support import save
from tests.models import authors, quantised
from tests.models.quantised import MinMaxMeasure, OlderRangeBN, RangeBN, RangeMeasure, RangeQConv2d, RangeQLinear

NEWER: Any = (RangeQConv2d, RangeBN, RangeQLinear)
OLDER: Any = (quantised.MinMaxQConv2d, OlderRangeBN, quantised.MinMaxQLinear)
X = torch.randn(8, 3, 12, 12, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

projects = pytest.mark.parametrize("layers", [NEWER, OLDER], ids=["newer", "older"])


def noiseless(model: nn.Module, x: torch.Tensor = X) -> Any:
    """The network's own evaluation in float64, its random rounding made rounding to the nearest by hand."""
    model, plain = copy.deepcopy(model).double().eval(), quantised.rounded
    try:
        quantised.rounded = lambda *a, at_random=False, **options: plain(*a, **options)
        with torch.no_grad():
            return model(x.clone()).numpy()
    finally:
        quantised.rounded = plain


def small(layers: Any) -> nn.Module:
    """Convolution, norm, ReLU and Linear of a project, trained."""
    torch.manual_seed(0)
    conv, norm, linear = layers
    features = nn.Sequential(conv(3, 8, 3, padding=1, bias=True), norm(8), nn.ReLU())
    net = authors.Head(features, linear(8, 10))
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)) and layer.bias is not None:
                layer.bias.normal_()
    return authors.trained(net)


def share_off(got: Any, expected: Any) -> float:
    return float(np.abs(got - expected).max() / np.abs(expected).max())


@projects
@pytest.mark.parametrize("way", ["module", "state_dict"])
def test_a_quantised_network_is_exported_on_its_own_grids(tmp_path: Path, layers: Any, way: str) -> None:
    net = small(layers)
    file = save(tmp_path / "m.pt", net if way == "module" else net.state_dict())
    checkpoint = load(file, trust=True) if way == "module" else load(file, model=lambda: small(layers))
    assert checkpoint.unproven == ()
    assert [record.kind for record in checkpoint.norms] == ["range"]
    conversion = normexport.convert(checkpoint, tmp_path / "out", ["3x12x12"])
    assert conversion.judgement.verdict is Verdict.PASSED
    model = onnx.load(tmp_path / "out" / "model.onnx")
    operators = [node.op_type for node in model.graph.node]
    assert operators.count("QuantizeLinear") == operators.count("DequantizeLinear") == 3
    session = ort.InferenceSession(tmp_path / "out" / "model.onnx", providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {session.get_inputs()[0].name: X.float().numpy()})
    # A rounding to the other side moves one number of thousands by a step; the grids left out, all are off by 5e-3.
    assert np.median(np.abs(got - noiseless(net))) < 1e-5 * np.abs(noiseless(net)).max()
    assert share_off(got, noiseless(net)) < 2e-3


@projects
def test_what_leaving_quantisation_out_costs_is_measured_and_never_passed(tmp_path: Path, layers: Any) -> None:
    net = small(layers)
    checkpoint = load(save(tmp_path / "m.pt", net), trust=True, unquantised=True)
    conversion = normexport.convert(checkpoint, tmp_path / "out", ["3x12x12"])
    assert conversion.judgement.verdict is Verdict.INCONCLUSIVE
    reasons = conversion.judgement.reasons
    (cost,) = [reason for reason in reasons if "of its largest number off" in reason]
    assert cost.startswith("without its fake quantisation output 0 is ")
    assert "of 64 decisions are others" in cost
    assert "features.0, fc: fake quantisation is left out" in reasons
    model = onnx.load(tmp_path / "out" / "model.onnx")
    assert not {"QuantizeLinear", "Round"} & {node.op_type for node in model.graph.node}
    # The weights are those that are stored: the loaded network is its own without a grid anywhere.
    with torch.no_grad():
        ours: Any = copy.deepcopy(checkpoint.model).double()(X).numpy()
    told = float(cost.removeprefix("without its fake quantisation output 0 is ").split()[0])
    assert 0.1 * told < share_off(ours, noiseless(net)) < 10 * told


def test_in_place_rounding_that_others_read_is_never_passed(tmp_path: Path) -> None:
    """DenseNet's norm rounds what goes on beside it: a quantiser that leaves its input alone is another network."""
    torch.manual_seed(1)
    net = authors.trained(authors.densenet(*NEWER))
    conversion = normexport.convert(load(save(tmp_path / "m.pt", net), trust=True), tmp_path / "out", ["3x12x12"])
    assert conversion.judgement.verdict is Verdict.INCONCLUSIVE
    assert any("with layers of ours for its quantising ones output 0" in each for each in conversion.judgement.reasons)


@pytest.mark.parametrize("bits", [2, 4, 7, 8, 10, 16])
@pytest.mark.parametrize("observer", [RangeMeasure, MinMaxMeasure])
def test_grids_of_any_fineness_are_kept(tmp_path: Path, bits: int, observer: Any) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(observer(bits))
    net.train()(X.float())
    checkpoint = load(save(tmp_path / "m.pt", net.eval()), trust=True)
    normexport.export(checkpoint, ["3x12x12"], tmp_path / "m.onnx")
    session = ort.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {session.get_inputs()[0].name: X.float().numpy()})
    expected = noiseless(net, X.float().double())
    assert (np.abs(got - expected) > 3e-6).mean() < 2e-3  # those at a half may go either way
    assert len(np.unique(got)) <= 2**bits


def test_an_observer_that_only_measures_is_nothing(tmp_path: Path) -> None:
    net: Any = nn.Sequential(RangeMeasure(8, measure=True), nn.ReLU())
    net.train()(X.float())
    model: Any = load(save(tmp_path / "m.pt", net.eval()), trust=True).model
    assert isinstance(model[0], nn.Identity)


class Squaring(RangeMeasure):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) ** 2


class Doubling(RangeQConv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + 1e-3 * x.mean()


@pytest.mark.parametrize("kind", [Squaring, lambda: Doubling(3, 4, 3)], ids=["observer", "layer"])
def test_what_computes_something_else_keeps_its_own_forward(tmp_path: Path, kind: Any) -> None:
    net: Any = nn.Sequential(kind())
    net.train()(X.float())
    model: Any = load(save(tmp_path / "m.pt", net.eval()), trust=True).model
    assert type(model[0]) in (Squaring, Doubling)
    with torch.no_grad():
        got = copy.deepcopy(model).double()(X).numpy()
    np.testing.assert_allclose(got, noiseless(net), rtol=1e-6, atol=1e-6)


def test_a_network_without_fake_quantisation_has_none_to_leave_out(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no fake quantisation that is known; leave --unquantised out"):
        load(save(tmp_path / "m.pt", nn.Sequential(nn.Conv2d(3, 4, 1))), unquantised=True)
