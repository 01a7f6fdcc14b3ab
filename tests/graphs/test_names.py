"""A value's name always means the same tensor, names of the interface never change, and metadata stays."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from normexport.folding import fold
from tests.folding.build import GraphBuilder
from tests.folding.graphs import array, folded, initializers, int64, running, value_names

SCOPES = "pkg.torch.onnx.name_scopes"


def conv(b: GraphBuilder, x: str, outputs: int = 3, inputs: int = 2) -> str:
    return b.node("Conv", [x, b.const(array(outputs, inputs, 1, 1), "weight"), b.const(array(outputs), "bias")])


def test_conv_takes_the_name_of_the_norms_output() -> None:
    b = GraphBuilder()
    y = conv(b, b.input((1, 2, 4, 4)))
    z = running(b, y, 3)
    result = folded(b, b.node("Relu", [z]))
    assert list(result.after.graph.node[0].output) == [z]
    assert y not in value_names(result.after)


def test_values_between_conv_and_norm_get_new_names() -> None:
    b = GraphBuilder()
    y = conv(b, b.input((1, 2, 4, 4)))
    pooled = b.node("AveragePool", [y], kernel_shape=[2, 2])
    z = running(b, pooled, 3)
    result = folded(b, b.node("Relu", [z]))
    assert [list(node.output) for node in result.after.graph.node[:2]] == [[f"{y}_folded"], [z]]
    assert not {y, pooled} & value_names(result.after)


def test_values_between_norm_and_linear_get_new_names_and_the_result_keeps_its_own() -> None:
    b = GraphBuilder()
    x = b.node("Relu", [b.input((2, 3, 4, 4))])
    z = running(b, x, 3)
    pooled = b.node("GlobalAveragePool", [z])
    flat = b.node("Flatten", [pooled])
    y = b.node("Gemm", [flat, b.const(array(3, 5))])
    result = folded(b, b.node("Sigmoid", [y]))
    assert not {z, pooled, flat} & value_names(result.after)
    assert {x, y} <= value_names(result.after)


def test_matmul_and_its_new_add_behind_an_identity_get_new_names() -> None:
    b = GraphBuilder()
    y = b.node("MatMul", [b.input((2, 5, 4)), b.const(array(4, 3))])
    z = b.node("Transpose", [b.node("Identity", [y])], perm=[0, 2, 1])
    for op in ("Mul", "Add"):
        z = b.node(op, [z, b.const(array(3).reshape(3, 1))])
    result = folded(b, b.node("Relu", [z]))
    assert [node.op_type for node in result.after.graph.node] == ["MatMul", "Add", "Transpose", "Relu"]
    assert y not in value_names(result.after)


def test_lowered_norm_keeps_the_name_of_its_output() -> None:
    b = GraphBuilder()
    z = running(b, b.node("Relu", [b.input((1, 3, 4, 4))]), 3)
    result = folded(b, b.node("Sigmoid", [z]))
    assert [list(node.output) for node in result.after.graph.node if node.op_type == "Add"] == [[z]]


def test_graph_outputs_keep_their_names_types_and_shapes() -> None:
    b = GraphBuilder()
    z = running(b, conv(b, b.input(("batch", 2, 4, 4))), 3)
    result = folded(b, z)
    assert result.after.graph.output[0] == result.before.graph.output[0]
    assert [each.name for each in result.after.graph.input] == ["x"]


def test_new_constants_have_derived_names_and_old_ones_are_gone() -> None:
    b = GraphBuilder()
    result = folded(b, running(b, conv(b, b.input((1, 2, 4, 4))), 3))
    assert set(initializers(result.after)) == {"weight_1_folded", "bias_2_folded"}


def test_new_names_avoid_those_that_exist() -> None:
    b = GraphBuilder()
    x = b.input((1, 2, 4, 4))
    z = running(b, conv(b, x), 3)
    b.constants["weight_1_folded"] = array(3, 1, 1)
    result = folded(b, b.node("Max", [z, "weight_1_folded"]))
    assert set(initializers(result.after)) == {"weight_1_folded", "weight_1_folded_1", "bias_2_folded"}
    np.testing.assert_array_equal(initializers(result.after)["weight_1_folded"], array(3, 1, 1))


def test_constants_that_something_else_reads_stay() -> None:
    b = GraphBuilder()
    x = b.input((1, 3, 4, 4))
    shared = b.const(array(3, 1, 1), "shared")
    y = b.node("Mul", [conv(b, x, 3, 3), shared])
    result = folded(b, b.node("Max", [y, shared]))
    np.testing.assert_array_equal(initializers(result.after)[shared], array(3, 1, 1))


def test_nodes_that_only_made_folded_constants_go() -> None:
    b = GraphBuilder()
    flat = b.const(array(3), "flat", as_node=True)
    shaped = b.node("Reshape", [flat, int64(b, 3, 1, 1)])
    y = b.node("Sub", [conv(b, b.input((1, 2, 4, 4))), shaped])
    result = folded(b, b.node("Relu", [b.node("Mul", [y, shaped])]))
    assert [node.op_type for node in result.after.graph.node] == ["Conv", "Relu"]


def with_scopes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Module paths as torch's exporter leaves them: Conv in 'conv1', everything else in 'layer1.0.bn1'."""
    for node in model.graph.node:
        inner = ["conv1"] if node.op_type == "Conv" else ["layer1", "layer1.0", "layer1.0.bn1"]
        entry = node.metadata_props.add()
        entry.key, entry.value = SCOPES, repr(["", *inner, "op"])
    return model


def test_module_paths_are_told_and_recorded_on_the_node() -> None:
    b = GraphBuilder()
    b.output(running(b, conv(b, b.input((1, 2, 4, 4))), 3))
    result = fold(ir.from_proto(with_scopes(b.model())))
    assert [outcome.path for outcome in result.norms] == ["layer1.0.bn1"]
    (node,) = result.model.graph
    assert node.name == "node_conv_3"
    assert node.metadata_props == {SCOPES: "['', 'conv1', 'op']", "normexport.folded": "layer1.0.bn1"}


def test_lowered_nodes_keep_the_norms_module_path() -> None:
    b = GraphBuilder()
    b.output(b.node("Relu", [running(b, b.node("Relu", [b.input((1, 3, 4, 4))]), 3)]))
    result = fold(ir.from_proto(with_scopes(b.model())))
    added = [node for node in result.model.graph if node.op_type in ("Mul", "Add")]
    assert [node.metadata_props[SCOPES] for node in added] == ["['', 'layer1', 'layer1.0', 'layer1.0.bn1', 'op']"] * 2


def test_unreadable_scopes_are_no_path() -> None:
    b = GraphBuilder()
    b.output(running(b, conv(b, b.input((1, 2, 4, 4))), 3))
    model = with_scopes(b.model())
    for node in model.graph.node:
        node.metadata_props[0].value = "not a list ["
    assert [outcome.path for outcome in fold(ir.from_proto(model)).norms] == [""]
