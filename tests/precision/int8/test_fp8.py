"""fp8 models: what they quantise and how, against the arithmetic written out and against ONNX's own reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn

import normexport
from normexport.errors import FoldError, UsageError
from normexport.io.onnx_model import save_onnx
from normexport.precision import Fp8, Judged, reduce_precision
from normexport.precision.file_precision import input_ranges, precision_of
from normexport.precision.int8.calibration import calibrate
from normexport.precision.int8.quantise import modules_of, quantize
from normexport.precision.int8.storage import Storage
from normexport.runtime import Float64Runtime, OnnxRuntime
from tests.narrow import present
from tests.precision import nets
from tests.precision.int8.test_int8 import branches, samples
from tests.precision.int8.test_remainder import network, rows, snr

pytestmark = pytest.mark.slow

FP8 = Storage("float8_e4m3fn")


class Rectified(nn.Module):
    """ReLUs in front of layers, a convolution of groups, a transposed one, a Linear."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=4)
        self.c, self.head = nn.ConvTranspose2d(8, 4, 2), nn.Linear(4 * 81, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.b(torch.relu(self.a(x))))
        return self.head(torch.relu(self.c(x)).flatten(1))


def rectified() -> nn.Module:
    torch.manual_seed(0)
    return Rectified().eval()


def quantized(model: ir.Model, x: np.ndarray) -> ir.Model:
    name = str(model.graph.inputs[0].name)
    return quantize(model, calibrate(model, [{name: x}], "minmax", storage=FP8).ranges, storage=FP8).model


def test_layers_alone_are_quantised_with_scales_of_448() -> None:
    model, _ = nets.folded(branches)
    found = quantized(model, samples())
    onnx.checker.check_model(ir.to_proto(found), full_check=True)
    layers = [node for node in found.graph if node.op_type in ("Conv", "Gemm")]
    assert len(layers) == 4
    for layer in layers:
        for value in layer.inputs[:2]:
            assert present(present(value).producer()).op_type == "DequantizeLinear"
        weight = present(present(layer.inputs[1]).producer())
        stored, scale = (present(present(each).const_value).numpy() for each in weight.inputs[:2])
        (original,) = [
            present(present(node.inputs[1]).const_value).numpy() for node in model.graph if node.name == layer.name
        ]
        rows_of = original.reshape(len(original), -1).astype(np.float64)
        np.testing.assert_allclose(scale, np.abs(rows_of).max(axis=1) / 448, rtol=1e-6)
        expected = (rows_of / scale[:, None].astype(np.float64)).clip(-448, 448).astype(ml_dtypes.float8_e4m3fn)
        np.testing.assert_array_equal(stored.reshape(len(stored), -1).view(np.uint8), expected.view(np.uint8))
    for node in found.graph:
        if node.op_type == "QuantizeLinear":
            assert len(node.inputs) == 2  # ONNX Runtime would drop a ReLU in front of one with a zero point
        if node.op_type in ("Add", "Concat", "ReduceMean"):
            assert all(
                present(present(value).producer()).op_type not in "DequantizeLinear" for value in node.inputs[:1]
            )


@pytest.mark.parametrize("make", [rectified, branches])
def test_every_runtime_computes_the_file_alike(make: Callable[[], nn.Module]) -> None:
    model, _ = nets.folded(make)
    x = samples(8)
    found = quantized(model, samples())
    (ours,) = OnnxRuntime(found).run({"input": x}).values()
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    plain = ort.InferenceSession(ir.to_proto(found).SerializeToString(), options).run(None, {"input": x})[0]
    (exact,) = Float64Runtime(found).run({"input": x}).values()
    assert snr(exact, ours) > 40  # a number next to the middle of two rounds to either
    assert snr(plain, ours) > 40
    (wide,) = OnnxRuntime(model).run({"input": x}).values()
    assert 15 < snr(wide, ours) < 45


def test_onnxs_own_reference_computes_it_too() -> None:
    x = rows()
    found = quantized(network(), x)
    (result,) = cast("list[np.ndarray]", ReferenceEvaluator(ir.to_proto(found)).run(None, {"x": x}))
    assert snr(result, OnnxRuntime(found).run({"x": x})["y"]) > 45


def test_a_network_is_judged_edited_and_rescued_like_int8() -> None:
    model, _ = nets.folded(branches)
    data = Judged({"input": samples(48)})
    config = Fp8(list(samples(32)), min_snr=20, effort="high", table=True)
    done = reduce_precision(model, config, [nets.SPEC], judged=data).precision
    assert done.passed
    assert done.dtype == "float8_e4m3fn"
    assert [edit.name for edit in done.edits][-1] == "weights rounded"
    assert "not evenly apart" in done.edits[-1].reasons[0]
    assert {each.path for each in done.sensitivity} == set(modules_of(model, FP8)) == {"left", "right", "mixed", "head"}
    strict = reduce_precision(model, Fp8(list(samples(32)), min_snr=38, effort="none"), [nets.SPEC], judged=data)
    assert strict.precision.kept
    assert any("left out so that the limit holds" in each.reason for each in strict.precision.kept)


def test_the_file_says_what_it_is_and_is_judged_by_snr(tmp_path: Path) -> None:
    model, _ = nets.folded(branches)
    found = quantized(model, samples())
    assert precision_of(found) == "float8_e4m3fn"
    assert present(input_ranges(found).get("input"))[1] == pytest.approx(np.abs(samples()).max(), rel=1e-5)
    for name, each in (("wide", model), ("small", found)):
        save_onnx(each, tmp_path / f"{name}.onnx")
    np.savez(tmp_path / "data.npz", input=samples(32))
    report = normexport.parity(
        tmp_path / "wide.onnx",
        tmp_path / "small.onnx",
        data=tmp_path / "data.npz",
        limits=normexport.Limits(min_snr=14),
    )
    assert isinstance(report, normexport.SnrReport)
    assert report.passed
    assert report.as_dict()["precision"] == "float8_e4m3fn"


def test_nan_does_not_pass() -> None:
    def broken(x: np.ndarray) -> np.ndarray:
        return np.where(x > 3, np.float32(np.nan), x)

    found = quantized(network(), rows())
    assert np.isnan(OnnxRuntime(found).run({"x": broken(rows() + 3)})["y"]).any()


def test_what_fp8_can_not_be_is_one_line() -> None:
    with pytest.raises(UsageError, match="entropy"):
        Fp8(method="entropy")
    with pytest.raises(UsageError, match="symmetric=False"):
        Fp8(symmetric=False)
    with pytest.raises(FoldError, match="operator set 13, and fp8 needs 21"):
        quantized(network(opset=13), rows())


def test_a_cache_of_int8_does_not_serve(tmp_path: Path) -> None:
    model = network()
    calibrate(model, [{"x": rows()}], "mse", symmetric=True).save(tmp_path / "c.json")
    config = Fp8(cache=tmp_path / "c.json", method="mse")
    spec = normexport.InputSpec("x", (4,))
    with pytest.raises(UsageError, match="holds ranges for int8, not for fp8"):
        reduce_precision(model, config, [spec], judged=Judged({"x": rows()}))
