"""Constants are evaluated once, floats in float64, whole numbers in their type, where no caller overrides them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from normexport.errors import FoldError
from normexport.folding import fold
from normexport.folding.constants import Constants
from normexport.graphs.refusal import Refuse
from tests.folding.build import GraphBuilder
from tests.folding.claims import by_reference
from tests.folding.graphs import array, int64

Build = Callable[[GraphBuilder, str, str], str]

# name: a graph of two constants (2, 3), the first positive
EXPRESSIONS: dict[str, Build] = {
    "Abs": lambda b, p, q: b.node("Abs", [q]),
    "Add": lambda b, p, q: b.node("Add", [p, q]),
    "Cast": lambda b, p, q: b.node("Cast", [q], to=10),
    "Cast to int64": lambda b, p, q: b.node("Cast", [q], to=7),
    "CastLike": lambda b, p, q: b.node("CastLike", [q, b.input((1,), "like")]),
    "Concat": lambda b, p, q: b.node("Concat", [p, q], axis=1),
    "Div": lambda b, p, q: b.node("Div", [q, p]),
    "Div of int64": lambda b, p, q: b.node("Div", [int64(b, -7, 7, 8), int64(b, 2, 2, 3)]),
    "Exp": lambda b, p, q: b.node("Exp", [q]),
    "Expand": lambda b, p, q: b.node("Expand", [q, int64(b, 4, 1, 3)]),
    "Flatten": lambda b, p, q: b.node("Flatten", [q], axis=-2),
    "Identity": lambda b, p, q: b.node("Identity", [q]),
    "Log": lambda b, p, q: b.node("Log", [p]),
    "Max": lambda b, p, q: b.node("Max", [p, q, b.const(np.array(0.4))]),
    "Min": lambda b, p, q: b.node("Min", [p, q]),
    "Mul": lambda b, p, q: b.node("Mul", [p, q]),
    "Neg": lambda b, p, q: b.node("Neg", [q]),
    "Pow": lambda b, p, q: b.node("Pow", [p, q]),
    "Reciprocal": lambda b, p, q: b.node("Reciprocal", [p]),
    "ReduceL1": lambda b, p, q: b.node("ReduceL1", [q, int64(b, 1)], keepdims=0),
    "ReduceL2": lambda b, p, q: b.node("ReduceL2", [q, int64(b, 0, 1)], keepdims=1),
    "ReduceMax": lambda b, p, q: b.node("ReduceMax", [q, int64(b, -1)]),
    "ReduceMean": lambda b, p, q: b.node("ReduceMean", [q]),
    "ReduceSum": lambda b, p, q: b.node("ReduceSum", [q, int64(b, 0)]),
    "Reshape": lambda b, p, q: b.node("Reshape", [q, int64(b, 0, -1, 1)]),
    "Shape": lambda b, p, q: b.node("Shape", [q]),
    "Shape of a part": lambda b, p, q: b.node("Shape", [b.node("Unsqueeze", [q, int64(b, 0)])], start=-2, end=-1),
    "Sqrt": lambda b, p, q: b.node("Sqrt", [p]),
    "Squeeze": lambda b, p, q: b.node("Squeeze", [b.node("Unsqueeze", [q, int64(b, 0, 3)]), int64(b, 3)]),
    "Sub": lambda b, p, q: b.node("Sub", [p, q]),
    "Transpose": lambda b, p, q: b.node("Transpose", [q]),
    "Unsqueeze": lambda b, p, q: b.node("Unsqueeze", [q, int64(b, -1, 1)]),
}


def untyped(b: GraphBuilder, name: str) -> onnx.ModelProto:
    """The model with one output of any type, which nothing has checked."""
    tensors = [numpy_helper.from_array(value, key) for key, value in b.constants.items()]
    graph = helper.make_graph(b.nodes, "test", b.inputs, [helper.make_empty_tensor_value_info(name)], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


def ours(model: onnx.ModelProto) -> np.ndarray:
    graph = ir.from_proto(model).graph
    return Constants(graph).array(graph.outputs[0])


def evaluated(b: GraphBuilder, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(our array, onnx.reference's) of one value."""
    model = untyped(b, name)
    feeds = {value.name: np.zeros(1) for value in b.inputs}
    return ours(model), by_reference(model, feeds)[name]


