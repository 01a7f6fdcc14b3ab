"""Norms behind a sum: the scale into both branches, the shift into one."""

from __future__ import annotations

import numpy as np

from tests.folding.build import GraphBuilder
from tests.folding.graphs import A, B, array, folded, initializers, only, operators, refusal, running


def conv(b: GraphBuilder, x: str, channels: int = 3) -> str:
    return b.node("Conv", [x, b.const(array(channels, 2, 1, 1)), b.const(array(channels))])


def test_scale_goes_both_ways_and_shift_once() -> None:
    b = GraphBuilder()
    x = b.input((1, 2, 4, 4))
    result = folded(b, running(b, b.node("Add", [conv(b, x), conv(b, x)]), 3))
    assert operators(result) == ["Conv", "Conv", "Add"]
    assert only(result).rule == "add"
    constants = initializers(result.after)
    biases = [constants[node.input[2]] for node in result.after.graph.node[:2]]
    np.testing.assert_allclose(biases[0], A[:3] * array(3) + B[:3], rtol=1e-14)
    np.testing.assert_allclose(biases[1], A[:3] * array(3), rtol=1e-14)


def test_branch_with_a_second_consumer_refuses() -> None:
    b = GraphBuilder()
    x = b.input((1, 2, 4, 4))
    u = conv(b, x)
    norm = running(b, b.node("Add", [u, conv(b, x)]), 3)
    assert f"'{u}' has more than one reader" in refusal(b, norm, b.node("Relu", [u]))


def test_identity_shortcut_refuses() -> None:
    b = GraphBuilder()
    x = b.input((1, 2, 4, 4))
    assert "'x' has more than one reader" in refusal(b, running(b, b.node("Add", [conv(b, x, 2), x]), 2))


def test_value_added_to_itself_refuses() -> None:
    b = GraphBuilder()
    y = conv(b, b.input((1, 2, 4, 4)))
    assert f"'{y}' has more than one reader: Add" in refusal(b, running(b, b.node("Add", [y, y]), 3))


def test_branch_that_broadcasts_channels_refuses() -> None:
    b = GraphBuilder()
    x = b.input((1, 2, 4, 4))
    reason = refusal(b, running(b, b.node("Add", [conv(b, x, 3), conv(b, x, 1)]), 3))
    assert "has 1 channels at Add 'node_add_7', the norm 3" in reason


def test_branch_that_broadcasts_over_space_takes_the_scale() -> None:
    b = GraphBuilder()
    x = b.input((1, 2, 4, 4))
    gate = b.node("GlobalAveragePool", [conv(b, x)])
    result = folded(b, running(b, b.node("Add", [gate, conv(b, x)]), 3))
    assert operators(result) == ["Conv", "GlobalAveragePool", "Conv", "Add"]


def test_branch_of_another_rank_refuses() -> None:
    b = GraphBuilder()
    x = b.input((1, 2, 3, 3))
    other = b.node("Gemm", [b.input((3, 3), "z"), b.const(array(3, 3))])
    reason = refusal(b, running(b, b.node("Add", [conv(b, x), other]), 3))
    assert "the ranks of" in reason


def test_constant_along_another_axis_refuses_though_sizes_agree() -> None:
    b = GraphBuilder()
    y = conv(b, b.input((1, 2, 3, 3)))
    constant = b.const(array(3), "along_w")
    reason = refusal(b, running(b, b.node("Add", [y, constant]), 3))
    assert "the constant of Add 'node_add_5' lies along axis 3, the norm is on axis 1" in reason


def test_difference_of_two_branches_refuses() -> None:
    b = GraphBuilder()
    x = b.input((1, 2, 4, 4))
    assert "Sub 'node_sub_7' stands before the norm" in refusal(
        b, running(b, b.node("Sub", [conv(b, x), conv(b, x)]), 3)
    )
