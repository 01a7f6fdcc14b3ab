"""Corrected biases: the mean of every channel is float32's, of every kind of layer, by the float64 interpreter."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from normexport.precision.int8.bias_correction import mean_errors
from normexport.precision.int8.calibration import calibrate
from normexport.precision.int8.corrections import Corrections, pairs_of, why_no_shift
from normexport.precision.int8.quantise import quantize
from normexport.runtime import Float64Runtime
from tests.precision.int8.linked_graphs import Graph

pytestmark = pytest.mark.slow

KINDS = ("conv", "conv without bias", "depthwise", "transposed", "gemm", "transposed gemm")


def layer(g: Graph, kind: str) -> str:
    if kind.endswith("gemm"):
        result = g.gemm("x", 5, transposed=kind.startswith("t"))
        g.constants[-2].dims[:] = [5]  # a bias of (5,), as most files have it
        return result
    if kind == "transposed":
        return g.transposed("x", 6)
    return g.conv("x", 6, 3, group=6 if kind == "depthwise" else 1, bias=kind != "conv without bias")


def one_layer(kind: str) -> tuple[ir.Model, np.ndarray]:
    """A layer that reads positive numbers, so that what rounding does to its weights moves its means."""
    shape = (12, 6) if kind.endswith("gemm") else (12, 6, 5, 5)
    g = Graph(4, shape, np.float32)
    model = g.model(layer(g, kind))
    return model, np.random.default_rng(0).gamma(2.0, 1.0, shape).astype(np.float32)


def means(model: ir.Model, x: np.ndarray) -> np.ndarray:
    (result,) = Float64Runtime(model, torch=False).run({"x": x}).values()
    return np.asarray(result.mean(axis=tuple(axis for axis in range(result.ndim) if axis != 1)))


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_of_every_channel_is_right_again(kind: str, symmetric: bool) -> None:
    model, x = one_layer(kind)
    ranges = {name: (low, 0.8 * high) for name, (low, high) in calibrate(model, [{"x": x}], "minmax").ranges.items()}
    plain = quantize(model, ranges, symmetric=symmetric).model
    pairs = pairs_of(model, plain)
    assert [why_no_shift(pair.node) for pair in pairs] == [""]
    shifts = mean_errors(model, plain, [{"x": x}])
    corrected = quantize(model, ranges, symmetric=symmetric, corrections=Corrections(shifts=shifts)).model
    onnx.checker.check_model(ir.to_proto(corrected), full_check=True)
    exact = means(model, x)
    before, after = np.abs(means(plain, x) - exact).max(), np.abs(means(corrected, x) - exact).max()
    assert before > 1e-3
    assert after < before / 50


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**16), symmetric=st.booleans(), final=st.sampled_from(["Relu", "Sigmoid"]))
def test_the_means_behind_layers_that_clip_are_right_in_the_int8_model_itself(
    seed: int, symmetric: bool, final: str
) -> None:
    """Three layers and what cuts between them: corrected each for itself, the last one would still be off."""
    g = Graph(seed, (12, 4, 5, 5), np.float32)
    hidden = g.node("Relu", [g.conv("x", 6, 3)], (12, 6, 5, 5))
    hidden = g.node(final, [g.conv(hidden, 6, 3, group=6)], (12, 6, 5, 5))
    model = g.model(g.conv(hidden, 3))
    x = np.random.default_rng(seed).standard_normal((12, 4, 5, 5)).astype(np.float32)
    found = calibrate(model, [{"x": x}], "minmax").ranges
    ranges = {name: (0.5 * low, 0.5 * high) for name, (low, high) in found.items()}
    plain = quantize(model, ranges, symmetric=symmetric).model
    shifts = mean_errors(model, plain, [{"x": x}])
    assert len(shifts) == 3
    corrected = quantize(model, ranges, symmetric=symmetric, corrections=Corrections(shifts=shifts)).model
    exact = means(model, x)
    before, after = np.abs(means(plain, x) - exact).max(), np.abs(means(corrected, x) - exact).max()
    # Behind a bias in whole numbers single values round the other way.
    assert after <= before / 10 + 2e-3 * np.abs(exact).max()


def test_the_models_given_are_left_alone() -> None:
    model, x = one_layer("conv")
    plain = quantize(model, calibrate(model, [{"x": x}], "minmax").ranges).model
    texts = [ir.to_proto(each).SerializeToString() for each in (model, plain)]
    assert mean_errors(model, plain, [{"x": x}])
    assert texts == [ir.to_proto(each).SerializeToString() for each in (model, plain)]


def test_batches_count_by_their_samples() -> None:
    g = Graph(4, (3, 6), np.float32)
    result = layer(g, "gemm")
    proto = ir.to_proto(g.model(result))
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    model = ir.from_proto(proto)
    x = np.random.default_rng(0).gamma(2.0, 1.0, (12, 6)).astype(np.float32)
    plain = quantize(model, calibrate(model, [{"x": x}], "minmax").ranges).model
    (whole,) = mean_errors(model, plain, [{"x": x}]).values()
    (parts,) = mean_errors(model, plain, [{"x": x[:2]}, {"x": x[2:]}]).values()
    np.testing.assert_allclose(parts, whole, atol=1e-5)
    (wrong,) = mean_errors(model, plain, [{"x": x[:2]}]).values()
    assert np.abs(wrong - whole).max() > 1e-4


def test_layers_without_a_bias_to_correct_say_why() -> None:
    g = Graph(0, (2, 3, 4), np.float32)
    model = g.model(g.matmul("x", 5))
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    plain = quantize(model, calibrate(model, [{"x": x}], "minmax").ranges).model
    pairs = pairs_of(model, plain)
    assert why_no_shift(pairs[0].node) == "MatMul 'MatMul0' has no bias"
    assert mean_errors(model, plain, [{"x": x}]) == {}