@pytest.mark.parametrize("name", EXPRESSIONS)
@pytest.mark.parametrize("as_node", [False, True])
def test_every_operator_agrees_with_the_reference(name: str, as_node: bool) -> None:
    b = GraphBuilder()
    p, q = b.const(np.abs(array(2, 3)) + 0.1, as_node=as_node), b.const(array(2, 3), as_node=as_node)
    got, expected = evaluated(b, EXPRESSIONS[name](b, p, q))
    assert got.shape == expected.shape
    assert got.dtype in (np.float64, np.int64)
    tolerance = 1e-2 if name == "Cast" else 1e-14  # float16 on the way, by both
    np.testing.assert_allclose(got, expected.astype(np.float64), rtol=tolerance)


def test_explicit_cast_rounds_as_the_model_does() -> None:
    b = GraphBuilder()
    got, _ = evaluated(b, b.node("Cast", [b.const(np.array([0.1, 1e6]))], to=10))
    np.testing.assert_array_equal(got, [float(np.float16(0.1)), np.inf])


def test_constants_of_float32_are_computed_in_float64() -> None:
    b = GraphBuilder(np.float32)
    got, _ = evaluated(b, b.node("Sqrt", [b.const(np.array([2.0]))]))
    np.testing.assert_array_equal(got, np.sqrt([2.0]))


# operator: whole numbers, their type, and the result as the type has it: it wraps around, divisions round to zero.
WHOLE = [
    ("Add", 200, 100, np.uint8, 44),
    ("Add", 100, 100, np.int8, -56),
    ("Add", 2**31 - 1, 1, np.int32, -(2**31)),
    ("Add", 2**32 - 1, 2, np.uint32, 1),
    ("Add", 2**63 + 1, 2**62, np.uint64, 2**63 + 2**62 + 1),
    ("Sub", 3, 5, np.uint8, 254),
    ("Sub", 0, 1, np.uint64, 2**64 - 1),
    ("Mul", 100, 100, np.int8, 16),
    ("Mul", 2**16, 2**16, np.uint32, 0),
    ("Mul", 2**40 + 1, 2**20 + 1, np.int64, 2**60 + 2**40 + 2**20 + 1),
    ("Div", -7, 2, np.int32, -3),
    ("Div", 7, -2, np.int64, -3),
    ("Div", -8, -2, np.int8, 4),
    ("Div", 2**62 + 1, 1, np.int64, 2**62 + 1),
    ("Div", 2**64 - 1, 2, np.uint64, 2**63 - 1),
    ("Max", 200, 100, np.uint8, 200),
    ("Min", -3, 100, np.int8, -3),
]


@pytest.mark.parametrize(("operator", "first", "second", "dtype", "expected"), WHOLE)
def test_whole_numbers_are_computed_in_their_own_type(
    operator: str, first: int, second: int, dtype: type[np.generic], expected: int
) -> None:
    b = GraphBuilder()
    operands = [b.const(np.array([each], dtype), keep_type=True) for each in (first, second)]
    got = ours(untyped(b, b.node(operator, operands)))
    assert got.dtype == dtype
    assert got.tolist() == [expected]


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64])
def test_sums_and_maxima_of_whole_numbers_keep_their_type_and_means_are_left_alone(dtype: type) -> None:
    values: np.ndarray = np.array([200, 100, 3], dtype)
    b = GraphBuilder()
    got = ours(untyped(b, b.node("ReduceSum", [b.const(values, keep_type=True)])))
    assert got.dtype == dtype
    assert got.tolist() == [303 % 256 if dtype is np.uint8 else 303]
    for operator in ("ReduceMean", "ReduceL1", "ReduceL2"):
        b = GraphBuilder()
        with pytest.raises(Refuse, match=f"{operator} of {np.dtype(dtype)} is not evaluated"):
            ours(untyped(b, b.node(operator, [b.const(values, keep_type=True)])))


@pytest.mark.parametrize(
    ("operator", "first", "second", "dtype"),
    [
        ("Div", 1, 0, np.int32),
        ("Div", -(2**31), -1, np.int32),
        ("Div", -(2**63), -1, np.int64),
        ("Pow", 2, 3, np.int64),
        ("Add", 1, 0, np.bool_),
    ],
)
def test_what_onnx_does_not_define_of_whole_numbers_is_refused(
    operator: str, first: int, second: int, dtype: type[np.generic]
) -> None:
    b = GraphBuilder()
    operands = [b.const(np.array([each], dtype), keep_type=True) for each in (first, second)]
    with pytest.raises(Refuse):
        ours(untyped(b, b.node(operator, operands)))


