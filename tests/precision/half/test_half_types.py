"""Folding keeps each tensor's type, refuses what a type cannot hold, and warns by channel."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from normexport import norms
from normexport.folding import FoldConfig, FoldResult, fold
from tests.folding.build import GraphBuilder, bias_like
from tests.folding.case import weights
from tests.folding.claims import by_reference, operators

MEAN, BETA = bias_like(3), np.array([0.5, -0.25, 1.0])


def conv_and_norm(dtype: type, inv_scale: np.ndarray, gamma: np.ndarray) -> onnx.ModelProto:
    """(1, 2, 4, 4) -> Conv of `dtype` -> RunningNorm whose constants are float32 -> (1, 3, 4, 4)."""
    b = GraphBuilder(dtype)
    y = b.node("Conv", [b.input((1, 2, 4, 4)), b.const(weights(3, 2, 1, 1)), b.const(bias_like(3))])
    constants = (MEAN, inv_scale, gamma, BETA)
    inputs = [y, *(b.const(np.asarray(value, np.float32), keep_type=True) for value in constants)]
    b.output(b.node("RunningNorm", inputs, domain=norms.DOMAIN, kind="l1"))
    return b.model()


def folded(model: onnx.ModelProto, config: FoldConfig | None = None) -> FoldResult:
    return fold(ir.from_proto(model), config or FoldConfig())


def warned(result: FoldResult, code: str) -> set[int]:
    """The channels that warnings of this code name."""
    return {channel for warning in result.warnings if warning.code == code for channel in warning.channels}


@pytest.mark.parametrize(("dtype", "unit"), [(np.float16, 2.0**-11), (np.float32, 2.0**-24)])
def test_constants_keep_the_type_of_the_network_and_round_once(dtype: type, unit: float) -> None:
    gamma = np.array([1.0, -2.0, 0.5])
    inv_scale = np.array([0.75, 1.5, 3.0])
    result = folded(conv_and_norm(dtype, inv_scale, gamma))
    after = ir.to_proto(result.model)
    assert operators(after) == {"Conv": 1}
    arrays = [numpy_helper.to_array(initializer) for initializer in after.graph.initializer]
    assert {array.dtype for array in arrays} == {np.dtype(dtype)}
    weight, bias = sorted(arrays, key=lambda array: -array.ndim)
    a = gamma * inv_scale
    exact_weight = weights(3, 2, 1, 1).astype(dtype).astype(np.float64) * a.reshape(3, 1, 1, 1)
    exact_bias = bias_like(3).astype(dtype) * a + BETA - MEAN.astype(np.float32) * a
    np.testing.assert_allclose(weight, exact_weight, rtol=unit, atol=0)
    np.testing.assert_allclose(bias, exact_bias, rtol=unit, atol=0)


def test_float16_overflow_refuses_the_fold_and_names_the_channel() -> None:
    gamma = np.array([1.0, 2.0e5, 1.0])
    result = folded(conv_and_norm(np.float16, np.ones(3), gamma))
    assert [outcome.fate for outcome in result.norms] != ["folded"]
    assert warned(result, "overflow") == {1}
    after = ir.to_proto(result.model)
    x = np.full((1, 2, 4, 4), 1e-3, np.float16)
    before = by_reference(conv_and_norm(np.float16, np.ones(3), gamma), {"x": x})
    got = by_reference(after, {"x": x})
    name = after.graph.output[0].name
    np.testing.assert_allclose(got[name][:, ::2], before[name][:, ::2], rtol=4 * 2.0**-11)


def test_later_float16_overflow_is_warned_about_and_still_folds() -> None:
    model = conv_and_norm(np.float32, np.ones(3), np.array([1.0, 1.0, -3.0e5]))
    result = folded(model, FoldConfig(precision="float16"))
    assert [outcome.fate for outcome in result.norms] == ["folded"]
    assert warned(result, "overflow_later") == {2}
    assert not folded(model).warnings


@pytest.mark.parametrize(("inv_scale", "gamma"), [([1, 0, 1], [1, 1, 1]), ([1, 1, 1], [1, 0, 1])])
def test_dead_channel_is_named(inv_scale: list[float], gamma: list[float]) -> None:
    result = folded(conv_and_norm(np.float32, np.array(inv_scale), np.array(gamma)))
    assert warned(result, "dead_channel") == {1}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_statistics_that_are_no_numbers_are_named_and_stay(bad: float) -> None:
    result = folded(conv_and_norm(np.float32, np.array([1.0, 1.0, bad]), np.ones(3)))
    assert [outcome.fate for outcome in result.norms] == ["live"]
    assert warned(result, "not_finite") == {2}


def test_a_norm_that_overflows_wherever_it_is_tried_is_warned_about_once() -> None:
    model = conv_and_norm(np.float16, np.ones(3), np.array([6.5e4, 1.0e38, 1.0]))
    result = folded(model)
    assert [outcome.fate for outcome in result.norms] == ["live"]
    assert [(warning.code, warning.channels) for warning in result.warnings] == [("overflow", (0, 1))]
