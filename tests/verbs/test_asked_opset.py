"""`--opset`: the file is of that operator set, its bodies too, in every precision, and is proven as it is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.checker
import onnxruntime
import pytest
import torch
from torch import nn

import normexport
from normexport import ConvertConfig, ExportConfig, FoldError, Half, Int8, UsageError, load
from normexport import nn as nxn

pytestmark = pytest.mark.slow


class Mixed(nn.Module):
    """Operators whose form changed between 17 and 20, a norm that folds and one that stays live."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nxn.L1BatchNorm2d(8), nn.GELU())
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nxn.LinfInstanceNorm2d(8, affine=True))
        self.head = nn.Sequential(nn.GroupNorm(2, 8), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.first(nn.functional.interpolate(x, scale_factor=2, mode="bilinear"))
        return self.head(self.second(first) + first.amax((2, 3), keepdim=True))


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("network")
    torch.save(Mixed().eval(), folder / "model.pt")
    x = np.random.default_rng(0).normal(size=(16, 3, 8, 8)).astype(np.float32)
    np.savez(folder / "data.npz", x=x)
    return folder


def written(path: Path, opset: int) -> onnx.ModelProto:
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert {each.domain: each.version for each in model.opset_import}[""] == opset
    assert {each.version for body in model.functions for each in body.opset_import if not each.domain} <= {opset}
    assert model.ir_version == {17: 8, 18: 8, 19: 9, 20: 10, 22: 10, 23: 11}[opset]
    return model


def answer(path: Path, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


@pytest.mark.parametrize("opset", [17, 18, 19, 20, 23])
def test_the_exported_file_is_of_the_set_and_computes_what_torch_does(network: Path, opset: int) -> None:
    checkpoint, out = load(network / "model.pt", trust=True), network / f"{opset}.onnx"
    exported = normexport.export(checkpoint, ["3x8x8"], out, ExportConfig(opset=opset))
    assert exported.model.graph.opset_imports[""] == opset
    assert "LinfInstanceNorm" in {body.name for body in written(out, opset).functions}
    x = torch.randn(3, 3, 8, 8)
    assert checkpoint.model is not None
    with torch.no_grad():
        right = checkpoint.model(x).numpy()
    np.testing.assert_allclose(answer(out, x.numpy()), right, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", [None, Half(), Int8()])
def test_a_conversion_to_an_old_set_is_proven_in_every_precision_that_it_has(
    network: Path, precision: Half | Int8 | None, tmp_path: Path
) -> None:
    if isinstance(precision, Int8):
        precision = Int8(calibration=network / "data.npz")
    config = ConvertConfig(export=ExportConfig(opset=17), precision=precision, data=network / "data.npz")
    result = normexport.convert(load(network / "model.pt", trust=True), tmp_path / "out", ["3x8x8"], config)
    model = written(tmp_path / "out" / "model.onnx", 17)
    assert "LinfInstanceNorm" in "".join(body.name for body in model.functions)
    assert result.parity.judgement.verdict is not normexport.Verdict.FAILED
    if precision is None:
        assert result.passed


def test_an_onnx_file_is_taken_to_the_set_and_proven_against_itself(network: Path, tmp_path: Path) -> None:
    normexport.export(load(network / "model.pt", trust=True), ["3x8x8"], tmp_path / "any.onnx")
    for opset in (17, 22):
        config = ConvertConfig(export=ExportConfig(opset=opset))
        assert normexport.convert(tmp_path / "any.onnx", tmp_path / "out", (), config).passed
        written(tmp_path / "out" / "model.onnx", opset)
        normexport.parity(tmp_path / "any.onnx", tmp_path / "out" / "model.onnx")


def test_bounded_weights_are_folded_before_the_set_lacks_their_operator(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nxn.bounded_weight_norm(nn.Conv2d(3, 4, 3)), nn.ReLU()).eval()
    program = torch.export.export(model, (torch.randn(2, 3, 8, 8),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, tmp_path / "model.pt2")
    config = ConvertConfig(export=ExportConfig(opset=17))
    assert normexport.convert(tmp_path / "model.pt2", tmp_path / "out", (), config).passed
    written(tmp_path / "out" / "model.onnx", 17)
    with pytest.raises(FoldError, match="can't be of operator set 17"):
        normexport.export(tmp_path / "model.pt2", (), tmp_path / "kept.onnx", ExportConfig(opset=17))
    assert not (tmp_path / "kept.onnx").exists()


@pytest.mark.parametrize("opset", [16, 0, 24, 99, True, "17", 17.0])
def test_a_set_that_is_not_written_is_refused_where_it_is_given(opset: object) -> None:
    with pytest.raises(UsageError, match="is not one to write; give 17 to 23"):
        ExportConfig(opset=opset)  # type: ignore[arg-type]  # what the message is for


def test_bfloat16_in_a_set_without_it_is_refused_before_any_work() -> None:
    with pytest.raises(UsageError, match="which came with 22") as refused:
        ConvertConfig(precision=Half("bfloat16"), export=ExportConfig(opset=20))
    assert "\n" not in str(refused.value)
    ConvertConfig(precision=Half("bfloat16"), export=ExportConfig(opset=22))
    ConvertConfig(precision=Half("bfloat16"))
