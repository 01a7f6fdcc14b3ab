"""Products behind a Transpose of the first axis: turned around, the same numbers, and ONNX Runtime stands them.

Witnesses: numpy in float64, and ONNX Runtime in a process of its own.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from normexport.graphs.nodes import op
from normexport.precision.half.graph import HalfConfig, to_half
from normexport.precision.half.turned import turn_products
from normexport.runtime import Float64Runtime
from normexport.runtime.loading import crash_on_loading

SIZES = (4, 5, 6)
CRASHING = [(1, 0, 2), (1, 2, 0)]
OTHERS = [(0, 1, 2), (0, 2, 1), (2, 1, 0), (2, 0, 1)]


def product(
    perm: tuple[int, ...],
    dtype: int = TensorProto.FLOAT16,
    *,
    is_read: bool = False,
    is_left: bool = False,
    is_cast: bool = False,
    rank: int = 2,
) -> onnx.ModelProto:
    """y = T(x) W or W T(x), with T(x) an output too where `is_read`, the product in float32 where `is_cast`."""
    wide = TensorProto.FLOAT if is_cast else dtype
    storage = np.float16 if wide == TensorProto.FLOAT16 else np.float32
    rows = SIZES[perm[1]] if is_left else SIZES[perm[2]]
    shape = (3, rows) if is_left else (rows, 3)
    weight = np.random.default_rng(1).normal(size=(1,) * (rank - 2) + shape).astype(storage)
    nodes = [helper.make_node("Transpose", ["x"], ["t"], perm=perm)]
    nodes += [helper.make_node("Cast", ["t"], ["c"], to=wide)] if is_cast else []
    side = "c" if is_cast else "t"
    nodes += [helper.make_node("MatMul", ["W", side] if is_left else [side, "W"], ["y"])]
    ends = [helper.make_tensor_value_info("y", wide, ["a", "b", "c"])]
    ends += [helper.make_tensor_value_info("t", dtype, [SIZES[axis] for axis in perm])] if is_read else []
    start = helper.make_tensor_value_info("x", dtype, SIZES)
    graph = helper.make_graph(nodes, "g", [start], ends, [numpy_helper.from_array(weight, "W")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def turned(model: onnx.ModelProto) -> ir.Model:
    opened = ir.from_proto(model)
    turn_products(opened)
    onnx.checker.check_model(ir.to_proto(opened), full_check=True)
    return opened


@pytest.mark.parametrize("is_cast", [False, True])
@pytest.mark.parametrize("is_read", [False, True])
@pytest.mark.parametrize("perm", CRASHING)
def test_the_product_is_the_same_to_the_bit_and_onnx_runtime_loads_it(
    perm: tuple[int, ...], is_read: bool, is_cast: bool, tmp_path: Path
) -> None:
    model = product(perm, is_read=is_read, is_cast=is_cast)
    found = turned(model)
    x = np.random.default_rng(0).normal(size=SIZES).astype(np.float16)
    weight = numpy_helper.to_array(model.graph.initializer[0]).astype(np.float64)
    outputs = Float64Runtime(ir.to_proto(found)).run({"x": x})
    np.testing.assert_array_equal(outputs["y"], x.astype(np.float64).transpose(perm) @ weight)
    if is_read:
        np.testing.assert_array_equal(outputs["t"], x.astype(np.float64).transpose(perm))
    assert [value.name for value in found.graph.outputs] == [value.name for value in model.graph.output]
    ir.save(found, tmp_path / "turned.onnx")
    assert crash_on_loading(tmp_path / "turned.onnx") is None


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.sampled_from(CRASHING))
def test_the_identities_hold_for_all_sizes(a: int, b: int, c: int, out: int, perm: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(a * 64 + b * 16 + c * 4 + out)
    x, weight = rng.integers(-9, 9, (a, b, c)), rng.integers(-9, 9, ((a, b, c)[perm[2]], out))
    inner = x if perm == (1, 0, 2) else x.transpose(2, 1, 0)
    np.testing.assert_array_equal(x.transpose(perm) @ weight, (inner @ weight).transpose(1, 0, 2))


@pytest.mark.parametrize("perm", OTHERS)
def test_another_order_stays(perm: tuple[int, ...]) -> None:
    assert [op(node) for node in turned(product(perm)).graph] == ["Transpose", "MatMul"]


@pytest.mark.parametrize(
    "model",
    [
        product((1, 0, 2), TensorProto.FLOAT),
        product((1, 0, 2), is_left=True),
        product((1, 0, 2), rank=3),
    ],
    ids=["float32", "a matrix on the left", "several matrices"],
)
def test_what_is_no_half_product_with_one_matrix_stays(model: onnx.ModelProto) -> None:
    assert [op(node) for node in turned(model).graph] == ["Transpose", "MatMul"]


def test_half_precision_turns_them_and_bfloat16_does_not() -> None:
    model = ir.from_proto(product((1, 0, 2), TensorProto.FLOAT))
    assert [op(node) for node in to_half(model, HalfConfig("float16")).graph].count("Transpose") == 1
    operators = [op(node) for node in to_half(model, HalfConfig("float16")).graph]
    assert operators.index("MatMul") < operators.index("Transpose")
    operators = [op(node) for node in to_half(model, HalfConfig("bfloat16")).graph]
    assert operators.index("Transpose") < operators.index("MatMul")