@pytest.mark.parametrize(("value", "to"), [(300.0, 2), (-1.0, 2), (np.nan, 7), (2.0**63, 7), (np.inf, 6), (128.5, 3)])
def test_casts_of_what_the_target_does_not_hold_are_refused(value: float, to: int) -> None:
    b = GraphBuilder()
    with pytest.raises(Refuse, match=r"it casts numbers that u?int"):
        ours(untyped(b, b.node("Cast", [b.const(np.array([value]))], to=to)))


@pytest.mark.parametrize(
    ("value", "to", "expected"), [(255.9, 2, 255), (-128.9, 3, -128), (-0.9, 2, 0), (2.0**53, 7, 2**53)]
)
def test_casts_to_whole_numbers_round_to_zero(value: float, to: int, expected: int) -> None:
    b = GraphBuilder()
    assert ours(untyped(b, b.node("Cast", [b.const(np.array([value]))], to=to))).tolist() == [expected]


def test_a_factor_computed_from_bytes_is_folded_as_the_model_computes_it() -> None:
    b = GraphBuilder(np.float32)
    byte = [b.const(np.full((3, 1, 1), each, np.uint8), keep_type=True) for each in (200, 100)]
    factor = b.node("Cast", [b.node("Add", byte)], to=1)
    y = b.node("Conv", [b.input((1, 2, 4, 4)), b.const(array(3, 2, 1, 1), "weight")])
    b.output(b.node("Mul", [y, factor]))
    model, x = b.model(), array(1, 2, 4, 4).astype(np.float32)
    expected = by_reference(model, {"x": x})[model.graph.output[0].name]
    for _ in range(3):
        model = ir.to_proto(fold(ir.from_proto(model)).model)
        got = by_reference(model, {"x": x})[model.graph.output[0].name]
        np.testing.assert_allclose(got, expected, rtol=1e-5)
    assert [node.op_type for node in model.graph.node] == ["Conv"]


@pytest.mark.parametrize(("field", "value"), [("value_float", 0.5), ("value_floats", [0.5, 2.0]), ("value_int", 3)])
def test_every_form_of_constant_node(field: str, value: Any) -> None:
    b = GraphBuilder()
    name = b.node("Constant", [], **{field: value})
    got, expected = evaluated(b, b.node("Add", [name, name]))
    np.testing.assert_array_equal(got, expected)


def test_long_chains_of_constants_do_not_exhaust_the_stack() -> None:
    b = GraphBuilder()
    name = b.const(np.array(0.0))
    one = b.const(np.array(1.0))
    for _ in range(3000):
        name = b.node("Add", [name, one])
    assert ours(untyped(b, name)) == 3000.0


@pytest.mark.parametrize("op", ["Sigmoid", "DequantizeLinear"])
def test_what_is_computed_at_inference_is_refused_by_name(op: str) -> None:
    b = GraphBuilder(np.float32)
    x = b.input((2, 3))
    name = (
        b.node(op, [x]) if op == "Sigmoid" else b.node(op, [b.node("QuantizeLinear", [x, b.const(1.0)]), b.const(1.0)])
    )
    with pytest.raises(Refuse, match=f"'{name}' .*{op} 'node_{op.lower()}"):
        ours(untyped(b, name))


def test_reshape_that_cannot_be_done_is_refused() -> None:
    b = GraphBuilder()
    name = b.node("Reshape", [b.const(array(2, 3)), int64(b, 4, 4)])
    with pytest.raises(Refuse, match="can't be evaluated"):
        ours(untyped(b, name))


def test_missing_external_data_is_one_clear_error(tmp_path: Path) -> None:
    b = GraphBuilder()
    y = b.node("Conv", [b.input((1, 2, 4, 4)), b.const(array(3, 2, 1, 1), "weight")])
    b.output(b.node("Mul", [y, b.const(array(3, 1, 1))]))
    ir.save(ir.from_proto(b.model()), tmp_path / "model.onnx", external_data="model.data", size_threshold_bytes=0)
    (tmp_path / "model.data").unlink()
    with pytest.raises(FoldError, match="its values can't be read"):
        fold(ir.load(tmp_path / "model.onnx"))
