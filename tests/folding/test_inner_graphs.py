"""Norms inside branches and loops fold there; what stays, and norms inside functions, is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from normexport.folding import fold
from normexport.recognition import fold_recognised
from normexport.runtime import Float64Runtime
from tests.folding.build import GraphBuilder
from tests.folding.claims import check_fold
from tests.folding.graphs import array
from tests.foreign import skip_before_onnx

DOUBLE = TensorProto.DOUBLE
CHANNELS = 3


def info(name: str, shape: Any = None, elem: int = DOUBLE) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, elem, shape)


def tensor(name: str, values: np.ndarray) -> onnx.TensorProto:
    return numpy_helper.from_array(values, name)


def layer(x: str, y: str, prefix: str = "", weight: str = "") -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """A 1 x 1 convolution of three channels and a norm in four steps, with their constants but for a weight given."""
    steps = [("Sub", "mean"), ("Div", "deviation"), ("Mul", "gamma"), ("Add", "beta")]
    nodes = [helper.make_node("Conv", [x, weight or f"{prefix}weight"], [f"{prefix}conv"], name=f"{prefix}conv")]
    for op, constant in steps:
        made = y if op == "Add" else f"{prefix}{op.lower()}"
        nodes.append(helper.make_node(op, [nodes[-1].output[0], f"{prefix}{constant}"], [made], name=f"{prefix}{op}"))
    numbers = array(4, CHANNELS)
    numbers[1] = np.abs(numbers[1]) + 0.5
    constants = [
        tensor(f"{prefix}{name}", row.reshape(CHANNELS, 1, 1)) for (_, name), row in zip(steps, numbers, strict=True)
    ]
    own = [] if weight else [tensor(f"{prefix}weight", array(CHANNELS, CHANNELS, 1, 1))]
    return nodes, [*constants, *own]


def whole(
    nodes: list[onnx.NodeProto], inputs: list[Any], constants: list[onnx.TensorProto], opset: int = 20
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "g", inputs, [info("y", [1, CHANNELS, 4, 4])], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.checker.check_model(made, full_check=True)
    return onnx.shape_inference.infer_shapes(made, strict_mode=True, data_prop=True)


X = [info("x", [1, CHANNELS, 4, 4])]
CHOICE = [*X, info("choice", [], TensorProto.BOOL)]


def branches(
    captured: bool, weight: str = "", others: tuple[onnx.NodeProto, ...] = (), result: str = "y"
) -> onnx.ModelProto:
    """An If with a layer in each branch, whose constants lie there, or around it where `captured`."""
    bodies, around = {}, []
    for name in ("then", "else"):
        nodes, constants = layer("x", f"{name}_out", f"{name}_", weight)
        around += constants if captured else []
        inner = [] if captured else constants
        bodies[f"{name}_branch"] = helper.make_graph(nodes, name, [], [info(f"{name}_out")], inner)
    around += [tensor(weight, array(CHANNELS, CHANNELS, 1, 1))] if weight else []
    return whole([helper.make_node("If", ["choice"], [result], name="if", **bodies), *others], CHOICE, around)


def loop(count: int, nested: bool = False) -> onnx.ModelProto:
    """A Loop whose body is a layer of its state; `nested`: within an If within it, with captured constants."""
    nodes, constants = layer("state", "next")
    if nested:
        one = helper.make_graph(nodes, "one", [], [info("next")])
        other = helper.make_graph([helper.make_node("Neg", ["state"], ["other"], name="neg")], "o", [], [info("other")])
        nodes = [helper.make_node("If", ["going"], ["after"], name="if", then_branch=one, else_branch=other)]
    keep = helper.make_node("Identity", ["go"], ["going"], name="keep")
    shape = [1, CHANNELS, 4, 4]
    body = helper.make_graph(
        [keep, *nodes],
        "body",
        [info("i", [], TensorProto.INT64), info("go", [], TensorProto.BOOL), info("state", shape)],
        [info("going", [], TensorProto.BOOL), info("after" if nested else "next", shape)],
        [] if nested else constants,
    )
    looped = helper.make_node("Loop", ["count", "true", "x"], ["y"], name="loop", body=body)
    outside = [tensor("count", np.array(count, np.int64)), tensor("true", np.array(True))]
    return whole([looped], X, outside + (constants if nested else []))


def scan() -> onnx.ModelProto:
    """A Scan over the first axis: a linear layer of each row, and a norm."""
    nodes = [
        helper.make_node("MatMul", ["row", "w"], ["z"], name="linear"),
        helper.make_node("Mul", ["z", "gamma"], ["scaled"], name="scale"),
        helper.make_node("Add", ["scaled", "beta"], ["out"], name="shift"),
    ]
    constants = [tensor("w", array(4, 4)), tensor("gamma", array(4)), tensor("beta", array(1, 4))]
    body = helper.make_graph(nodes, "body", [info("row", [4, 4])], [info("out", [4, 4])], constants)
    made = helper.make_node("Scan", ["rows"], ["scanned"], name="scan", body=body, num_scan_inputs=1)
    reshape = helper.make_node("Reshape", ["scanned", "shape"], ["y"], name="reshape")
    first = helper.make_node("Squeeze", ["x", "axis"], ["rows"], name="rows")
    others = [tensor("shape", np.array([1, 3, 4, 4])), tensor("axis", np.array([0]))]
    return whole([first, made, reshape], X, others)


def feeds(choice: bool | None = None) -> dict[str, np.ndarray]:
    x = {"x": array(1, CHANNELS, 4, 4)}
    return x if choice is None else {**x, "choice": np.array(choice)}


def inner_operators(model: onnx.ModelProto) -> list[str]:
    """Operators within bodies, those within these last."""
    found, waiting = [], [a.g for node in model.graph.node for a in node.attribute if a.HasField("g")]
    for graph in waiting:
        found += [node.op_type for node in graph.node]
        waiting += [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
    return found


def check_same(before: onnx.ModelProto, after: onnx.ModelProto, given: dict[str, np.ndarray]) -> None:
    """Float64 interpreter and ONNX Runtime: the same outputs."""
    want = Float64Runtime(before).run(given)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    got = onnxruntime.InferenceSession(in_float32(after).SerializeToString(), options).run(
        None, {name: x.astype(np.float32) if x.dtype.kind == "f" else x for name, x in given.items()}
    )
    scale = np.abs(want["y"]).max()
    np.testing.assert_allclose(Float64Runtime(after).run(given)["y"], want["y"], rtol=0, atol=1e-12 * scale)
    np.testing.assert_allclose(got[0], want["y"], rtol=0, atol=1e-5 * scale)


def in_float32(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network in float32: ONNX Runtime has few kernels of float64."""
    text = onnx.ModelProto()
    text.CopyFrom(model)
    graphs = [text.graph]
    for graph in graphs:
        for each in graph.initializer:
            if each.data_type == DOUBLE:
                each.CopyFrom(tensor(each.name, numpy_helper.to_array(each).astype(np.float32)))
        for value in (*graph.input, *graph.output, *graph.value_info):
            if value.type.tensor_type.elem_type == DOUBLE:
                value.type.tensor_type.elem_type = TensorProto.FLOAT
        graphs += [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
    return text


@pytest.mark.parametrize("choice", [True, False])
@pytest.mark.parametrize("captured", [True, False])
def test_a_norm_in_each_branch_of_an_if_folds(captured: bool, choice: bool) -> None:
    before = branches(captured)
    folded = check_fold(before, feeds(choice))
    assert [(norm.fate, norm.node) for norm in folded.result.norms] == [("folded", "else_Sub"), ("folded", "then_Sub")]
    assert inner_operators(folded.after) == ["Conv", "Conv"]
    assert not folded.after.graph.initializer  # what the branches captured is theirs now
    check_same(before, folded.after, feeds(choice))


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_norm_in_the_body_of_a_loop_folds(count: int, nested: bool) -> None:
    before = loop(count, nested)
    folded = check_fold(before, feeds())
    assert [norm.fate for norm in folded.result.norms] == ["folded"]
    assert sorted(inner_operators(folded.after)) == sorted(["Identity", "Conv"] + ["If", "Neg"] * nested)
    check_same(before, folded.after, feeds())


def test_a_norm_in_the_body_of_a_scan_folds() -> None:
    skip_before_onnx("1.22", "hands the body of a Scan the rows of another axis")
    before = scan()
    folded = check_fold(before, feeds())
    assert [norm.fate for norm in folded.result.norms] == ["folded"]
    assert inner_operators(folded.after) == ["MatMul", "Add"]
    check_same(before, folded.after, feeds())


def test_a_weight_that_both_branches_read_refuses() -> None:
    before = branches(True, weight="weight")
    folded = check_fold(before, feeds(True))
    assert {norm.fate for norm in folded.result.norms} == {"lowered"}
    assert all("is shared: it is also read outside" in norm.reason for norm in folded.result.norms)
    assert inner_operators(folded.after) == ["Conv", "Mul", "Add", "Conv", "Mul", "Add"]
    check_same(before, folded.after, feeds(False))


def test_constants_that_the_graph_around_also_needs_stay_there() -> None:
    other = helper.make_node("Mul", ["chosen", "then_gamma"], ["y"], name="other")
    before = branches(True, others=(other,), result="chosen")
    folded = check_fold(before, feeds(True))
    assert [norm.fate for norm in folded.result.norms if norm.node != "other"] == ["folded", "folded"]
    assert [each.name for each in folded.after.graph.initializer] == ["then_gamma"]
    check_same(before, folded.after, feeds(True))


def test_a_norm_of_what_a_branch_captures_is_lowered_with_the_reason() -> None:
    nodes, constants = layer("x", "out")
    nodes[1].input[0] = "captured"
    body = helper.make_graph(nodes[1:], "then", [], [info("out")], constants[:4])
    other = helper.make_graph([helper.make_node("Neg", ["captured"], ["not"], name="neg")], "else", [], [info("not")])
    made = helper.make_node("If", ["choice"], ["y"], name="if", then_branch=body, else_branch=other)
    relu = helper.make_node("Relu", ["x"], ["captured"], name="relu")
    before = whole([relu, made], CHOICE, [])
    folded = check_fold(before, feeds(True))
    (norm,) = folded.result.norms
    assert norm.fate == "lowered"
    assert "'captured' comes from around the branch or loop" in norm.reason
    assert inner_operators(folded.after) == ["Neg", "Mul", "Add"]
    check_same(before, folded.after, feeds(True))


def test_new_names_in_a_body_are_new_in_the_whole_file() -> None:
    """A convolution in a branch and one around it share their bias: each gets one of its own."""
    inner = [
        helper.make_node("Conv", ["x", "weight", "bias"], ["inner_conv"], name="inner_layer"),
        helper.make_node("Mul", ["inner_conv", "gamma"], ["normed"], name="inner_norm"),
    ]
    body = helper.make_graph(inner, "then", [], [info("normed")])
    other = helper.make_graph([helper.make_node("Neg", ["x"], ["not"], name="neg")], "else", [], [info("not")])
    outer = [
        helper.make_node("If", ["choice"], ["chosen"], name="if", then_branch=body, else_branch=other),
        helper.make_node("Conv", ["x", "other_weight", "bias"], ["conv"], name="layer"),
        helper.make_node("Mul", ["conv", "gamma"], ["scaled"], name="norm"),
        helper.make_node("Sub", ["scaled", "chosen"], ["y"], name="difference"),
    ]
    numbers = array(CHANNELS, CHANNELS, 1, 1)
    constants = [tensor("weight", numbers), tensor("other_weight", numbers + 1), tensor("bias", array(CHANNELS))]
    constants.append(tensor("gamma", array(CHANNELS, 1, 1)))
    before = whole(outer, CHOICE, constants)
    after = check_fold(before, feeds(True)).after
    assert inner_operators(after) == ["Neg", "Conv"]
    names = [each.name for each in after.graph.initializer]
    names += [each.name for a in after.graph.node[0].attribute for each in a.g.initializer]
    assert len(names) == 4
    assert len(set(names)) == 4
    check_same(before, after, feeds(True))


def test_live_norms_in_a_body_are_told_and_stay() -> None:
    b = GraphBuilder()
    x = b.node("Relu", [b.input((2, CHANNELS, 4, 4))])
    nodes = [
        helper.make_node("ReduceMean", [x, "axes"], ["mean"], name="mean"),
        helper.make_node("Sub", [x, "mean"], ["centred"], name="centre"),
        helper.make_node("Abs", ["centred"], ["size"], name="abs"),
        helper.make_node("ReduceMean", ["size", "axes"], ["deviation"], name="deviation"),
        helper.make_node("Add", ["deviation", "epsilon"], ["safe"], name="safe"),
        helper.make_node("Div", ["centred", "safe"], ["live"], name="divide"),
        helper.make_node("InstanceNormalization", ["live", "one", "zero"], ["inner"], name="instance"),
    ]
    constants = [
        tensor("axes", np.array([0, 2, 3])),
        tensor("epsilon", np.array(1e-3)),
        tensor("one", np.ones(CHANNELS)),
        tensor("zero", np.zeros(CHANNELS)),
    ]
    out = info("inner")
    live = helper.make_graph(nodes, "with", [], [out], constants)
    other = helper.make_graph([helper.make_node("Neg", [x], ["inner"])], "without", [], [out])
    b.output(b.node("If", [b.input((), "x0")], then_branch=live, else_branch=other))
    b.inputs[-1].type.tensor_type.elem_type = TensorProto.BOOL
    told = {norm.node: norm for norm in fold_recognised(ir.from_proto(b.model())).norms}
    assert set(told) == {"divide", "instance"}
    assert {norm.fate for norm in told.values()} == {"live"}
    assert "recognised as L1BatchNorm" in told["divide"].reason
    assert all("it stands inside a branch or a loop, where it stays" in norm.reason for norm in told.values())


def test_norms_in_a_function_are_told() -> None:
    nodes, tensors = layer("x", "inner")
    constants = [
        helper.make_node("Constant", [], [each.name], value=each, name=f"make_{each.name}") for each in tensors
    ]
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    function = helper.make_function("own", "Block", ["x"], ["inner"], [*constants, *nodes], opsets[:1])
    call = helper.make_node("Block", ["x"], ["y"], domain="own", name="call")
    graph = helper.make_graph([call], "g", X, [info("y", [1, CHANNELS, 4, 4])])
    model = helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=10)
    (norm,) = fold(ir.from_proto(model)).norms
    assert norm.node == "Sub"
    assert "inside the function Block" in norm.reason
