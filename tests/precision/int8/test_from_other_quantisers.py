"""int8 on the integers of training where they are of a network's own fake quantisers, or of another library's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn
from torch.ao import quantization

import normexport
import normexport.nn
from normexport import ConvertConfig, Int8
from normexport.errors import CheckpointError
from normexport.verdicts import Verdict
from tests.checkpoint.support import save
from tests.models.trained_integers import images
from tests.precision.int8.trained_files import TRAINED, Graph

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")


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
