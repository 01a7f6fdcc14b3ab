"""int8 models: what they quantise and how, against the arithmetic written out in numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn

from normexport.nn import LinfInstanceNorm2d
from normexport.precision.int8.calibration import calibrate
from normexport.precision.int8.pairs import is_quantized
from normexport.precision.int8.quantise import Quantized, modules_of, quantize
from normexport.runtime import OnnxRuntime
from tests.narrow import present
from tests.precision import nets

pytestmark = pytest.mark.slow


class Branches(nn.Module):
    """A concat, a residual addition, a live norm with a ReLU behind it, a mean and a last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1)
        self.mixed = nn.Conv2d(8, 8, 3, padding=1)
        self.norm = LinfInstanceNorm2d(8, affine=True)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat([self.left(x), 3 * self.right(x)], 1)
        x = x + torch.relu(self.norm(self.mixed(x)))
        return self.head(x.mean((2, 3)))


def branches() -> nn.Module:
    torch.manual_seed(3)
    return Branches().eval()


def samples(count: int = 32) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, *nets.SPEC.shape)).astype(np.float32)


def quantized(make: Callable[..., Any], symmetric: bool = False, **how: Any) -> tuple[ir.Model, Quantized]:
    model, _ = nets.folded(make)
    ranges = calibrate(model, [{"input": samples()}], "minmax", symmetric=symmetric).ranges
    return model, quantize(model, ranges, symmetric=symmetric, **how)


def nodes(model: ir.Model, op: str) -> list[ir.Node]:
    return [node for node in model.graph if node.op_type == op]


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_file_is_valid_and_close_to_float32(symmetric: bool) -> None:
    model, result = quantized(branches, symmetric)
    proto = ir.to_proto(result.model)
    onnx.checker.check_model(proto, full_check=True)
    assert (proto.ir_version, proto.opset_import[0].version) == (10, 20)
    x = samples(8)
    exact, got = (next(iter(OnnxRuntime(each).run({"input": x}).values())) for each in (model, result.model))
    snr = 20 * np.log10(np.linalg.norm(exact) / np.linalg.norm(exact - got))
    assert 25 < snr < 60  # not exact either: it is quantised


@pytest.mark.parametrize("symmetric", [False, True])
def test_layers_and_live_norms_are_quantised_and_means_are_not(symmetric: bool) -> None:
    _, result = quantized(branches, symmetric)
    quantised = {node.op_type for node in result.model.graph if is_quantized(node)}
    assert [each.reason for each in result.norms] == [""]
    assert {"Conv", "Gemm", "Concat", "Add", "QLinfInstanceNorm"} <= quantised
    (mean,) = nodes(result.model, "ReduceMean")
    assert mean.outputs[0].dtype == ir.DataType.FLOAT
    assert nodes(result.model, "Gemm")[0].outputs[0].is_graph_output()


def test_weights_are_symmetric_with_one_scale_per_output_channel() -> None:
    model, result = quantized(branches)
    graph = result.model.graph
    for name in ("left", "mixed"):
        conv = next(node for node in graph if node.name == name)
        dequantize = conv.inputs[1].producer()
        stored, scale, zero = (value.const_value.numpy() for value in dequantize.inputs)
        weight = next(node for node in model.graph if node.name == name).inputs[1].const_value.numpy()
        # The quantiser may widen a scale so that the int32 bias fits, never narrow it.
        assert (scale >= np.abs(weight).reshape(len(weight), -1).max(axis=1) / 127 * 0.9999).all()
        assert not zero.any()
        expected = np.clip(np.rint(weight / scale[:, None, None, None]), -127, 127)
        assert np.abs(stored - expected).max() <= 1
        assert (stored == expected).mean() > 0.99


def test_symmetric_models_have_no_zero_points() -> None:
    _, result = quantized(branches, symmetric=True)
    pairs = [*nodes(result.model, "QuantizeLinear"), *nodes(result.model, "DequantizeLinear")]
    assert pairs
    assert not any(np.any(node.inputs[2].const_value.numpy()) for node in pairs)
    assert all(node.inputs[2].const_value.dtype == ir.DataType.INT8 for node in pairs)  # no int32 biases either


def test_activations_are_unsigned_unless_there_are_live_norms_or_an_engine_wants_none() -> None:
    for make, symmetric, expected in (
        (nets.growing, False, "UINT8"),
        (branches, False, "INT8"),
        (nets.growing, True, "INT8"),
    ):
        _, result = quantized(make, symmetric)
        stored = {node.inputs[2].const_value.dtype.name for node in nodes(result.model, "QuantizeLinear")}
        assert stored == {expected}


def test_the_branches_of_a_concat_share_one_scale() -> None:
    _, result = quantized(branches)
    (concat,) = nodes(result.model, "Concat")
    producers = [value.producer() for value in concat.inputs]
    readers = [use.node for use in concat.outputs[0].uses()]
    scales = {float(node.inputs[1].const_value.numpy()) for node in (*producers, *readers)}
    assert len(scales) == 1


