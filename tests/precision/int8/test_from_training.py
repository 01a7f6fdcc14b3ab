"""int8 on the integers that a network was trained on: those that PyTorch's own conversion says, to the bit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn
from torch.ao.quantization import FusedMovingAvgObsFakeQuantize

import normexport
from normexport import ConvertConfig, Int8
from normexport.errors import FoldError, UsageError
from normexport.verdicts import Verdict
from tests.checkpoint.support import refused, save
from tests.models.trained_integers import FULL, PLAIN, REDUCED, converted, images, prepared, trained, weight_integers
from tests.precision.int8.trained_files import TRAINED, Graph, int8_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")


@dataclass(frozen=True)
class Made:
    """A trained network and the int8 file made of it."""

    net: Any
    conversion: Any
    folder: Path

    @property
    def graph(self) -> Graph:
        return Graph(onnx.load(self.folder / "out" / "model.onnx"))


@pytest.fixture(scope="module", params=[FULL, REDUCED, PLAIN])
def made(request: pytest.FixtureRequest, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    net, folder = trained(prepared(request.param)), tmp_path_factory.mktemp("made")
    conversion, _ = int8_of(net, folder, data, request.param)
    return Made(net, conversion, folder)


def test_scales_zero_points_and_integers_are_those_that_training_left(made: Made) -> None:
    assert made.conversion.judgement.verdict is Verdict.PASSED
    assert made.conversion.precision.kept == ()
    layers = [made.net.conv, made.net.mid, made.net.fc]
    for node, layer in zip(made.graph.layers(), layers, strict=True):
        whole, scale, zero = made.graph.weight(node)
        assert np.array_equal(whole, weight_integers(layer).numpy())
        assert np.array_equal(scale.reshape(-1), layer.weight_fake_quant.scale.numpy())
        assert not zero.any()
    quantisers = [made.net.quant.activation_post_process, *(layer.activation_post_process for layer in layers)]
    assert made.graph.grids() == [(float(each.scale), int(each.zero_point)) for each in quantisers]


def test_they_are_those_of_pytorchs_own_int8_network(made: Made) -> None:
    """Where its conversion computes scales as its training did."""
    if isinstance(made.net.fc.weight_fake_quant, FusedMovingAvgObsFakeQuantize):
        return
    theirs = converted(made.net)
    for node, layer in zip(made.graph.layers(), (theirs.conv, theirs.mid, theirs.fc), strict=True):
        whole, scale, _ = made.graph.weight(node)
        off = whole.astype(int) - layer.weight().int_repr().numpy()
        assert np.abs(off).max() <= 1  # its fusion of the norm rounds otherwise
        assert (off != 0).mean() < 0.01
        assert np.array_equal(scale, layer.weight().q_per_channel_scales().float().numpy())
    layers = (theirs.conv, theirs.mid, theirs.fc)
    expected = [
        (float(theirs.quant.scale), int(theirs.quant.zero_point)),
        *((layer.scale, layer.zero_point) for layer in layers),
    ]
    assert made.graph.grids() == [(float(np.float32(scale)), zero) for scale, zero in expected]


def own_integers(net: Any, x: torch.Tensor) -> np.ndarray:
    """The network by hand in float64, on the integers that its fake quantisers hold."""

    def rounded(value: torch.Tensor, quantiser: Any) -> torch.Tensor:
        scale, zero = float(quantiser.scale), int(quantiser.zero_point)
        ends = quantiser.activation_post_process.quant_min, quantiser.activation_post_process.quant_max
        return ((value / scale).round() + zero).clamp(*ends).sub(zero) * scale

    def weight_and_bias(layer: Any) -> tuple[torch.Tensor, torch.Tensor]:
        scale = layer.weight_fake_quant.scale.double()
        weight = weight_integers(layer).double() * scale.reshape(-1, *[1] * (layer.weight.dim() - 1))
        bias = torch.zeros(len(weight)) if layer.bias is None else layer.bias
        if not hasattr(layer, "bn"):
            return weight, bias.double()
        factor = layer.bn.weight.double() / torch.sqrt(layer.bn.running_var.double() + layer.bn.eps)
        return weight, (bias.double() - layer.bn.running_mean.double()) * factor + layer.bn.bias.double()

    with torch.no_grad():
        y = rounded(x.double(), net.quant.activation_post_process)
        y = nn.functional.conv2d(y, *weight_and_bias(net.conv)).relu()
        y = nn.functional.max_pool2d(rounded(y, net.conv.activation_post_process), 2)
        y = nn.functional.conv2d(y, *weight_and_bias(net.mid), padding=1, groups=2)
        y = rounded(y, net.mid.activation_post_process).flatten(1)
        y = nn.functional.linear(y, *weight_and_bias(net.fc))
        return rounded(y, net.fc.activation_post_process).numpy()


def test_the_file_computes_what_those_integers_do(made: Made) -> None:
    """By hand in float64; beyond the range that training saw too, where 0..127 and 0..255 part."""
    session = ort.InferenceSession(made.folder / "out" / "model.onnx", providers=["CPUExecutionProvider"])
    for strength in (1.0, 6.0):
        x = strength * images(256, seed=4)
        (got,) = session.run(None, {"x": x.numpy()})
        off = np.abs(got - own_integers(made.net, x)) / float(made.net.fc.activation_post_process.scale)
        assert off.max() < 2.01
        assert (off > 0.5).mean() < 0.03  # biases are rounded to int32, which turns what lies at a half


def test_what_is_trained_is_proven_against_the_networks_own_forward(data: Path, tmp_path: Path) -> None:
    conversion, _ = int8_of(trained(prepared(REDUCED)), tmp_path, data, REDUCED)
    assert "judged against the network's own fake-quantised forward" in conversion.precision.notes
    assert "4 of 128 integers: a Clip of the integers keeps their ends" in conversion.precision.notes
    assert conversion.precision.accuracy.snr_db > 30


def test_without_data_the_file_is_written_and_nothing_passes(tmp_path: Path) -> None:
    conversion, _ = int8_of(trained(prepared()), tmp_path, None)
    assert conversion.judgement.verdict is Verdict.INCONCLUSIVE
    assert "no data judged it; give --data" in conversion.judgement.reasons


def test_for_engines_grids_that_fit_about_zero_keep_their_scale(data: Path, tmp_path: Path) -> None:
    """0..127 with any zero point lies within -128..127; of 0..255 only a wider step does."""
    for backend in (REDUCED, FULL):
        net: Any = trained(prepared(backend))
        folder = tmp_path / backend
        folder.mkdir()
        conversion, model = int8_of(net, folder, data, backend, symmetric=True)
        graph = Graph(model)
        assert all(zero == 0 for _, zero in graph.grids())
        stub = float(net.quant.activation_post_process.scale)
        assert (graph.grids()[0][0] == stub) is (backend == REDUCED)
        wider = any("with a wider step" in note for note in conversion.precision.notes)
        assert wider is (backend == FULL)


@pytest.mark.parametrize("way", ["onnx", "pt2", "program"])
def test_files_that_carry_the_pairs_give_the_same_integers(way: str, made: Made, data: Path, tmp_path: Path) -> None:
    if way == "onnx":
        backend = {0: FULL, 1: REDUCED}.get(int(made.net.fc.activation_post_process.quant_max == 127), FULL)
        if isinstance(made.net.fc.weight_fake_quant, FusedMovingAvgObsFakeQuantize) is False:
            backend = PLAIN
        checkpoint = normexport.load(made.folder / "m.pt", model=lambda: prepared(backend))
        source: Any = tmp_path / "pairs.onnx"
        normexport.export(checkpoint, ["x=3x8x8"], source)
    else:
        if not isinstance(made.net.fc.weight_fake_quant, FusedMovingAvgObsFakeQuantize):
            return  # its forward asks a tensor whether to round, which torch.export does not take
        free = ({0: torch.export.Dim("batch")},)
        source = torch.export.export(made.net, (images(2),), dynamic_shapes=free)
        if way == "pt2":
            torch.export.save(source, tmp_path / "m.pt2")
            source = tmp_path / "m.pt2"
    config = ConvertConfig(precision=TRAINED, data=data)
    conversion = normexport.convert(source, tmp_path / "out", (), config)
    assert conversion.judgement.verdict is Verdict.PASSED
    graph = Graph(onnx.load(tmp_path / "out" / "model.onnx"))
    assert graph.grids() == made.graph.grids()
    for one, other in zip(graph.layers(), made.graph.layers(), strict=True):
        (whole, scale, _), (expected, expected_scale, _) = graph.weight(one), made.graph.weight(other)
        assert np.array_equal(scale, expected_scale)
        off = np.abs(whole.astype(int) - expected)
        assert off.max() <= (0 if way == "onnx" else 1)  # a program computes its weights: a half goes either way
        assert (off != 0).mean() < 0.02


def test_ranges_of_no_data_are_refused_with_what_to_do(tmp_path: Path) -> None:
    file = save(tmp_path / "m.pt", prepared().state_dict())
    message = refused(file, model=prepared)
    assert "quant.activation_post_process: has ranges of no data: its observer has seen none" in message
    assert "run some batches through it with its observers on" in message


def test_other_calibrations_and_halves_refuse_such_a_network_with_the_option(tmp_path: Path) -> None:
    network = trained(prepared())
    for precision in (Int8(method="norms"), normexport.Half()):
        with pytest.raises(FoldError, match="let int8 have its integers: --calibration trained"):
            normexport.convert(network, tmp_path / "out", ["3x8x8"], ConvertConfig(precision=precision))
    with pytest.raises(UsageError, match="pass --precision int8 --calibration trained"):
        normexport.convert(network, tmp_path / "out", ["3x8x8"])
    assert not (tmp_path / "out").exists()


def test_a_network_without_fake_quantisation_has_no_ranges_of_training(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    with pytest.raises(UsageError, match="--calibration trained: has nothing to read"):
        normexport.convert(net, tmp_path / "out", ["3x8x8"], ConvertConfig(precision=TRAINED))


@pytest.mark.parametrize("beside", [{"calibration": "images.npz"}, {"table": True}, {"effort": "high"}])
def test_what_would_change_the_integers_means_nothing_beside_it(beside: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="means nothing with --calibration trained"):
        Int8(method="trained", **beside)
