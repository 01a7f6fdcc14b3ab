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
from onnx import numpy_helper
from torch import nn
from torch.ao import quantization
from torch.ao.quantization import FusedMovingAvgObsFakeQuantize

import normexport
import normexport.nn
from normexport import ConvertConfig, Int8
from normexport.errors import CheckpointError, FoldError, UsageError
from normexport.verdicts import Verdict
from tests.checkpoint.support import refused, save
from tests.models.trained_integers import FULL, PLAIN, REDUCED, converted, images, prepared, trained, weight_integers

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")

TRAINED = Int8(method="trained")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "images.npz"
    np.savez(path, x=images().numpy())
    return path


def int8_of(
    net: Any, folder: Path, data: Path | None, backend: str = FULL, **options: Any
) -> tuple[Any, onnx.ModelProto]:
    """What converting its state_dict gives, with a factory that prepares the network anew."""
    config = ConvertConfig(precision=Int8(method="trained", **options), data=data)
    file = save(folder / "m.pt", net.state_dict())
    checkpoint = normexport.load(file, model=lambda: prepared(backend))
    conversion = normexport.convert(checkpoint, folder / "out", ["x=3x8x8"], config)
    model = onnx.load(folder / "out" / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    return conversion, model


class Graph:
    """An int8 file by what its nodes read: the grids in front of layers."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.arrays = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
        self.made = {name: node for node in model.graph.node for name in node.output}
        self.nodes = list(model.graph.node)

    def layers(self) -> list[onnx.NodeProto]:
        return [node for node in self.nodes if node.op_type in ("Conv", "Gemm", "MatMul")]

    def weight(self, node: onnx.NodeProto) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Integers, scale and zero point."""
        behind = self.made[node.input[1]]
        assert behind.op_type == "DequantizeLinear"
        whole, scale, zero = (self.arrays[name] for name in behind.input)
        return whole, scale, zero

    def grids(self) -> list[tuple[float, int]]:
        """(scale, zero point) of every tensor that is rounded, in order, each once."""
        pairs = [node for node in self.nodes if node.op_type == "QuantizeLinear"]
        found = [(float(self.arrays[node.input[1]]), int(self.arrays[node.input[2]])) for node in pairs]
        return list(dict.fromkeys(found))


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


# ---- other ways to have the same integers


class Rounded(nn.Module):
    """A convolution of an own class, whose weight a fake quantiser rounds."""

    def __init__(self, rows: int, columns: int, size: int, quantiser: Any) -> None:
        super().__init__()
        self.conv, self.weight_fake_quant = nn.Conv2d(columns, rows, size, padding=size // 2), quantiser()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.conv._conv_forward(x, self.weight_fake_quant(self.conv.weight), self.conv.bias)
        return y


class Residual(nn.Module):
    """Norms of ours behind rounded weights; a tensor that one reader reads rounded, and an output as it is."""

    def __init__(self, activation: Any, weight: Any) -> None:
        super().__init__()
        self.q_in, self.q_1, self.q_2, self.q_sum = activation(), activation(), activation(), activation()
        self.conv_1, self.norm_1 = Rounded(8, 3, 3, weight), normexport.nn.L1BatchNorm2d(8)
        self.conv_2, self.norm_2 = Rounded(8, 8, 3, weight), normexport.nn.TopKBatchNorm2d(8, k=5)
        self.conv_3 = Rounded(5, 8, 1, weight)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = self.q_1(self.norm_1(self.conv_1(self.q_in(x))).relu())
        y = self.norm_2(self.conv_2(h))
        return self.conv_3(self.q_sum((self.q_2(y) + h).relu())).mean((2, 3)), y


def residual(low: int, high: int, weights: tuple[int, int] = (-128, 127), **options: Any) -> nn.Module:
    """Observed on a few batches; options of the observers of activations."""
    observer: Any = quantization.MovingAverageMinMaxObserver
    if "ch_axis" in options:
        observer = quantization.MovingAveragePerChannelMinMaxObserver
    make: Any = quantization.FakeQuantize.with_args
    activation = make(observer=observer, quant_min=low, quant_max=high, **options)
    channels = {"dtype": torch.qint8, "qscheme": torch.per_channel_symmetric}
    by_channel = quantization.MovingAveragePerChannelMinMaxObserver
    weight = make(observer=by_channel, quant_min=weights[0], quant_max=weights[1], **channels)
    torch.manual_seed(0)
    net = Residual(activation, weight).train()
    for seed in range(6):
        net(images(16, seed))
    net.eval().apply(quantization.disable_observer)
    return net


SIGNED = {"dtype": torch.qint8, "qscheme": torch.per_tensor_symmetric}


@pytest.mark.parametrize(
    ("ends", "weights", "options", "least_db"),
    [((0, 255), (-128, 127), {}, 40), ((-128, 127), (-128, 127), SIGNED, 40), ((0, 15), (-8, 7), {}, 20)],
    ids=["unsigned", "signed", "4 bits"],
)
def test_a_norm_behind_rounded_weights_folds_and_leaves_their_integers(
    ends: tuple[int, int], weights: tuple[int, int], options: Any, least_db: float, data: Path, tmp_path: Path
) -> None:
    net: Any = residual(*ends, weights, **options)
    config = ConvertConfig(precision=Int8(method="trained", min_snr=0), data=data)
    conversion = normexport.convert(net, tmp_path / "out", ["x=3x8x8"], config)
    assert [outcome.fate for outcome in conversion.outcomes] == ["folded", "folded"]
    assert conversion.precision is not None
    assert conversion.precision.kept == ()
    graph = Graph(onnx.load(tmp_path / "out" / "model.onnx"))
    finer = 128 // -weights[0]  # 4 bits have room for steps a 16th as wide, to which biases are rounded
    for node, layer in zip(graph.layers(), (net.conv_1, net.conv_2, net.conv_3), strict=True):
        whole, _, _ = graph.weight(node)
        levels = layer.conv.weight.detach() / layer.weight_fake_quant.scale.reshape(-1, 1, 1, 1)
        sure = ((levels - levels.floor() - 0.5).abs() > 1e-4).numpy()  # a half goes either way
        assert np.array_equal(whole[sure], levels.round().clamp(*weights).numpy()[sure] * finer)
        assert np.abs(whole / finer - levels.numpy()).max() < 1.001
    session = ort.InferenceSession(tmp_path / "out" / "model.onnx", providers=["CPUExecutionProvider"])
    got = session.run(None, {"x": images().numpy()})
    with torch.no_grad():
        expected_outputs = [each.double().numpy() for each in net(images())]
    for mine, theirs in zip(got, expected_outputs, strict=True):
        assert 10 * np.log10(np.square(theirs).sum() / np.square(mine - theirs).sum()) > least_db


def test_activations_by_channel_are_left_in_float32_and_said(data: Path, tmp_path: Path) -> None:
    by_channel: Any = {"dtype": torch.qint8, "qscheme": torch.per_channel_symmetric, "ch_axis": 1}
    net = residual(-128, 127, **by_channel)
    config = ConvertConfig(precision=Int8(method="trained", min_snr=0), data=data)
    conversion = normexport.convert(net, tmp_path / "out", ["x=3x8x8"], config)
    assert conversion.precision is not None
    reasons = {module.path: module.reason for module in conversion.precision.kept}
    assert reasons["conv_1"] == "x was trained with a scale for each channel, which activations in int8 do not have"
    assert "QuantizeLinear" not in {node.op_type for node in onnx.load(tmp_path / "out" / "model.onnx").graph.node}


def test_a_layer_that_training_did_not_round_stays_float32(data: Path, tmp_path: Path) -> None:
    net: Any = residual(0, 255)
    net.conv_2.weight_fake_quant.disable_fake_quant()
    net.q_sum.disable_fake_quant()
    config = ConvertConfig(precision=Int8(method="trained"), data=data)
    conversion = normexport.convert(net, tmp_path / "out", ["x=3x8x8"], config)
    assert conversion.precision is not None
    reasons = {module.path: module.reason for module in conversion.precision.kept}
    assert set(reasons) == {"conv_2", "conv_3"}
    assert reasons["conv_2"].startswith("training did not round its weight ")
    assert reasons["conv_3"].startswith("training did not round ")
    assert any("its fake quantisation is switched off" in note for note in conversion.notes)


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


def test_a_file_of_another_quantiser_gives_its_own_integers(data: Path, tmp_path: Path) -> None:
    """onnxruntime's: int8 weights, biases in int32."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        def __init__(self) -> None:
            self.left = iter([{"x": images(8, seed).numpy()} for seed in range(3)])

        def get_next(self) -> Any:
            return next(self.left, None)

    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.Flatten(), nn.Linear(96, 4)).eval()
    normexport.export(net, ["x=3x8x8"], tmp_path / "float.onnx")
    quantize_static(tmp_path / "float.onnx", tmp_path / "theirs.onnx", Reader(), quant_format=QuantFormat.QDQ)
    config = ConvertConfig(precision=TRAINED, data=data)
    conversion = normexport.convert(tmp_path / "theirs.onnx", tmp_path / "out", (), config)
    assert conversion.judgement.verdict is Verdict.PASSED
    sessions = [
        ort.InferenceSession(file, providers=["CPUExecutionProvider"])
        for file in (tmp_path / "theirs.onnx", tmp_path / "out" / "model.onnx")
    ]
    ours, theirs = (session.run(None, {"x": images().numpy()})[0] for session in sessions)
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("mark", ["_", ""])
def test_largest_numbers_of_tensor_quantizers_are_read_and_doubted(mark: str, data: Path, tmp_path: Path) -> None:
    """Their files do not say how many bits."""

    def factory() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3)).eval()

    net: Any = factory()
    state = dict(net.state_dict())
    for index, largest in ((0, 3.0), (3, 2.5)):
        weight = net[index].weight.detach()
        state[f"{index}.{mark}input_quantizer._amax"] = torch.tensor(largest)
        state[f"{index}.{mark}weight_quantizer._amax"] = weight.abs().amax((1, 2, 3), keepdim=True)
    file = save(tmp_path / "m.pt", state)
    config = ConvertConfig(precision=TRAINED, data=data)
    conversion = normexport.convert(normexport.load(file, model=factory), tmp_path / "out", ["x=3x8x8"], config)
    assert conversion.judgement.verdict is Verdict.INCONCLUSIVE
    assert any("its file says the largest numbers alone" in reason for reason in conversion.judgement.reasons)
    graph = Graph(onnx.load(tmp_path / "out" / "model.onnx"))
    assert [scale for scale, _ in graph.grids()] == [float(np.float32(amax) / np.float32(127)) for amax in (3.0, 2.5)]
    whole, scale, _ = graph.weight(graph.layers()[1])
    expected = net[3].weight.detach().numpy() / scale.reshape(-1, 1, 1, 1)
    assert np.abs(whole - expected).max() <= 0.5001
    assert np.abs(whole).max() == 127


def test_ranges_of_no_data_are_refused_with_what_to_do(tmp_path: Path) -> None:
    file = save(tmp_path / "m.pt", prepared().state_dict())
    message = refused(file, model=prepared)
    assert "quant.activation_post_process: has ranges of no data: its observer has seen none" in message
    assert "run some batches through it with its observers on" in message


def test_hooks_on_a_fake_quantiser_are_never_passed_over(data: Path, tmp_path: Path) -> None:
    """One that changes what is rounded is refused, one that does not here is doubted."""
    net: Any = residual(0, 255)
    config = ConvertConfig(precision=TRAINED, data=data)
    net.q_sum.register_forward_hook(lambda module, given, result: None)
    conversion = normexport.convert(net, tmp_path / "out", ["x=3x8x8"], config)
    assert conversion.judgement.verdict is Verdict.INCONCLUSIVE
    assert any("its hooks are left out" in reason for reason in conversion.judgement.reasons)
    net.q_sum.register_forward_hook(lambda module, given, result: result + 1)
    with pytest.raises(CheckpointError, match="q_sum: rounds otherwise than its scale and zero point say"):
        normexport.convert(net, tmp_path / "other", ["x=3x8x8"], config)


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
