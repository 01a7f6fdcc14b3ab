"""Where an input's numbers arrive: chains of arithmetic, undone exactly; and what is no longer that number."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normexport.proof.inputs.following import Reached, constant_numbers, uses_of
from tests.folding.build import GraphBuilder

NUMBERS = st.sampled_from([-3.0, -1.0, -0.25, 0.5, 1.0, 2.0, 7.0])
STEPS = st.lists(
    st.tuples(st.sampled_from(["Add", "Sub", "Mul", "Div", "Neg", "sub from", "Reshape", "Concat"]), NUMBERS, NUMBERS),
    max_size=6,
)


def last_use(b: GraphBuilder, y: str, dtype: type = np.float32) -> tuple[ir.Node, int, Reached] | None:
    """What arrives at a Softmax that reads the value."""
    b.output(b.node("Softmax", [y]))
    graph = ir.from_proto(b.model()).graph
    found = [use for use in uses_of(graph.inputs[0]) if use[0].op_type == "Softmax"]
    assert len(found) <= 1
    return found[0] if found else None


@given(steps=STEPS, x=st.sampled_from([-5.0, 0.0, 0.5, 3.0]))
def test_a_chain_of_arithmetic_is_undone_exactly(steps: list[tuple[str, float, float]], x: float) -> None:
    """Two columns with constants of their own: the least and the most of what is added to a common factor."""
    b = GraphBuilder(np.float32)
    y = b.input((2, 2))
    factor, added = Fraction(1), [Fraction(0), Fraction(0)]
    for kind, first, second in steps:
        if kind == "Neg":
            y, factor, added = b.node("Neg", [y]), -factor, [-each for each in added]
        elif kind in ("Reshape", "Concat"):
            more: dict[str, Any] = {"axis": 0} if kind == "Concat" else {}
            shape = [] if kind == "Concat" else [b.const(np.array([-1, 2]), keep_type=True)]
            y = b.node(kind, [y, *shape], **more)
        elif kind in ("Mul", "Div"):
            y = b.node(kind, [y, b.const(np.array(first))])
            by = Fraction(first) if kind == "Mul" else 1 / Fraction(first)
            factor, added = factor * by, [each * by for each in added]
        else:
            pair = [Fraction(first), Fraction(second)]
            constant = b.const(np.array([first, second]))
            y = b.node("Add" if kind == "Add" else "Sub", [constant, y] if kind == "sub from" else [y, constant])
            sign = -1 if kind == "Sub" else 1
            if kind == "sub from":
                factor, added = -factor, [-each for each in added]
            added = [each + sign * own for each, own in zip(added, pair, strict=True)]
    use = last_use(b, y)
    assert use is not None
    reached = use[2]
    assert reached.linear
    assert reached.whole
    assert reached.factor == factor
    assert reached.least <= min(added)
    assert reached.most >= max(added)
    if sum(kind in ("Add", "Sub", "sub from") for kind, _, _ in steps) <= 1:
        assert (reached.least, reached.most) == (min(added), max(added))
    value = factor * Fraction(x) + reached.least
    assert reached.at(value) == x
    assert reached.at(factor * Fraction(x) + reached.most, of_least=False) == x


FUNCTIONS: tuple[tuple[str, list[np.ndarray], bool], ...] = (
    ("Mul", [np.array([1.0, 2.0])], False),  # another factor in each column
    ("Mul", [np.array(0.0)], False),
    ("Div", [np.array(0.0)], False),
    ("Mul", [np.array(np.inf)], False),
    ("Add", [np.array(np.nan)], False),
    ("Clip", [np.array(0.0)], False),
    ("Abs", [], False),
    ("Relu", [], False),
    ("Max", [np.array(1.0)], False),
    ("Floor", [], True),
    ("Flatten", [], True),
)


@pytest.mark.parametrize(("kind", "operands", "linear"), FUNCTIONS)
def test_what_is_not_a_times_x_plus_b_says_so(kind: str, operands: list[np.ndarray], linear: bool) -> None:
    b = GraphBuilder(np.float32)
    y = b.node(kind, [b.input((2, 2)), *(b.const(each) for each in operands)])
    use = last_use(b, b.node("Add", [y, b.const(np.array(1.0))]))
    assert use is not None
    assert use[2].linear is linear


def test_a_number_divided_by_the_input_is_not_linear_and_a_sum_with_itself_is_not_either() -> None:
    for kind in ("Div", "Add"):
        b = GraphBuilder(np.float32)
        x = b.input((2, 2))
        use = last_use(b, b.node(kind, [b.const(np.array(3.0)) if kind == "Div" else x, x]))
        assert use is not None
        assert not use[2].linear


@pytest.mark.parametrize("position", [1, 2])
def test_what_a_where_hands_on_may_be_another_number(position: int) -> None:
    b = GraphBuilder(np.float32)
    x = b.input((2, 2))
    other = b.const(np.array(7.0))
    condition = b.node("Greater", [b.const(np.ones((2, 2))), other])
    y = b.node("Where", [condition, *([x, other] if position == 1 else [other, x])])
    use = last_use(b, b.node("Neg", [b.node("Add", [y, other])]))
    assert use is not None
    assert (use[2].linear, use[2].whole) == (True, False)
    assert (use[2].factor, use[2].least) == (Fraction(-1), Fraction(-7))


def test_what_a_condition_chooses_is_not_its_number() -> None:
    b = GraphBuilder(np.float32)
    other = b.const(np.array(7.0))
    use = last_use(b, b.node("Where", [b.input((2, 2)), other, other]))
    assert use is not None
    assert not use[2].linear


@pytest.mark.parametrize("ends", [("ReduceMax", False), ("ReduceMin", False), ("Flatten", True)])
def test_the_largest_of_several_is_not_each_of_them(ends: tuple[str, bool]) -> None:
    b = GraphBuilder(np.float32)
    use = last_use(b, b.node(ends[0], [b.input((2, 2))]))
    assert use is not None
    assert use[2].whole is ends[1]


def test_operators_of_other_domains_hand_on_nothing() -> None:
    b = GraphBuilder(np.float32)
    b.output(b.node("Softmax", [b.node("Identity", [b.input((2, 2))])]))
    proto = b.model()
    proto.graph.node[0].domain = "mine"
    assert list(uses_of(ir.from_proto(proto).graph.inputs[0])) == []


def test_constants_are_looked_at_where_they_are_finite_numbers_and_not_many() -> None:
    def read(array: np.ndarray) -> bool:
        value = ir.Value(name="c", const_value=ir.Tensor(array))
        return constant_numbers(value) is not None

    assert all(read(each) for each in (np.ones(3), np.array(2), np.zeros(1 << 20, np.uint8)))
    odd = (np.array([1, np.nan]), np.array(np.inf), np.zeros((1 << 20) + 1, np.uint8), np.zeros(0), np.array(True))
    assert not any(read(each) for each in odd)
    assert constant_numbers(None) is None
