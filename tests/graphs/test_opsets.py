"""Operators said in the words of another operator set: ONNX Runtime computes the same of both, or it is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx.shape_inference
import onnx_ir as ir
import onnxruntime
import pytest

from normexport import norms
from normexport.errors import FoldError
from normexport.graphs.opsets import HIGHEST, LOWEST, body_in_opset, in_opset
from normexport.norms.bodies import attach_bodies
from normexport.norms.own_bodies import require_own_bodies
from tests.foreign import skip_before_onnxruntime


def model_of(opset: int, body: str, form: str = "(float[2,6,6] x) => (y)", ir_version: int = 10) -> ir.Model:
    head = f'<ir_version: {ir_version}, opset_import: ["" : {opset}, "normexport" : 1]> g '
    proto = onnx.parser.parse_model(head + form.replace("(y)", "(float y)") + " {" + body + "}")
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto))


def run(model: ir.Model) -> list[np.ndarray]:
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    if proto.ir_version > 11:
        proto.ir_version = 11
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    feeds: dict[str, Any] = {}
    for each in session.get_inputs():
        feeds[each.name] = rng.normal(size=each.shape).astype(np.float32)
    return [np.asarray(value) for value in session.run(None, feeds)]


#: A body in operator set 20 or 17, and the sets between which it says the same in other words.
REWRITTEN = {
    "sizes": (20, "axes = Constant <value = int64[2] {1, -1}>() y = ReduceMean <keepdims = 0> (x, axes)"),
    "all": (20, "y = ReduceMax <keepdims = 0, noop_with_empty_axes = 0> (x)"),
    "no axes": (20, "axes = Constant <value = int64[0] {}>() y = ReduceL2 <noop_with_empty_axes = 0> (x, axes)"),
    "read twice": (
        20,
        "axes = Constant <value = int64[1] {1}>() a = ReduceMin (x, axes) b = ReduceProd (x, axes) y = Add (a, b)",
    ),
    "sum": (20, "axes = Constant <value = int64[1] {1}>() y = ReduceSum (x, axes)"),
    "uneven": (20, "a, b, c, y = Split <axis = 1, num_outputs = 4> (x)"),
    "even": (20, "a, b, y = Split <axis = -1, num_outputs = 3> (x)"),
    "gelu": (20, "y = Gelu (x)"),
    "tanh gelu": (20, 'y = Gelu <approximate = "tanh"> (x)'),
    "resize": (
        20,
        "s = Constant <value = float[3] {1., 2., 2.}>()"
        'y = Resize <mode = "linear", antialias = 0, keep_aspect_ratio_policy = "stretch"> (x, , s)',
    ),
    "pool": (20, "y = AveragePool <kernel_shape = [2], dilations = [1]> (x)"),
    "cast": (20, "z = Cast <to = 7, saturate = 1> (x) y = Cast <to = 1> (z)"),
    "attribute axes": (17, "y = ReduceMean <axes = [0, 2], keepdims = 1> (x)"),
    "no attribute": (17, "y = ReduceSumSquare <keepdims = 0> (x)"),
    "halves": (17, "a, y = Split <axis = 1> (x)"),
    "inside": (
        20,
        "c = Constant <value = bool {1}>() y = If (c) <then_branch = t () => (float[2,1,6] p)"
        "{ k = Constant <value = int64[1] {1}>() p = ReduceMean (x, k) },"
        "else_branch = e () => (float[2,1,6] q) { l = Constant <value = int64[1] {1}>() q = ReduceMax (x, l) }>",
    ),
}


@pytest.mark.parametrize("case", REWRITTEN)
@pytest.mark.parametrize("opset", range(LOWEST, HIGHEST + 1))
def test_a_model_computes_the_same_in_every_operator_set(case: str, opset: int) -> None:
    if opset == 23:
        skip_before_onnxruntime("1.23", "knows no operator set 23")
    if case == "uneven":
        skip_before_onnxruntime("1.23", "does not part 6 into 4")
    own, body = REWRITTEN[case]
    model = model_of(own, body)
    right = run(model)
    text = str(ir.to_proto(model))
    made = in_opset(model, opset)
    assert made.graph.opset_imports[""] == opset
    for found, expected in zip(run(made), right, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    assert str(ir.to_proto(model)) == text


@pytest.mark.parametrize("old", [True, False])
def test_the_modes_of_gridsample_are_called_by_the_words_of_the_set(old: bool) -> None:
    form = "(float[1,2,5,5] x, float[1,3,3,2] grid) => (y)"
    model = model_of(17 if old else 20, f'y = GridSample <mode = "{"bicubic" if old else "cubic"}"> (x, grid)', form)
    made = in_opset(model, 20 if old else 17)
    assert made.graph[0].attributes["mode"].as_string() == ("cubic" if old else "bicubic")
    np.testing.assert_allclose(run(made)[0], run(model)[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("own", "body", "opset", "why"),
    [
        (20, "y = Mish (x)", 17, "Mish 'y' is none of its operators"),
        (20, "n = NonZero (x) a = Squeeze (n) y = ReduceMean <noop_with_empty_axes = 1> (x)", 17, "reduces no axis"),
        (20, 'c = Constant <value = int64[2] {0, 1}>() y = Pad <mode = "wrap"> (x, c)', 18, "which came with 19"),
        (20, "s = Constant <value = float[3] {1., 2., 2.}>() y = Resize <antialias = 1> (x, , s)", 17, "antialias=1"),
        (20, "y = AveragePool <kernel_shape = [2], dilations = [2]> (x)", 18, "has dilations="),
        (20, "s = Shape (x) r = Size (s) z = Constant <value = int64 {0}>() o = Constant <value = int64 {1}>()"
             "a = Range (z, r, o) y = ReduceMean (x, a)", 17, "computes its axes"),
        (18, "s = Constant <value = float[2] {1., 2.}>()"
             "y = GroupNormalization <num_groups = 2> (x, s, s)", 21, "size"),
    ],
)  # fmt: skip
def test_what_a_set_lacks_is_refused_by_the_operators_name_in_one_line(
    own: int, body: str, opset: int, why: str
) -> None:
    with pytest.raises(FoldError) as refused:
        in_opset(model_of(own, body), opset)
    assert why in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "ask for another --opset" in str(refused.value)


def test_parts_of_an_axis_of_open_size_are_refused() -> None:
    with pytest.raises(FoldError, match="open size"):
        in_opset(model_of(20, "a, y = Split <axis = 0, num_outputs = 2> (x)", "(float[N,6] x) => (y)"), 17)


def test_a_model_of_the_set_is_the_same_object_and_an_old_set_has_an_old_file_format() -> None:
    model = model_of(20, "y = Relu (x)")
    assert in_opset(model, 20) is model
    assert [in_opset(model, opset).ir_version for opset in (17, 18, 19, 20, 22, 23)] == [8, 8, 9, 10, 10, 11]
    assert in_opset(model_of(18, "y = Relu (x)"), 18).ir_version == 8


@pytest.mark.parametrize("name", sorted(norms.functions()))
@pytest.mark.parametrize("opset", [17, 18, 19, 21, 23])
def test_bodies_of_our_operators_are_to_be_had_in_every_set_and_known_as_our_own(name: str, opset: int) -> None:
    body = ir.serde.deserialize_function(norms.functions()[name])
    model = ir.Model(ir.Graph([], [], nodes=[], name="g", opset_imports={"": 20, norms.DOMAIN: 1}), ir_version=10)
    model.functions[body.identifier()] = body
    if name == "BoundedWeightNorm" and opset == 17:
        with pytest.raises(FoldError, match="computes its axes"):
            body_in_opset(body, opset, name)
        return
    body_in_opset(body, opset, name)
    model.graph.opset_imports[""] = opset
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    require_own_bodies(model)
    next(node for node in body if node.op_type == "Mul").op_type = "Add"
    with pytest.raises(FoldError, match="not this operator's"):
        require_own_bodies(model)


@pytest.mark.parametrize("opset", [17, 18, 20])
def test_bodies_are_attached_in_the_set_of_the_model(opset: int) -> None:
    form = "(float[2,6,6] x, float[6] s) => (y)"
    model = model_of(opset, "y = normexport.L1BatchNorm (x, s, s)", form, ir_version=8)
    attach_bodies(model)
    (function,) = model.functions.values()
    assert function.opset_imports[""] == opset
    x = np.random.default_rng(0).normal(size=(2, 6, 6)).astype(np.float32)
    scale = np.random.default_rng(1).normal(size=6).astype(np.float32)
    proto = ir.to_proto(model)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    exact = x.astype(np.float64)
    d = exact - exact.mean((0, 2), keepdims=True)
    stat = np.sqrt(np.pi / 2) * np.abs(d).mean((0, 2), keepdims=True) + 1e-5
    right = d / stat * scale[:, None] + scale[:, None]
    np.testing.assert_allclose(session.run(None, {"x": x, "s": scale})[0], right, rtol=1e-4, atol=1e-5)
