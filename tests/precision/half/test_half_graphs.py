"""Half precision of ONNX graphs that nobody writes but files hold: a valid file that is proven, or one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from normexport.errors import FoldError, UsageError
from normexport.precision import Half
from normexport.precision.half.baseline import HalfParity
from normexport.precision.half.search import halve
from normexport.precision.reduce import reduce_precision
from normexport.proof import input_specs
from normexport.runtime import OnnxRuntime

pytestmark = pytest.mark.slow

node = onnx.helper.make_node
FLOAT, HALF, DOUBLE = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE
INT64, BOOL = onnx.TensorProto.INT64, onnx.TensorProto.BOOL
W = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
PRODUCT = node("MatMul", ["x", "w"], ["y"])


def graph(
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray] | None = None,
    inputs: dict[str, int] | None = None,
    outputs: dict[str, int] | None = None,
    opset: int = 20,
) -> ir.Model:
    """A model over x (N, 4) -> y, with `w` a matrix; types by name where they differ from float32."""
    value = onnx.helper.make_tensor_value_info
    arrays = {"w": W} if constants is None else constants
    tensors = [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]
    shapes: dict[str, tuple[int | str, ...]] = {"w": (4, 4)}
    given = [value(name, kind, shapes.get(name, ("N", 4))) for name, kind in (inputs or {"x": FLOAT}).items()]
    shapes["x"] = ("N", 4)
    wanted = [value(name, kind, shapes.get(name)) for name, kind in (outputs or {"y": FLOAT}).items()]
    made = onnx.helper.make_graph(nodes, "g", given, wanted, tensors)
    opsets = [onnx.helper.make_opsetid("", opset)]
    proto = onnx.helper.make_model(made, opset_imports=opsets, ir_version=10)
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto) if nodes else proto)


def constant(array: float | np.ndarray, name: str = "k") -> dict[str, np.ndarray]:
    return {"w": W, name: np.asarray(array, np.float32)}


ODD = {
    "an output that is an input": lambda: graph([PRODUCT], outputs={"y": FLOAT, "x": FLOAT}),
    "nothing but that": lambda: graph([], {}, outputs={"x": FLOAT}),
    "an output that is a weight": lambda: graph([PRODUCT], outputs={"y": FLOAT, "w": FLOAT}),
    "a weight that is an input": lambda: graph([PRODUCT], inputs={"x": FLOAT, "w": FLOAT}),
    "integers alone": lambda: graph(
        [node("Add", ["x", "k"], ["y"])], {"k": np.arange(4)}, {"x": INT64}, outputs={"y": INT64}
    ),
    "classes": lambda: graph([PRODUCT, node("ArgMax", ["y"], ["c"], axis=1)], outputs={"c": INT64}),
    "a float16 input": lambda: graph(
        [node("Cast", ["x"], ["f"], to=FLOAT), node("MatMul", ["f", "w"], ["y"])], None, {"x": HALF}
    ),
    "float64 inside": lambda: graph(
        [node("Cast", ["x"], ["d"], to=DOUBLE), node("Mul", ["d", "k"], ["e"]), node("Cast", ["e"], ["y"], to=FLOAT)],
        {"k": np.array(3.3)},
    ),
    "a float64 output": lambda: graph(
        [PRODUCT, node("Cast", ["y"], ["d"], to=DOUBLE)], None, outputs={"d": DOUBLE, "y": FLOAT}
    ),
    "infinities": lambda: graph([PRODUCT, node("Add", ["y", "k"], ["z"])], constant(np.array([0, -np.inf, np.inf, 1]))),
    "NaN beside numbers": lambda: graph(
        [PRODUCT, node("Add", ["y", "k"], ["z"])], constant(np.array([0, np.nan, 1, 1]))
    ),
    "an empty weight": lambda: graph([PRODUCT, node("MatMul", ["x", "k"], ["z"])], constant(np.zeros((4, 0)))),
    "an output named twice": lambda: ir.from_proto(_twice()),
    "names that conversion gives": lambda: graph(
        [node("MatMul", ["x", "w_float16"], ["y_float16"]), node("Relu", ["y_float16"], ["y"])], {"w_float16": W}
    ),
    "a sequence": lambda: graph(
        [node("SplitToSequence", ["x"], ["s"], axis=1), node("ConcatFromSequence", ["s"], ["y"], axis=1)], {}
    ),
    "a scalar": lambda: graph([PRODUCT, node("ReduceSum", ["y"], ["s"], keepdims=0)], outputs={"s": FLOAT}),
    "a comparison": lambda: graph([PRODUCT, node("Greater", ["y", "k"], ["b"])], constant(1e9), outputs={"b": BOOL}),
    "a tiny epsilon": lambda: graph(
        [node("Abs", ["x"], ["a"]), node("Add", ["a", "k"], ["b"]), node("Div", ["x", "b"], ["y"])], constant(1e-12)
    ),
    "what cancels": lambda: graph(
        [node("Add", ["x", "k"], ["a"]), node("Sub", ["a", "k"], ["y"])], {"k": np.array(1000, np.float32)}
    ),
    "what overflows and comes back": lambda: graph(
        [PRODUCT, node("Mul", ["y", "k"], ["a"]), node("Div", ["a", "k"], ["z"])], constant(6e4), outputs={"z": FLOAT}
    ),
}


def _twice() -> onnx.ModelProto:
    proto = ir.to_proto(graph([node("Relu", ["x"], ["y"])], {}))
    proto.graph.output.append(proto.graph.output[0])
    return proto


@pytest.mark.parametrize("half_io", [False, True])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ODD)
def test_an_odd_graph_gives_a_valid_file_that_passes(name: str, dtype: str, half_io: bool) -> None:
    model = ODD[name]()
    reduced = reduce_precision(model, Half(dtype, dtype if half_io else "float32"), input_specs(model))
    proto = ir.to_proto(reduced.model)
    onnx.checker.check_model(proto, full_check=True)
    assert [value.name for value in proto.graph.output] == [value.name for value in model.graph.outputs]
    assert all(row.within for row in reduced.parity.outputs)


def test_the_default_of_an_input_changes_its_type_with_it() -> None:
    model = ODD["a weight that is an input"]()
    proto = ir.to_proto(halve(model, Half("float16", "float16")).model)
    assert {each.name: each.data_type for each in proto.graph.initializer} == {"w": HALF}


def test_one_of_several_outputs_that_overflows_is_kept_or_named() -> None:
    model = graph([PRODUCT, node("Mul", ["y", "k"], ["big"])], constant(1e5), outputs={"y": FLOAT, "big": FLOAT})
    reduced = reduce_precision(model, Half(), input_specs(model))
    assert reduced.precision.passed
    assert [kept.path for kept in reduced.precision.kept] == ["big"]
    with pytest.raises(UsageError, match="output big reaches"):
        reduce_precision(model, Half("float16", "float16"), input_specs(model))


def test_a_wrong_second_output_fails_without_a_torch_model() -> None:
    model = graph([PRODUCT, node("MatMul", ["y", "k"], ["z"])], constant(W.T), outputs={"y": FLOAT, "z": FLOAT})
    rule = HalfParity(None, input_specs(model), "float16", model)
    right = halve(model, Half(), [batch.feeds for batch in rule.batches], rule.accepts)
    assert rule.accepts(right)
    weight = right.model.graph.initializers["k_float16"]
    wrong = np.array(weight.const_value.numpy())
    wrong[0, 0] += 0.1
    weight.const_value = ir.Tensor(wrong, name=weight.name)
    assert not rule.accepts(right)


def _branching() -> ir.Model:
    out = onnx.helper.make_tensor_value_info("t", FLOAT, None)
    body = onnx.helper.make_graph([node("Relu", ["x"], ["t"])], "b", [], [out])
    return graph([node("If", ["k"], ["y"], then_branch=body, else_branch=body)], {"k": np.array(True)})


@pytest.mark.parametrize(
    ("make", "dtype", "words"),
    [
        (_branching, "float16", "holds a subgraph"),
        (lambda: graph([PRODUCT], opset=9), "bfloat16", "operator set 9"),
        (lambda: graph([node("RandomNormalLike", ["x"], ["y"])], {}), "float16", "random numbers"),
    ],
)
def test_what_can_not_be_converted_is_refused_in_words(make: Callable[..., Any], dtype: str, words: str) -> None:
    model = make()
    with pytest.raises(FoldError, match=words):
        reduce_precision(model, Half(dtype), input_specs(model))


def test_a_dropout_keeps_its_ratio_whatever_holds_it() -> None:
    """ONNX Runtime takes a Dropout out, and took a ratio that comes out of a Cast for what the Dropout returns."""
    dropout = [
        node("Constant", [], ["ratio"], value_float=0.4),
        node("Dropout", ["x", "ratio"], ["d"]),
        node("MatMul", ["d", "w"], ["y"]),
    ]
    for nodes, constants in ((dropout, {"w": W}), (dropout[1:], constant(0.4, "ratio"))):
        model = graph(nodes, constants, opset=13)
        x = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)
        reduced = halve(model, Half(io_dtype="float16")).model
        onnx.checker.check_model(ir.to_proto(reduced), full_check=True)
        (y,) = OnnxRuntime(reduced).run({"x": x.astype(np.float16)}).values()
        np.testing.assert_allclose(y, x @ W, rtol=2e-2, atol=2e-2)


def test_weights_in_constant_nodes_are_stored_in_half() -> None:
    model = graph([node("Constant", [], ["w"], value=onnx.numpy_helper.from_array(W)), PRODUCT], {})
    reduced = reduce_precision(model, Half(), input_specs(model)).model
    assert [value.dtype for value in reduced.graph.initializers.values()] == [ir.DataType.FLOAT16]
    assert [each.op_type for each in reduced.graph].count("Cast") == 2


def test_a_file_in_float16_is_refused_in_words() -> None:
    model = graph([PRODUCT], {"w": W.astype(np.float16)}, {"x": HALF}, {"y": HALF})
    with pytest.raises(FoldError, match=r"g: computes in float16, not in float32; give the float32 model"):
        reduce_precision(model, Half(), input_specs(model))
