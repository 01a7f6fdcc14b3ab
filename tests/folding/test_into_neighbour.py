"""Norms in line are one map, and a norm behind one that had to stay merges with it."""

from __future__ import annotations

import numpy as np

from tests.folding.build import GraphBuilder
from tests.folding.graphs import A, B, array, folded, operand, operators, running, scaling


def batchnorm(b: GraphBuilder, x: str, channels: int) -> str:
    constants = [b.const(array(channels)) for _ in range(3)]
    return b.node("BatchNormalization", [x, *constants, b.const(np.abs(array(channels)) + 0.1)])


def test_norms_in_line_fold_together_with_one_outcome_each() -> None:
    b, weight = GraphBuilder(), array(3, 2, 1, 1)
    y = b.node("Conv", [b.input((1, 2, 4, 4)), b.const(weight)])
    result = folded(b, running(b, running(b, y, 3), 3))
    assert operators(result) == ["Conv"]
    assert [outcome.fate for outcome in result.result.norms] == ["folded", "folded"]
    np.testing.assert_allclose(operand(result, "Conv", 1), weight * (A[:3] ** 2)[:, None, None, None], rtol=1e-14)
    np.testing.assert_allclose(operand(result, "Conv", 2), A[:3] * B[:3] + B[:3], rtol=1e-14)


def test_norms_in_line_that_cannot_fold_become_one_mul_and_add() -> None:
    b = GraphBuilder()
    y = running(b, running(b, b.node("Relu", [b.input((1, 3, 4, 4))]), 3), 3)
    result = folded(b, b.node("Relu", [y]))
    assert operators(result) == ["Relu", "Mul", "Add", "Relu"]
    np.testing.assert_allclose(operand(result, "Mul", 1).ravel(), A[:3] ** 2, rtol=1e-14)


def test_norm_behind_a_kept_batchnorm_and_a_pool_merges_into_it() -> None:
    b = GraphBuilder()
    y = batchnorm(b, b.node("Relu", [b.input((1, 3, 6, 6))]), 3)
    y = b.node("AveragePool", [y], kernel_shape=[2, 2])
    result = folded(b, b.node("Relu", [running(b, y, 3)]))
    assert operators(result) == ["Relu", "BatchNormalization", "AveragePool", "Relu"]
    kept, merged = result.result.norms
    assert (kept.fate, merged.fate, merged.rule) == ("lowered", "folded", "pool")
    assert "merged into BatchNormalization 'node_batchnormalization_6'" in merged.reason


def test_norm_behind_a_lowered_norm_and_a_pool_merges_into_it() -> None:
    b = GraphBuilder()
    y = b.node("AveragePool", [running(b, b.node("Relu", [b.input((1, 3, 6, 6))]), 3)], kernel_shape=[2, 2])
    result = folded(b, b.node("Relu", [running(b, y, 3)]))
    assert operators(result) == ["Relu", "Mul", "Add", "AveragePool", "Relu"]


def test_norm_behind_linear_layers_with_bias_adds_and_their_sum_merges_into_the_biases() -> None:
    b = GraphBuilder()
    x = b.input((2, 4))
    branches = [b.node("Add", [b.node("MatMul", [x, b.const(array(4, 3))]), b.const(array(3))]) for _ in range(2)]
    result = folded(b, running(b, b.node("Add", branches), 3))
    assert operators(result) == ["MatMul", "Add", "MatMul", "Add", "Add"]


def test_differences_with_a_constant_take_the_shift_with_its_sign() -> None:
    for first in (True, False):
        b = GraphBuilder()
        x = b.input((2, 4))
        y = b.node("MatMul", [x, b.const(array(4, 3))])
        bias = b.const(array(3))
        y = b.node("Sub", [bias, y] if first else [y, bias])
        z = b.node("Gemm", [x, b.const(array(4, 3))])
        result = folded(b, running(b, b.node("Add", [y, z]), 3))
        assert operators(result) == ["MatMul", "Sub", "Gemm", "Add"]


def test_scale_before_a_sum_takes_a_scale_but_no_shift() -> None:
    b = GraphBuilder()
    x = b.node("Relu", [b.input((1, 3, 4, 4))])
    conv = b.node("Conv", [x, b.const(array(3, 3, 1, 1))])
    total = b.node("Add", [conv, scaling(b, b.node("Sigmoid", [x]), 3)])
    result = folded(b, b.node("Relu", [running(b, total, 3)]))
    assert operators(result) == ["Relu", "Conv", "Sigmoid", "Mul", "Add", "Relu"]
