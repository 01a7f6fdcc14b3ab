"""Norms behind a concatenation go into all branches or into none."""

from __future__ import annotations

import numpy as np

from tests.folding.build import GraphBuilder
from tests.folding.graphs import A, B, array, folded, initializers, only, operators, refusal, running


def conv(b: GraphBuilder, x: str, channels: int) -> str:
    return b.node("Conv", [x, b.const(array(channels, 2, 1, 1), f"w{channels}"), b.const(array(channels), "b")])


def test_each_branch_takes_its_slice() -> None:
    b = GraphBuilder()
    x = b.input((1, 2, 4, 4))
    result = folded(b, running(b, b.node("Concat", [conv(b, x, 1), conv(b, x, 3), conv(b, x, 2)], axis=1), 6))
    assert operators(result) == ["Conv", "Conv", "Conv", "Concat"]
    assert only(result).rule == "concat"
    constants = initializers(result.after)
    for node, (start, stop) in zip(result.after.graph.node, [(0, 1), (1, 4), (4, 6)], strict=False):
        size = stop - start
        weight, bias = constants[node.input[1]], constants[node.input[2]]
        np.testing.assert_allclose(weight, array(size, 2, 1, 1) * A[start:stop, None, None, None], rtol=1e-14)
        np.testing.assert_allclose(bias, array(size) * A[start:stop] + B[start:stop], rtol=1e-14)


def test_another_axis_refuses() -> None:
    b = GraphBuilder()
    x = b.input((1, 2, 4, 4))
    reason = refusal(b, running(b, b.node("Concat", [conv(b, x, 3), conv(b, x, 3)], axis=-1), 3))
    assert "joins axis 3, the norm is on axis 1" in reason


def test_one_branch_that_refuses_refuses_for_all() -> None:
    b = GraphBuilder()
    x = b.input((1, 2, 4, 4))
    weight_before = array(3, 2, 1, 1)
    joined = b.node("Concat", [conv(b, x, 3), b.node("Relu", [conv(b, x, 2)])], axis=1)
    result = folded(b, running(b, joined, 5))
    assert "Relu" in only(result).reason
    assert operators(result) == ["Conv", "Conv", "Relu", "Concat", "Mul", "Add"]
    np.testing.assert_array_equal(initializers(result.after)["w3_1"], weight_before)


def test_branch_that_is_the_input_refuses() -> None:
    b = GraphBuilder()
    x = b.input((1, 2, 4, 4))
    assert "'x' has more than one reader" in refusal(b, running(b, b.node("Concat", [conv(b, x, 3), x], axis=1), 5))


def test_branch_joined_twice_refuses() -> None:
    b = GraphBuilder()
    y = conv(b, b.input((1, 2, 4, 4)), 3)
    assert "has more than one reader: Concat" in refusal(b, running(b, b.node("Concat", [y, y], axis=1), 6))


def test_nested_concats_are_sliced_twice() -> None:
    b = GraphBuilder()
    x = b.input((1, 2, 4, 4))
    inner = b.node("Concat", [conv(b, x, 1), conv(b, x, 2)], axis=1)
    result = folded(b, running(b, b.node("Concat", [conv(b, x, 3), inner], axis=1), 6))
    assert operators(result).count("Conv") == 3
    assert "Mul" not in operators(result)
