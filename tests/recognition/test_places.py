"""What random numbers seldom meet is seen all the same: elements that do not count, and what is cut from some size on.

The witness is ONNX Runtime on inputs in which each element in turn is the largest (`judge.each_far`).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from normexport import norms
from normexport.recognition import fold_recognised
from tests.folding.build import GraphBuilder
from tests.recognition.judge import TOLERANCE, difference

SIZES = (2, 3, 16, 16)
Change = Callable[[GraphBuilder, str], str]


def whole(b: GraphBuilder, *values: int) -> str:
    return b.const(np.array(values), keep_type=True)


def linf(b: GraphBuilder, x: str, change: Change) -> str:
    """An L-infinity instance norm whose statistic is that of `change(|d|)`."""
    d = b.node("Sub", [x, b.node("ReduceMean", [x, whole(b, 2, 3)])])
    stat = b.node("ReduceMax", [change(b, b.node("Abs", [d])), whole(b, 2, 3)])
    return b.node("Div", [d, b.node("Add", [stat, b.const(1e-3)])])


def cut_out(b: GraphBuilder, x: str, axis: int, start: int, end: int) -> str:
    return b.node("Slice", [x, whole(b, start), whole(b, end), whole(b, axis)])


def but_last_row(b: GraphBuilder, x: str) -> str:
    return cut_out(b, x, 2, 0, -1)


def but_one_element(b: GraphBuilder, x: str) -> str:
    mask = np.ones((16, 16))
    mask[5, 11] = 0
    return b.node("Mul", [x, b.const(mask)])


def one_element_more(b: GraphBuilder, x: str) -> str:
    extra = np.zeros((16, 16))
    extra[3, 2] = 1e-3
    return b.node("Add", [x, b.const(extra)])


def two_of_three_parts(b: GraphBuilder, x: str) -> str:
    parts = [cut_out(b, x, 3, start, end) for start, end in ((0, 6), (12, 16))]
    return b.node("Concat", parts, axis=3)


def in_two_parts(b: GraphBuilder, x: str) -> str:
    parts = [cut_out(b, x, 3, start, end) for start, end in ((6, 16), (0, 6))]
    return b.node("Concat", parts, axis=3)


def twice(b: GraphBuilder, x: str) -> str:
    return b.node("Tile", [x, whole(b, 1, 1, 2, 1)])


def padded(b: GraphBuilder, x: str) -> str:
    return b.node("Pad", [x, whole(b, 0, 0, 1, 1, 0, 0, 1, 1)])


@pytest.mark.parametrize("change", [but_last_row, but_one_element, two_of_three_parts])
def test_a_statistic_that_leaves_elements_out_stays(change: Change) -> None:
    b = GraphBuilder()
    b.output(linf(b, b.input(SIZES), change))
    model = b.model()
    result = fold_recognised(ir.from_proto(model), live_operators=True)
    assert not result.changed
    reasons = ("not all elements count alike", "it differs from the operator", "its statistic is none of")
    assert any(reason in each.reason for each in result.norms for reason in reasons)


@pytest.mark.parametrize("change", [in_two_parts, twice, padded])
def test_elements_in_another_order_twice_or_beside_zeros_all_count(change: Change) -> None:
    b = GraphBuilder()
    b.output(linf(b, b.input(SIZES), change))
    model = b.model()
    result = fold_recognised(ir.from_proto(model), live_operators=True)
    assert result.changed
    assert difference(model, ir.to_proto(result.model), SIZES, by_element=True) < TOLERANCE


def test_something_added_to_one_element_of_many_stays() -> None:
    b = GraphBuilder()
    b.output(linf(b, b.input(SIZES), one_element_more))
    assert not fold_recognised(ir.from_proto(b.model()), live_operators=True).changed


@pytest.mark.parametrize(
    ("start", "end", "reason"),
    [(0, 64, "cuts an axis of any length"), (-64, 1 << 40, "cuts an axis of any length"), (0, 1 << 40, "")],
)
def test_what_is_cut_from_some_size_on_stays(start: int, end: int, reason: str) -> None:
    b = GraphBuilder()
    x = b.input(("N", 3, "H", 5))
    d = b.node("Sub", [x, b.node("ReduceMean", [cut_out(b, x, 0, start, end), whole(b, 0, 2, 3)])])
    stat = b.node(
        "Mul", [b.node("ReduceMean", [b.node("Abs", [d]), whole(b, 0, 2, 3)]), b.const(math.sqrt(math.pi / 2))]
    )
    b.output(b.node("Div", [d, b.node("Add", [stat, b.const(1e-3)])]))
    result = fold_recognised(ir.from_proto(b.model()), live_operators=True)
    reasons = [each.reason for each in result.norms if each.fate == "live"]
    assert len(reasons) == 1
    assert reason in reasons[0]
    assert any(node.domain == norms.DOMAIN for node in result.model.graph) is not bool(reason)


def test_sizes_that_are_compared_stay() -> None:
    b = GraphBuilder()
    x = b.input(("N", 3, 8, 5))
    d = b.node("Sub", [x, b.node("ReduceMean", [x, whole(b, 0, 2, 3)])])
    batch = b.node("Min", [b.node("Shape", [x], start=0, end=1), whole(b, 64)])
    count = b.node("Mul", [b.node("Cast", [batch], to=11), b.const(40.0)])
    stat = b.node("Div", [b.node("ReduceSum", [b.node("Abs", [d]), whole(b, 0, 2, 3)]), count])
    b.output(b.node("Div", [d, b.node("Add", [stat, b.const(1e-3)])]))
    result = fold_recognised(ir.from_proto(b.model()), live_operators=True)
    assert not result.changed
    assert [each.reason for each in result.norms if "compares sizes" in each.reason]
