"""What a graph allows on its integer inputs: each claim is tried on ONNX Runtime, inside and just outside."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from normexport.errors import NormExportError
from normexport.proof.inputs.integer_bounds import integer_bounds
from normexport.runtime import OnnxRuntime

ROWS = 50
CONSTANTS = {
    "table": np.zeros((ROWS, 2), np.float32),
    "five": np.array(5),
    "two": np.array(2),
    "minus": np.array(-1),
    "offsets": np.array([0, 10, 20, 30]),
    "flat": np.array([-1]),
    "half": np.array(0.5, np.float32),
    "ends": np.array([0, 1], np.float32),
    "low": np.array(0),
    "high": np.array(49),
}


#: Operator, inputs, output, attributes.
Step = tuple[str, list[str], str, dict[str, Any]]


def lookup(
    *steps: Step,
    dtype: int = TensorProto.INT64,
    last: onnx.NodeProto | None = None,
) -> ir.Model:
    """x -> the steps -> "i" -> rows of the table."""
    nodes = [helper.make_node(op, ins, [out], **attributes) for op, ins, out, attributes in steps]
    nodes.append(last or helper.make_node("Gather", ["table", "i"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", dtype, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in CONSTANTS.items()],
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))


def step(op: str, *ins: str, out: str = "i", **attributes: int) -> Step:
    return op, list(ins), out, attributes


def runs(model: ir.Model, number: int, dtype: type[np.signedinteger] = np.int64) -> bool:
    try:
        OnnxRuntime(model).run({"x": np.full((1, 4), number, dtype)})
    except NormExportError:
        return False
    return True


@pytest.mark.parametrize(
    ("steps", "low", "high"),
    [
        ([step("Identity", "x")], 0, 49),
        ([step("Add", "x", "five")], -5, 44),
        ([step("Add", "five", "x")], -5, 44),
        ([step("Sub", "x", "five")], 5, 54),
        ([step("Sub", "five", "x")], -44, 5),
        ([step("Neg", "x")], -49, 0),
        ([step("Mul", "x", "two")], 0, 24),
        ([step("Mul", "x", "minus")], -49, 0),
        ([step("Add", "x", "offsets")], 0, 19),
        ([step("Reshape", "x", "flat")], 0, 49),
        ([step("Transpose", "x", out="t"), step("Add", "t", "five")], -5, 44),
        ([step("Mul", "x", "two", out="d"), step("Add", "d", "five")], -2, 22),
    ],
    ids=lambda value: " ".join(each[0] for each in value) if isinstance(value, list) else "",
)
def test_an_index_is_bounded_by_the_rows_it_reaches_through_constant_arithmetic(
    steps: list[Step], low: int, high: int
) -> None:
    model = lookup(*steps)
    bounds = integer_bounds(model)["x"]
    assert (bounds.low, bounds.high) == (low, high)
    assert f"{ROWS} rows" in bounds.reason
    assert runs(model, low)
    assert runs(model, high)
    # ONNX counts negative indices from the end, so one end alone is refused: that where the index is too large.
    assert not (runs(model, low - 1) and runs(model, high + 1))


def test_an_index_is_bounded_through_types_and_floats() -> None:
    steps = [
        step("Cast", "x", out="f", to=TensorProto.FLOAT),
        step("Mul", "f", "half", out="g"),
        step("Floor", "g", out="h"),
        step("Cast", "h", to=TensorProto.INT64),
    ]
    model = lookup(*steps, dtype=TensorProto.INT32)
    bounds = integer_bounds(model)["x"]
    assert (bounds.low, bounds.high) == (0, 98)
    assert runs(model, 98, np.int32)
    assert not runs(model, 100, np.int32)


def test_clip_and_mod_keep_an_index_inside_so_nothing_bounds_the_input() -> None:
    assert "x" not in integer_bounds(lookup(step("Clip", "x", "low", "high")))
    assert "x" not in integer_bounds(lookup(step("Mod", "x", "high")))


def test_the_shortest_of_several_tables_bounds_the_input() -> None:
    short = helper.make_node("OneHot", ["x", "two", "ends"], ["y"])
    model = lookup(step("Gather", "table", "x", out="z"), last=short)
    assert (integer_bounds(model)["x"].low, integer_bounds(model)["x"].high) == (0, 1)


@pytest.mark.parametrize(
    "steps",
    [
        [step("ReduceMax", "x", out="m", keepdims=0), step("Range", "low", "m", "two")],
        [step("Mul", "x", "x", out="q"), step("ReduceSum", "q", out="m", keepdims=0), step("Range", "low", "m", "two")],
        [step("Gather", "x", "low", out="s"), step("ConstantOfShape", "s")],
    ],
    ids=["range", "computed", "fill"],
)
def test_an_input_that_becomes_a_size_is_tried_at_nothing_wild(
    steps: list[Step],
) -> None:
    bounds = integer_bounds(lookup(*steps, last=helper.make_node("Cast", ["i"], ["y"], to=TensorProto.FLOAT)))["x"]
    assert (bounds.low, bounds.high) == (0, 1)
    assert "size" in bounds.reason


def test_a_divisor_of_whole_numbers_is_never_zero() -> None:
    model = lookup(step("Div", "five", "x"), last=helper.make_node("Cast", ["i"], ["y"], to=TensorProto.FLOAT))
    assert (integer_bounds(model)["x"].low, integer_bounds(model)["x"].high) == (1, None)


def test_an_index_inside_a_branch_is_seen() -> None:
    then = helper.make_graph(
        [helper.make_node("Gather", ["table", "x"], ["a"])], "then", [], [helper.make_empty_tensor_value_info("a")]
    )
    other = helper.make_graph(
        [helper.make_node("Gather", ["table", "x"], ["b"])], "else", [], [helper.make_empty_tensor_value_info("b")]
    )
    fork = helper.make_node("If", ["yes"], ["y"], then_branch=then, else_branch=other)
    model = lookup(step("Greater", "five", "two", out="yes"), last=fork)
    assert integer_bounds(model)["x"].high == ROWS - 1


NEGATIVE, BEYOND = step("Less", "x", "low", out="n"), step("Greater", "x", "high", out="n")
GUARDS: dict[str, tuple[list[Step], int]] = {
    "negative": ([NEGATIVE, step("Where", "n", "low", "x")], -7),
    "beyond": ([BEYOND, step("Where", "n", "high", "x")], ROWS + 7),
    "beyond, shifted": ([BEYOND, step("Where", "n", "low", "x", out="k"), step("Add", "k", "low")], ROWS + 7),
    "a truth value": ([step("Cast", "x", out="q", to=9), step("Cast", "q", to=TensorProto.INT64)], ROWS + 7),
    "chosen by it": ([step("Cast", "x", out="q", to=9), step("Where", "q", "five", "low")], ROWS + 7),
    "of few bits": ([step("Cast", "x", out="q", to=TensorProto.UINT8), step("Cast", "q", to=7)], 256 + 7),
}


@pytest.mark.parametrize(("steps", "number"), GUARDS.values(), ids=GUARDS)
def test_where_another_number_may_stand_in_its_place_no_table_binds_the_input(steps: list[Step], number: int) -> None:
    model = lookup(*steps)
    assert runs(model, number)
    assert integer_bounds(model) == {}
    truth = any("Cast" in each[0] and each[3]["to"] == 9 for each in steps)
    bounds = integer_bounds(model, guarded=True).get("x")
    assert (bounds is None) if truth else (bounds is not None and (bounds.low, bounds.high) == (0, ROWS - 1))


def test_an_index_beside_a_guarded_one_binds_the_input() -> None:
    model = lookup(NEGATIVE, step("Where", "n", "low", "x"), step("Gather", "table", "x", out="z"))
    assert (integer_bounds(model)["x"].low, integer_bounds(model)["x"].high) == (0, ROWS - 1)
    assert not runs(model, ROWS)


def test_a_wider_type_binds_as_the_number_itself() -> None:
    model = lookup(step("Cast", "x", to=TensorProto.INT64), dtype=TensorProto.INT32)
    assert integer_bounds(model)["x"].high == ROWS - 1