class Clipped(nn.Module):
    """A concat of branches that end in a ReLU, a ReLU6 and nothing: their ranges differ, and clip."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(3, 4, 1) for _ in range(3))
        self.head = nn.Conv2d(12, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branches = [torch.relu(self.first(x)), nn.functional.relu6(9 * self.second(x)), 4 * self.third(x)]
        return self.head(torch.cat(branches, 1))


def clipped() -> nn.Module:
    torch.manual_seed(7)
    return Clipped().eval()


@pytest.mark.parametrize("symmetric", [False, True])
def test_branches_of_a_concat_stay_clipped(symmetric: bool) -> None:
    model, result = quantized(clipped, symmetric)
    x = samples(8)
    exact, got = (next(iter(OnnxRuntime(each).run({"input": x}).values())) for each in (model, result.model))
    assert 20 * np.log10(np.linalg.norm(exact) / np.linalg.norm(exact - got)) > 25


class Residual(nn.Module):
    """A block with a shortcut of its own, and one whose shortcut is the identity."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.shortcut = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 8, 1)
        self.second, self.head = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x) + self.shortcut(x))
        return self.head(torch.relu(x + self.second(x)))


def residual() -> nn.Module:
    torch.manual_seed(8)
    return Residual().eval()


def test_engines_add_the_later_layer_unrounded_to_a_shortcut_of_integers() -> None:
    model, result = quantized(residual, symmetric=True)
    onnx.checker.check_model(ir.to_proto(result.model), full_check=True)
    makers = [[value.producer() for value in node.inputs] for node in nodes(result.model, "Add")]
    assert [sorted(maker.op_type for maker in each) for each in makers] == [["Conv", "DequantizeLinear"]] * 2
    assert [maker.name for each in makers for maker in each if maker.op_type == "Conv"] == ["shortcut", "second"]
    assert len(nodes(result.model, "QuantizeLinear")) == 4  # of the input, the first operand, and both sums
    x = samples(8)
    exact, got = (next(iter(OnnxRuntime(each).run({"input": x}).values())) for each in (model, result.model))
    assert 20 * np.log10(np.linalg.norm(exact) / np.linalg.norm(exact - got)) > 25


def test_onnx_runtime_adds_integers() -> None:
    _, result = quantized(residual)
    assert all(is_quantized(node) for node in nodes(result.model, "Add"))


def test_excluded_modules_stay_in_float32() -> None:
    model, result = quantized(branches, exclude=("mixed", "norm"))
    assert {"left", "right", "mixed", "norm", "head"} <= set(modules_of(model))
    graph = result.model.graph
    assert not is_quantized(next(node for node in graph if node.name == "mixed"))
    assert is_quantized(next(node for node in graph if node.name == "left"))
    assert nodes(result.model, "LinfInstanceNorm")
    assert result.excluded == ("mixed", "norm")


def test_with_every_module_excluded_nothing_is_quantised() -> None:
    model, _ = nets.folded(branches)
    _, result = quantized(branches, exclude=modules_of(model))
    assert not {"QuantizeLinear", "DequantizeLinear"} & {node.op_type for node in result.model.graph}
    x = samples(2)
    exact, got = (next(iter(OnnxRuntime(each).run({"input": x}).values())) for each in (model, result.model))
    np.testing.assert_array_equal(exact, got)


class Tapped(nn.Module):
    """An output that the next layer reads too."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tapped = torch.relu(self.first(x))
        return tapped, self.second(tapped)


def tapped() -> nn.Module:
    torch.manual_seed(6)
    return Tapped().eval()


@pytest.mark.parametrize("symmetric", [False, True])
def test_an_output_behind_a_relu_stays_clipped_and_its_other_readers_read_integers(symmetric: bool) -> None:
    model, result = quantized(tapped, symmetric)
    onnx.checker.check_model(ir.to_proto(result.model), full_check=True)
    x = samples(8)
    for name, exact in OnnxRuntime(model).run({"input": x}).items():
        got = OnnxRuntime(result.model).run({"input": x})[name]
        assert 20 * np.log10(np.linalg.norm(exact) / np.linalg.norm(exact - got)) > 30
    assert (OnnxRuntime(result.model).run({"input": x})[present(result.model.graph.outputs[0].name)] >= 0).all()
    assert all(is_quantized(node) for node in nodes(result.model, "Conv"))


def test_the_source_model_is_not_changed() -> None:
    model, _ = nets.folded(branches)
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    quantized(branches)
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


def test_one_quantised_layer_computes_what_its_integers_say() -> None:
    def one() -> nn.Sequential:
        torch.manual_seed(4)
        return nn.Sequential(nn.Conv2d(3, 4, 3, bias=False)).eval()

    _, result = quantized(one)
    x = samples(2)
    (conv,) = nodes(result.model, "Conv")
    read, weight = (value.producer() for value in conv.inputs[:2])
    s_x, z_x = (float(value.const_value.numpy()) for value in read.inputs[1:])
    q, s_w, _ = (value.const_value.numpy().astype(np.float64) for value in weight.inputs)
    rounded = (np.clip(np.rint(x / np.float32(s_x)) + z_x, 0, 255) - z_x) * s_x
    kernel = torch.from_numpy(q * s_w[:, None, None, None])
    expected = torch.nn.functional.conv2d(torch.from_numpy(rounded.astype(np.float64)), kernel).numpy()
    (got,) = OnnxRuntime(result.model).run({"input": x}).values()
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
