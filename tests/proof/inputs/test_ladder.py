"""Whole numbers are tried ever wider until the reference breaks; a candidate that breaks before it fails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from normexport.onnx_export import InputSpec
from normexport.proof import check_torch, choose_batches, compare
from normexport.proof.inputs.ladder import Tried
from normexport.runtime import Float64Runtime, OnnxRuntime

TYPES = {
    "int64": TensorProto.INT64,
    "uint8": TensorProto.UINT8,
    "int16": TensorProto.INT16,
    "uint64": TensorProto.UINT64,
}


#: Operator, inputs, output, attributes.
Step = tuple[str, list[str], str, dict[str, Any]]


def net(
    *nodes: Step,
    dtype: str = "int64",
    constants: Sequence[tuple[str, np.float32 | np.ndarray]] = (),
    shape: tuple[str, int] = ("n", 4),
) -> ir.Model:
    """A graph from the integers `x` to the floats `y`."""
    graph = helper.make_graph(
        [helper.make_node(op, ins, [out], **attributes) for op, ins, out, attributes in nodes],
        "net",
        [helper.make_tensor_value_info("x", TYPES[dtype], shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants],
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))


def scaled(by: int = TensorProto.FLOAT, dtype: str = "int64") -> ir.Model:
    """0.3 * x, the number passing through another type."""
    return net(
        ("Cast", ["x"], "a", {"to": by}),
        ("Cast", ["a"], "b", {"to": TensorProto.FLOAT}),
        ("Mul", ["b", "s"], "y", {}),
        dtype=dtype,
        constants=[("s", np.float32(0.3))],
    )


def tried(model: ir.Model, dtype: str = "int64", **options: Any) -> tuple[Tried, int]:
    spec = InputSpec("x", (4,), dtype)
    found = choose_batches(
        [spec], graph=model, own=lambda: OnnxRuntime(model), exact=lambda: Float64Runtime(model), **options
    )
    return found, int(max(batch.feeds["x"].max() for batch in found.batches))


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [("int64", -(2**63), 2**63 - 1), ("uint64", 0, 2**64 - 1), ("int16", -(2**15), 2**15 - 1), ("uint8", 0, 255)],
)
def test_a_model_that_bears_all_numbers_is_tried_at_its_types_ends(dtype: str, low: int, high: int) -> None:
    found, most = tried(scaled(dtype=dtype), dtype)
    assert most == high
    assert min(int(batch.feeds["x"].min()) for batch in found.batches) == low
    assert any(batch.feeds["x"].max() == 1 for batch in found.batches)
    assert found.notes == (f"x: whole numbers tried: {low}..{high}",)


@pytest.mark.parametrize("real", [1_764_356_369, 123_456_789, 70_000], ids=["unix time", "cents", "above float16"])
def test_half_precision_that_turns_real_numbers_into_infinities_fails(real: int) -> None:
    assert real > float(np.finfo(np.float16).max)
    report = compare(scaled(), scaled(TensorProto.FLOAT16), layers=())
    assert not report.passed
    assert any("integers to" in row.batch for row in report.outputs if not row.passed)
    assert compare(scaled(), scaled(TensorProto.DOUBLE), layers=()).passed


def test_bounds_given_by_the_user_are_all_that_is_tried() -> None:
    narrow = [InputSpec("x", (4,), "int64", bounds=(0, 1000))]
    report = compare(scaled(), scaled(TensorProto.FLOAT16), inputs=narrow, layers=())
    assert report.passed  # whole numbers below 2048 are exact in float16
    assert "x: whole numbers tried: 0..1000 as --input says" in report.notes


@pytest.mark.parametrize("rows", [3, 50, 300, 4000])
def test_a_table_behind_arithmetic_that_no_graph_shows_is_found_by_trying(rows: int) -> None:
    table = np.arange(rows, dtype=np.float32)
    model = net(
        ("Mul", ["x", "x"], "q", {}), ("Div", ["q", "x1"], "i", {}), ("Gather", ["t", "i"], "y", {}),
        constants=[("x1", np.array(1)), ("t", table)],
    )  # fmt: skip
    found, most = tried(model)
    assert most == int(np.sqrt(rows - 1))
    assert "the reference does not run" in found.notes[0]
    assert compare(model, model).passed


def test_where_the_reference_overflows_no_candidate_is_blamed() -> None:
    powers: list[Step] = [("Cast", ["x"], "a", {"to": TensorProto.FLOAT})]
    powers += [("Mul", [a, a], b, {}) for a, b in (("a", "b"), ("b", "c"), ("c", "y"))]
    found, most = tried(net(*powers))
    assert 30_000 < most < (2.0**128) ** (1 / 8)  # float32 ends at 2**128
    assert "overflows (output y)" in found.notes[0]
    assert compare(net(*powers), net(*powers)).passed


def test_numbers_that_float32_does_not_tell_apart_are_not_asked_of_a_sine() -> None:
    model = net(("Cast", ["x"], "a", {"to": TensorProto.FLOAT}), ("Sin", ["a"], "y", {}))
    found, most = tried(model)
    assert most == 2**24 - 1
    assert "off its float64" in found.notes[0]
    assert compare(model, model).passed


def test_infinities_that_were_there_before_end_no_ladder() -> None:
    """A mask of flags: log(0) is -inf from the lowest range on."""
    model = net(("Cast", ["x"], "a", {"to": TensorProto.FLOAT}), ("Log", ["a"], "y", {}), dtype="uint8")
    assert tried(model, "uint8")[1] == 255


def test_without_a_reference_to_ask_nothing_wild_is_tried() -> None:
    found = choose_batches([InputSpec("x", (4,), "int64")])
    assert max(batch.feeds["x"].max() for batch in found.batches) == 1


def test_real_inputs_come_first() -> None:
    data = {"x": np.full((3, 4), 1_764_356_369)}
    found, _ = tried(scaled(), data=data)
    assert found.batches[0].name == "real, batch 3"
    np.testing.assert_array_equal(found.batches[0].feeds["x"], data["x"])
    report = compare(scaled(), scaled(TensorProto.FLOAT16), data=data)
    assert not report.outputs[0].passed


class Embedding(nn.Module):
    def __init__(self, rows: int) -> None:
        super().__init__()
        self.table = nn.Embedding(rows, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.table(x)


@pytest.mark.parametrize("rows", [2, 37, 1000])
def test_every_row_of_a_torch_models_table_may_be_asked_for(rows: int) -> None:
    torch.manual_seed(0)
    right, wrong = Embedding(rows).eval(), Embedding(rows).eval()
    with torch.no_grad():
        wrong.table.weight.copy_(right.table.weight)
        wrong.table.weight[-1] += 1
    spec = [InputSpec("x", (4,), "int64")]
    assert check_torch(right, right, spec).passed
    assert not check_torch(right, wrong, spec).passed  # the last row is an end of the range


def test_two_inputs_that_break_only_together_are_tried_as_far_as_they_go() -> None:
    table = np.arange(300, dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["i"]), helper.make_node("Gather", ["t", "i"], ["y"])],
        "net",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["n", 4]) for name in "ab"],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(table, "t")],
    )
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))
    report = compare(model, model)
    assert report.passed
    assert any("all together" in note for note in report.notes)
