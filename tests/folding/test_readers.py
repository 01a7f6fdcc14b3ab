"""What counts as a norm, and what map it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from normexport.folding import fold
from tests.folding.build import GraphBuilder
from tests.folding.graphs import array, folded, int64, only, operand, operators, refusal

C = np.array([0.5, -2.0, 3.0])


def conv(b: GraphBuilder, channels: int = 3) -> str:
    return b.node("Conv", [b.input((1, 2, 3, 3)), b.const(np.ones((channels, 2, 1, 1)))])


@pytest.mark.parametrize(
    ("op", "first", "a", "shift"),
    [
        ("Add", False, np.ones(3), C),
        ("Add", True, np.ones(3), C),
        ("Sub", False, np.ones(3), -C),
        ("Sub", True, -np.ones(3), C),
        ("Mul", False, C, np.zeros(3)),
        ("Mul", True, C, np.zeros(3)),
        ("Div", False, 1 / C, np.zeros(3)),
    ],
)
def test_each_step_either_way_round(op: str, first: bool, a: np.ndarray, shift: np.ndarray) -> None:
    b = GraphBuilder()
    y = b.node("Mul", [conv(b), b.const(np.array([2.0, 4.0, 8.0]).reshape(3, 1, 1))])  # makes a lone Add a norm
    constant = b.const(C.reshape(3, 1, 1))
    result = folded(b, b.node(op, [constant, y] if first else [y, constant]))
    assert operators(result) == ["Conv"]
    np.testing.assert_allclose(operand(result, "Conv", 1)[:, 0, 0, 0], a * [2.0, 4.0, 8.0], rtol=1e-15)
    node = result.after.graph.node[0]
    assert (len(node.input) > 2) == bool(np.any(shift))
    if np.any(shift):
        np.testing.assert_allclose(operand(result, "Conv", 2), shift, rtol=1e-15)


def test_constant_divided_by_the_tensor_is_no_step() -> None:
    b = GraphBuilder()
    result = folded(b, b.node("Div", [b.const(C.reshape(3, 1, 1)), conv(b)]))
    assert not result.result.norms


@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 3, 1, 1)])
def test_shapes_that_mean_channels(shape: tuple[int, ...]) -> None:
    b = GraphBuilder()
    assert operators(folded(b, b.node("Mul", [conv(b), b.const(C.reshape(shape))]))) == ["Conv"]


@pytest.mark.parametrize("shape", [(3,), (1, 3), (3, 1), (1, 1, 1, 3), (1, 1, 3, 1)])
def test_shapes_along_other_axes_are_no_norm_of_the_channels_though_sizes_agree(shape: tuple[int, ...]) -> None:
    b = GraphBuilder()
    result = folded(b, b.node("Mul", [conv(b), b.const(C.reshape(shape))]))
    axis = 4 - len(shape) + shape.index(3)
    assert f"Conv 'node_conv_2' works on axis 1, the norm on axis {axis}" in only(result).reason
    assert not result.result.changed


def test_constant_of_higher_rank_than_the_tensor_is_no_norm() -> None:
    b = GraphBuilder()
    y = b.node("Gemm", [b.input((2, 4)), b.const(array(4, 3))])
    assert not folded(b, b.node("Mul", [y, b.const(C.reshape(1, 1, 3))])).result.norms


@pytest.mark.parametrize(("shape", "rank"), [((3,), 2), ((1, 3), 2), ((3, 1), 3), ((1, 3, 1), 3), ((1, 3, 1, 1, 1), 5)])
def test_channel_shapes_of_other_ranks(shape: tuple[int, ...], rank: int) -> None:
    b = GraphBuilder()
    if rank == 2:
        y = b.node("Gemm", [b.input((2, 4)), b.const(array(4, 3))])
    else:
        y = b.node("Conv", [b.input((1, 2, *[3] * (rank - 2))), b.const(array(3, 2, *[1] * (rank - 2)))])
    assert len(operators(folded(b, b.node("Mul", [y, b.const(C.reshape(shape))])))) == 1


def test_scalars_join_a_chain_but_make_none() -> None:
    b = GraphBuilder()
    y = b.node("Mul", [b.node("Sub", [conv(b), b.const(C.reshape(3, 1, 1))]), b.const(np.array(0.5))])
    assert operators(folded(b, b.node("Add", [b.const(np.ones((1, 1, 1, 1))), y]))) == ["Conv"]
    b = GraphBuilder()
    y = b.node("Mul", [b.node("Relu", [conv(b)]), b.const(np.array(0.5))])
    result = folded(b, b.node("Add", [y, b.const(np.array([1.0]))]))
    assert not result.result.norms
    assert not result.result.changed


def test_single_channel_makes_its_constants_channels() -> None:
    b = GraphBuilder()
    result = folded(b, b.node("Mul", [conv(b, 1), b.const(np.full((1, 1, 1), 3.0))]))
    assert operators(result) == ["Conv"]


def test_constants_computed_by_nodes_are_constants() -> None:
    b = GraphBuilder()
    flat = b.const(C)
    shaped = b.node("Unsqueeze", [flat, b.const(np.array([1, 2]), keep_type=True)])
    root = b.node("Sqrt", [b.node("Add", [b.node("Mul", [shaped, shaped]), b.const(np.array(1e-5))])])
    result = folded(b, b.node("Div", [conv(b), root]))
    assert operators(result) == ["Conv"]
    np.testing.assert_allclose(operand(result, "Conv", 1)[:, 0, 0, 0], 1 / np.sqrt(C**2 + 1e-5), rtol=1e-14)


@pytest.mark.parametrize(
    ("equation", "folds"),
    [("nchw,c->nchw", True), ("nchw, c -> nchw", True), ("nchw,w->nchw", False), ("nchw,c->nhwc", False)],
)
def test_an_einsum_with_a_vector_of_channels_is_a_scale(equation: str, folds: bool) -> None:
    b = GraphBuilder()
    result = folded(b, b.node("Relu", [b.node("Einsum", [conv(b), b.const(C)], equation=equation)]))
    assert (operators(result) == ["Conv", "Relu"]) == folds


def test_integers_are_no_norms() -> None:
    b = GraphBuilder()
    x = b.node("Cast", [conv(b)], to=onnx.TensorProto.INT64)
    y = b.node("Mul", [x, b.const(np.array([1, 2, 3]).reshape(3, 1, 1), keep_type=True)])
    assert not folded(b, b.node("Cast", [y], to=onnx.TensorProto.DOUBLE)).result.norms


def test_two_runs_are_two_norms_if_something_reads_between() -> None:
    b = GraphBuilder()
    y = b.node("Mul", [conv(b), b.const(C.reshape(3, 1, 1))])
    z = b.node("Sub", [y, b.const(C.reshape(3, 1, 1))])
    result = folded(b, z, y)
    assert [outcome.fate for outcome in result.result.norms] == ["folded", "lowered"]


def test_shapes_are_inferred_where_the_file_has_none() -> None:
    b = GraphBuilder()
    y = b.node("Relu", [conv(b)])
    y = b.node("Sub", [b.node("Conv", [y, b.const(array(3, 3, 2, 2))]), b.const(C.reshape(3, 1, 1))])
    assert operators(folded(b, y, infer=False)) == ["Conv", "Relu", "Conv"]


def test_unknown_rank_refuses_in_words() -> None:
    b = GraphBuilder()
    kept = b.node("Compress", [int64(b, 1, 3, 1, 1), b.node("Cast", [b.input((4,), "mask")], to=onnx.TensorProto.BOOL)])
    y = b.node("Reshape", [b.input((1, 3, 1, 1)), kept])
    b.output(b.node("Mul", [y, b.const(C.reshape(1, 3, 1, 1))]))
    result = fold(ir.from_proto(b.model(infer=False)))
    assert not result.changed
    assert result.norms[0].fate == "live"
    assert f"the rank of '{y}' is unknown" in result.norms[0].reason


# ---- BatchNormalization -----------------------------------------------------------------------------------------


def batchnorm(b: GraphBuilder, y: str, outputs: int = 1, **attrs: Any) -> str:
    parameters = [b.const(value) for value in (C, C + 1, C - 1, np.abs(C))]
    return b.node("BatchNormalization", [y, *parameters], outputs=outputs, **attrs)


@pytest.mark.parametrize("epsilon", [None, 0.25])
def test_batchnorm_folds_with_its_epsilon(epsilon: float | None) -> None:
    b = GraphBuilder()
    attributes: dict[str, Any] = {} if epsilon is None else {"epsilon": epsilon}
    result = folded(b, batchnorm(b, conv(b), **attributes))
    a = C / np.sqrt(np.abs(C) + (np.float32(1e-5) if epsilon is None else epsilon))
    np.testing.assert_allclose(operand(result, "Conv", 1)[:, 0, 0, 0], a, rtol=1e-14)
    np.testing.assert_allclose(operand(result, "Conv", 2), C + 1 - a * (C - 1), rtol=1e-13)
    assert only(result).kind == "batchnorm"


def test_batchnorm_in_training_mode_is_live() -> None:
    b = GraphBuilder()
    b.output(batchnorm(b, conv(b), outputs=3, training_mode=1))
    result = fold(ir.from_proto(b.model()))
    assert (result.norms[0].fate, result.changed) == ("live", False)
    assert "is in training mode" in result.norms[0].reason


def old_model(opset: int, *more: str, **attrs: Any) -> onnx.ModelProto:
    b = GraphBuilder()
    b.output(batchnorm(b, conv(b), **attrs))
    model = b.model(infer=False)
    model.opset_import[0].version = opset
    model.graph.node[-1].output.extend(more)
    model.ir_version = 8
    return model


def test_batchnorm_of_old_operator_sets() -> None:
    assert [n.fate for n in fold(ir.from_proto(old_model(9))).norms] == ["folded"]
    outcomes = [
        fold(ir.from_proto(old_model(9, "mean_out", "var_out"))).norms[0],
        fold(ir.from_proto(old_model(7, spatial=0))).norms[0],
        fold(ir.from_proto(old_model(6))).norms[0],
    ]
    assert [outcome.fate for outcome in outcomes] == ["live"] * 3
    for outcome, words in zip(outcomes, ("training mode", "spatial=0", "opset 6 is older than 7"), strict=True):
        assert words in outcome.reason


def test_negative_variance_is_no_number_and_is_named() -> None:
    b = GraphBuilder()
    parameters = [b.const(np.ones(3)) for _ in range(3)]
    y = b.node("BatchNormalization", [conv(b), *parameters, b.const(np.array([1.0, -1.0, 0.5]))])
    b.output(y)
    result = fold(ir.from_proto(b.model()))
    assert not result.changed
    assert result.norms[0].reason == "scale or shift is not a finite number in channels [1]"
    assert [(w.code, w.channels) for w in result.warnings] == [("not_finite", (1,))]


def test_batchnorm_parameters_that_are_inputs_are_live() -> None:
    b = GraphBuilder()
    y = conv(b)
    parameters = [b.input((3,), name) for name in ("gamma", "beta", "mean", "var")]
    assert "'gamma' is a graph input" in refusal(b, b.node("BatchNormalization", [y, *parameters]))


def test_unnamed_nodes_go_by_their_output() -> None:
    b = GraphBuilder()
    b.output(batchnorm(b, conv(b)))
    model = b.model()
    for node in model.graph.node:
        node.ClearField("name")
    (outcome,) = fold(ir.from_proto(model)).norms
    assert outcome.node == model.graph.node[-1].output[0]
    assert outcome.into == (model.graph.output[0].name,)
