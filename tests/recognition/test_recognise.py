"""Where recognition looks, what it leaves alone, and what it says: on small graphs with one thing odd about each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import normexport
from normexport import norms
from normexport.recognition import fold_recognised
from tests.folding.build import GraphBuilder
from tests.recognition.judge import TOLERANCE, difference

CHANNELS = 3
SIZES = (4, CHANNELS, 6, 5)


def l1(b: GraphBuilder, x: str, axes: Sequence[int] = (0, 2, 3), column: Sequence[int] = (CHANNELS, 1, 1)) -> str:
    """An L1 norm of ordinary operators."""
    over = b.const(np.array(axes), keep_type=True)
    d = b.node("Sub", [x, b.node("ReduceMean", [x, over])])
    stat = b.node("Mul", [b.node("ReduceMean", [b.node("Abs", [d]), over]), b.const(math.sqrt(math.pi / 2))])
    z = b.node("Div", [d, b.node("Add", [stat, b.const(1e-3)])])
    scaled = b.node("Mul", [z, b.const(np.linspace(0.5, 2, math.prod(column)).reshape(column))])
    return b.node("Add", [scaled, b.const(np.linspace(-1, 1, math.prod(column)).reshape(column))])


def recognised(model: onnx.ModelProto, sizes: tuple[int | None, ...] = SIZES) -> tuple[list[str], list[str]]:
    """The operators that took the place of norms, checked against the model before; and what was said of the rest."""
    result = fold_recognised(ir.from_proto(model), live_operators=True)
    after = ir.to_proto(result.model)
    operators = [node.op_type for node in after.graph.node if node.domain == norms.DOMAIN]
    if operators:
        norms.register_schemas()
        onnx.checker.check_model(after, full_check=True)
        assert difference(model, after, sizes) < TOLERANCE
        assert not fold_recognised(result.model, live_operators=True).changed
    return operators, [each.reason for each in result.norms if each.kind != "chain" and "recognised" not in each.reason]


def test_norms_in_a_row_side_by_side_and_around_a_residual_are_each_one_operator() -> None:
    b = GraphBuilder()
    x = b.input(SIZES)
    first = l1(b, l1(b, x), (2, 3))
    b.output(b.node("Add", [first, b.node("Add", [x, l1(b, first)])]))
    assert recognised(b.model()) == (["L1BatchNorm", "L1InstanceNorm", "L1BatchNorm"], [])


def test_a_result_that_is_an_output_and_read_as_well_keeps_its_name() -> None:
    b = GraphBuilder()
    y = l1(b, b.input(SIZES))
    b.output(y, b.node("Relu", [y]))
    model = b.model()
    assert recognised(model) == (["L1BatchNorm"], [])
    result = fold_recognised(ir.from_proto(model), live_operators=True).model
    assert [value.name for value in result.graph.outputs] == [value.name for value in model.graph.output]


@pytest.mark.parametrize("sizes", [(4, 3, 6), ("N", "T", 6)])
def test_a_layer_norm_is_refused_for_its_epsilon_not_for_its_bias_or_sizes(sizes: tuple[int | str, ...]) -> None:
    b = GraphBuilder()
    x, over = b.input(sizes), b.const(np.array([2]), keep_type=True)
    d = b.node("Sub", [x, b.node("ReduceMean", [x, over])])
    variance = b.node("ReduceMean", [b.node("Mul", [d, d]), over])
    z = b.node("Div", [d, b.node("Sqrt", [b.node("Add", [variance, b.const(1e-5)])])])
    scaled = b.node("Mul", [z, b.const(np.linspace(0.5, 2, 6))])
    b.output(b.node("Add", [scaled, b.const(np.linspace(-1, 1, 6))]))
    reason = "its epsilon stands inside the root; the operators' stands beside the statistic"
    assert recognised(b.model(), (4, 3, 6)) == ([], [reason])


def test_a_mean_that_is_an_output_too_stays() -> None:
    b = GraphBuilder()
    y = l1(b, b.input(SIZES))
    b.output(y, "reducemean_2")
    assert recognised(b.model()) == ([], ["'reducemean_2' inside it is also an output of the graph"])


def test_what_nothing_reads_hides_no_norm() -> None:
    b = GraphBuilder()
    y = l1(b, b.input(SIZES))
    b.node("Exp", ["reducemean_2"])
    b.output(y)
    assert recognised(b.model()) == (["L1BatchNorm"], [])


def test_nodes_without_names_and_values_without_types_are_no_hindrance() -> None:
    b = GraphBuilder()
    b.output(l1(b, b.node("Sin", [b.input(SIZES)])))
    model = b.model(infer=False)
    for node in model.graph.node:
        node.name = ""
    assert recognised(model) == (["L1BatchNorm"], [])


@pytest.mark.parametrize(
    ("sizes", "axes", "column", "reason"),
    [
        ((4, 6, 5, CHANNELS), (0, 1, 2), (CHANNELS,), "its channels on the last axis"),
        (SIZES, (1,), (CHANNELS, 1, 1), "over axes 1 of each sample; the operators' layers are the last axes"),
        (SIZES, (0, 1, 2, 3), (CHANNELS, 1, 1), "over axes 0, 1, 2, 3"),
        ((4, "C", 6, 5), (0, 2, 3), (CHANNELS, 1, 1), "its number of channels is not stored"),
    ],
)
def test_other_axes_are_refused_with_their_name(
    sizes: tuple[int | str, ...], axes: tuple[int, ...], column: tuple[int, ...], reason: str
) -> None:
    b = GraphBuilder()
    b.output(l1(b, b.input(sizes), axes, column))
    operators, reasons = recognised(b.model())
    assert not operators
    assert len(reasons) == 1
    assert reason in reasons[0]


@pytest.mark.parametrize(
    ("sizes", "axes", "column"),
    [
        ((4, CHANNELS, 6), (2,), (6,)),
        (("N", CHANNELS, 6), (2,), (6,)),
        (("N", "T", 6), (2,), (6,)),
        (("N", 3, 4, 5), (2, 3), (4, 5)),
        (("N", 3, 4, 5), (1, 2, 3), (3, 4, 5)),
        (("N", 3, 4, 5), (1, 2, 3), (3, 1, 1)),
        (("N", 7), (1,), (7,)),
        ((3, 7), (1,), (1,)),
        (("N", "T", 40_000), (2,), (1,)),
    ],
)
def test_layer_norms_are_group_norms_of_rows(
    sizes: tuple[int | str, ...], axes: tuple[int, ...], column: tuple[int, ...]
) -> None:
    b = GraphBuilder()
    b.output(l1(b, b.input(sizes), axes, column))
    numbers = {"N": 5, "T": 4}
    shape = tuple(numbers[size] if isinstance(size, str) else size for size in sizes)
    assert recognised(b.model(), shape) == (["L1GroupNorm"], [])


def test_a_group_norm_is_recognised_through_its_reshapes() -> None:
    b = GraphBuilder()
    x = b.input((2, 4, 6, 5))
    rows = b.node("Reshape", [x, b.const(np.array([2, 2, 60]), keep_type=True)])
    normed = b.node("Reshape", [l1(b, rows, (2,), (1,)), b.const(np.array([2, 4, 6, 5]), keep_type=True)])
    b.output(normed)
    assert recognised(b.model(), (2, 4, 6, 5)) == (["L1GroupNorm"], [])


def test_groups_of_channels_that_interleave_stay() -> None:
    b = GraphBuilder()
    x = b.input((2, 4, 6, 5))
    parts = b.node("Reshape", [x, b.const(np.array([2, 2, 2, 6, 5]), keep_type=True)])
    normed = b.node("Reshape", [l1(b, parts, (1, 3, 4), (1,)), b.const(np.array([2, 4, 6, 5]), keep_type=True)])
    b.output(normed)
    operators, reasons = recognised(b.model(), (2, 4, 6, 5))
    assert not operators
    assert "with one mean and one divisor per statistic" in reasons[0]


def test_two_groups_that_differ_in_epsilon_stay() -> None:
    b = GraphBuilder()
    x = b.input((2, 4, 6, 5))
    d = b.node("Reshape", [x, b.const(np.array([2, 2, 60]), keep_type=True)])
    over = b.const(np.array([2]), keep_type=True)
    d = b.node("Sub", [d, b.node("ReduceMean", [d, over])])
    epsilon = b.const(np.array([[[1e-3], [1e-2]]]))
    z = b.node("Div", [d, b.node("Add", [b.node("ReduceMean", [b.node("Abs", [d]), over]), epsilon])])
    b.output(b.node("Reshape", [z, b.const(np.array([2, 4, 6, 5]), keep_type=True)]))
    assert recognised(b.model(), (2, 4, 6, 5)) == ([], ["its epsilon differs from channel to channel"])


def test_files_of_an_operator_set_that_has_no_bodies_are_told_to_convert() -> None:
    b = GraphBuilder()
    b.output(l1(b, b.input(SIZES)))
    model = b.model()
    model.opset_import[0].version = 17
    for node in model.graph.node:
        if node.op_type == "ReduceMean":
            del node.input[1:]
            node.attribute.append(onnx.helper.make_attribute("axes", [0, 2, 3]))
    assert recognised(model) == ([], ["opset 17 is older than 18; convert the file to a newer opset first"])


@pytest.mark.parametrize("operator", ["InstanceNormalization", "LayerNormalization"])
def test_norms_that_are_operators_of_onnx_are_listed(operator: str) -> None:
    b = GraphBuilder()
    size = CHANNELS if operator == "InstanceNormalization" else SIZES[-1]
    b.output(b.node(operator, [b.input(SIZES), b.const(np.ones(size)), b.const(np.zeros(size))]))
    operators, reasons = recognised(b.model())
    assert not operators
    assert [reason.partition(" ")[0] for reason in reasons] == [operator]


@pytest.mark.parametrize("operators", [["Softmax"], ["Relu", "Exp"]])
def test_what_does_not_normalise_is_not_listed(operators: list[str]) -> None:
    b = GraphBuilder()
    x = b.input(SIZES)
    pooled = b.node("ReduceMean", [x, b.const(np.array([2, 3]), keep_type=True)])
    largest = b.node("ReduceMax", [x, b.const(np.array([2, 3]), keep_type=True)])
    gate = b.node("Add", [pooled, largest])
    for name in operators:
        gate = b.node(name, [gate])
    b.output(b.node("Mul", [x, gate]))
    assert recognised(b.model()) == ([], [])


def test_fold_lists_a_norm_and_replaces_it_only_where_that_is_asked_for(tmp_path: Path) -> None:
    b = GraphBuilder(np.float32)
    b.output(l1(b, b.input(SIZES)))
    onnx.save(b.model(), tmp_path / "raw.onnx")
    kept = normexport.fold(tmp_path / "raw.onnx", tmp_path / "kept.onnx")
    (told,) = [norm for norm in kept.outcomes if norm.kind == "l1"]
    assert (told.fate, "recognised as L1BatchNorm" in told.reason) == ("live", True)
    assert (tmp_path / "kept.onnx").read_bytes() == (tmp_path / "raw.onnx").read_bytes()
    taken = normexport.fold(tmp_path / "raw.onnx", tmp_path / "taken.onnx", live_operators=True)
    assert taken.changed
    assert [node.op_type for node in onnx.load(tmp_path / "taken.onnx").graph.node] == ["L1BatchNorm"]
    assert [(norm.kind, norm.fate) for norm in taken.outcomes] == [("l1", "live")]
