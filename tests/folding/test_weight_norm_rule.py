"""Bounded weight norm of constants becomes the weight it computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from normexport import norms
from normexport.folding import fold
from tests.folding.build import GraphBuilder
from tests.folding.graphs import array, folded, initializers, only, operand, operators, running


def bounded(b: GraphBuilder, v: np.ndarray, rho: np.ndarray, **attrs: Any) -> str:
    operands = [b.const(v, "v"), b.const(rho, "rho")]
    return b.node("BoundedWeightNorm", operands, domain=norms.DOMAIN, **attrs)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, float("inf")])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_weight_is_rho_over_the_norm_of_v(p: float, axis: int) -> None:
    b, v, rho = GraphBuilder(), array(3, 2, 3, 3), np.array([1.5])
    weight = bounded(b, v, rho, axis=axis, p=p)
    result = folded(b, b.node("Conv", [b.input((1, 2, 4, 4)), weight]))
    assert operators(result) == ["Conv"]
    if axis == -1:
        expected = 1.5 * v / np.linalg.norm(v.ravel(), p)
    else:
        slices = [np.linalg.norm(each.ravel(), p) for each in np.moveaxis(v, axis, 0)]
        expected = 1.5 * v / np.reshape(slices, [-1 if i == axis else 1 for i in range(4)])
    np.testing.assert_allclose(operand(result, "Conv", 1), expected, rtol=1e-13)


def test_weight_keeps_the_name_of_the_output() -> None:
    b = GraphBuilder()
    weight = bounded(b, array(3, 2, 1, 1), np.full((3, 1, 1, 1), 0.5), axis=0, p=2.0)
    result = folded(b, b.node("Conv", [b.input((1, 2, 4, 4)), weight]))
    assert set(initializers(result.after)) == {weight}
    assert (only(result).kind, only(result).rule, only(result).into) == ("weight", "weight_norm", ("node_conv_4",))
    assert not result.after.functions


def test_norm_behind_folds_into_the_resolved_weight_with_one_rounding() -> None:
    b, v = GraphBuilder(np.float16), array(3, 2, 1, 1).astype(np.float16)
    weight = bounded(b, v, np.full((3, 1, 1, 1), 0.3, np.float16))
    y = b.node("Conv", [b.input((1, 2, 4, 4)), weight])
    scale = np.array([1.1, 0.7, 1.3], np.float16)
    b.output(b.node("Mul", [y, b.const(scale.reshape(3, 1, 1))]))
    after = ir.to_proto(fold(ir.from_proto(b.model())).model)
    (weight_after,) = initializers(after).values()
    wide = v.astype(np.float64)
    exact = np.float64(np.float16(0.3)) * wide / np.linalg.norm(wide.reshape(3, 2), axis=1).reshape(3, 1, 1, 1)
    np.testing.assert_array_equal(
        weight_after, (exact * scale.astype(np.float64).reshape(3, 1, 1, 1)).astype(np.float16)
    )


def test_weight_that_is_an_input_stays() -> None:
    b = GraphBuilder()
    v = b.input((3, 2, 1, 1), "v")
    weight = b.node("BoundedWeightNorm", [v, b.const(np.array([1.0]))], domain=norms.DOMAIN, axis=0, p=2.0)
    result = folded(b, running(b, b.node("Conv", [b.input((1, 2, 4, 4)), weight]), 3))
    weight_norm, norm = result.result.norms
    assert (weight_norm.fate, norm.fate) == ("live", "lowered")
    assert "'v' is a graph input" in weight_norm.reason
    assert "is computed at inference by BoundedWeightNorm" in norm.reason


def test_slice_of_zero_norm_refuses_by_index() -> None:
    b, v = GraphBuilder(), array(3, 2, 1, 1)
    v[1] = 0.0
    weight = bounded(b, v, np.array([1.0]))
    b.output(b.node("Conv", [b.input((1, 2, 4, 4)), weight]))
    result = fold(ir.from_proto(b.model()))
    assert not result.changed
    assert result.norms[0].reason == "the norm of 'v_1' is zero or not a number at [1]"
