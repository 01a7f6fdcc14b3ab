"""A live norm between QuantizeLinear and DequantizeLinear becomes one integer operator that computes the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.helper as helper
import onnx_ir as ir
import pytest

from normexport import norms
from normexport.folding.integer_norms import absorb_norms
from normexport.norms import Scope
from normexport.norms.bodies import attach_bodies
from normexport.runtime import OnnxRuntime
from tests.narrow import present

KINDS = sorted(norms.KINDS)
SHAPE = (3, 4, 5, 6)
S_X, Z_X, S_Y, Z_Y, EPSILON = 0.037, -19, 0.031, 7, 0.02
SCALE = np.array([0.5, -1.25, 1.0, 0.1], np.float32)
BIAS = np.array([0.25, -0.5, 0.0, 3.0], np.float32)


def quantized_norm(
    op: str, *, x_scale: Any = S_X, zero_type: type[np.integer] = np.int8, also_read: bool = False, num_groups: int = 0
) -> ir.Model:
    """x -> Q -> DQ -> norm -> Q -> DQ -> y; with `also_read` the norm's float result is an output too."""
    grouped: dict[str, Any] = {"num_groups": num_groups} if num_groups else {}
    weights: dict[str, Any] = {"s_x": np.float32(x_scale), "z_x": zero_type(abs(Z_X) if zero_type == np.uint8 else Z_X)}
    weights |= {"s_y": np.float32(S_Y), "z_y": np.int8(Z_Y), "scale": SCALE, "bias": BIAS}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s_x", "z_x"], ["x_q"], "q_x", axis=1),
        helper.make_node("DequantizeLinear", ["x_q", "s_x", "z_x"], ["x_d"], "d_x", axis=1),
        helper.make_node(op, ["x_d", "scale", "bias"], ["n"], "norm", domain=norms.DOMAIN, epsilon=EPSILON, **grouped),
        helper.make_node("QuantizeLinear", ["n", "s_y", "z_y"], ["n_q"], "q_n"),
        helper.make_node("DequantizeLinear", ["n_q", "s_y", "z_y"], ["y"], "d_n"),
    ]
    tensor = helper.make_tensor_value_info
    outputs = [tensor(name, onnx.TensorProto.FLOAT, ["N", *SHAPE[1:]]) for name in ["y", "n"][: 1 + also_read]]
    initializers = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    inputs = [tensor("x", onnx.TensorProto.FLOAT, ["N", *SHAPE[1:]])]
    graph = helper.make_graph(nodes, "net", inputs, outputs, initializers)
    opsets = [helper.make_opsetid("", norms.OPSET), helper.make_opsetid(norms.DOMAIN, norms.VERSION)]
    model = ir.from_proto(helper.make_model(graph, opset_imports=opsets, ir_version=norms.IR_VERSION))
    attach_bodies(model)
    return model


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("name", KINDS)
def test_the_absorbed_norm_rounds_the_float64_result(name: str, scope: Scope) -> None:
    kind, groups = norms.KINDS[name], int(scope is Scope.GROUP) * 2
    model, outcomes = absorb_norms(quantized_norm(kind.op(scope), num_groups=groups))
    attach_bodies(model)
    assert operators(model) == ["QuantizeLinear", kind.quantized_op(scope), "DequantizeLinear"]
    assert [(each.node, each.reason) for each in outcomes] == [("norm", "")]
    x = np.random.default_rng(2).normal(1.5, 1.2, SHAPE).astype(np.float32)
    got = OnnxRuntime(model).run({"x": x})["y"].astype(np.float64)
    q = np.clip(np.rint(x.astype(np.float32) / np.float32(S_X)) + Z_X, -128, 127)
    values = np.float64(np.float32(S_X)) * (q - Z_X)
    scale, bias = SCALE.astype(np.float64), BIAS.astype(np.float64)
    exact = norms.reference(kind, values, scale, bias, epsilon=EPSILON, scope=scope, num_groups=groups)
    steps = exact / np.float64(np.float32(S_Y)) + Z_Y
    # float32 may fall on the other side of a half only next to it: ten roundings of values up to 200.
    low, high = (np.clip(np.rint(steps + side * 200 * 6e-7), -128, 127) for side in (-1, 1))
    found = np.rint(got / np.float64(np.float32(S_Y))) + Z_Y
    assert ((low <= found) & (found <= high)).all()
    assert (low == high).mean() > 0.99


def test_a_dequantised_input_that_others_read_stays() -> None:
    model = quantized_norm("L1BatchNorm")
    norm = next(node for node in model.graph if node.op_type == "L1BatchNorm")
    model.graph.outputs.append(present(norm.inputs[0]))
    absorbed, _ = absorb_norms(model)
    assert sorted(operators(absorbed)) == ["DequantizeLinear"] * 2 + ["QL1BatchNorm", "QuantizeLinear"]


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"x_scale": [S_X] * 4}, "scale per channel"),
        ({"zero_type": np.uint8}, "UINT8"),
        ({"also_read": True}, "graph output"),
    ],
)
def test_what_would_not_be_exact_is_refused_with_its_reason(how: dict[str, Any], reason: str) -> None:
    if "x_scale" in how:
        how = {"x_scale": np.array(how["x_scale"], np.float32)}
    model = quantized_norm("LinfBatchNorm", **how)
    absorbed, (outcome,) = absorb_norms(model)
    assert reason in outcome.reason
    assert operators(absorbed) == operators(model)


def test_a_norm_of_a_float_tensor_is_left_alone() -> None:
    model = quantized_norm("L1BatchNorm")
    norm = next(node for node in model.graph if node.op_type == "L1BatchNorm")
    norm.replace_input_with(0, model.graph.inputs[0])
    _, (outcome,) = absorb_norms(model)
    assert "not dequantised" in outcome.reason


def test_the_source_model_is_not_changed() -> None:
    model = quantized_norm("L1BatchNorm")
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    absorb_norms(model)
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before
