"""Constants behind operators that onnx.reference evaluates: as ONNX Runtime computes them, and within limits."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from normexport.folding.constants import Constants
from normexport.folding.reference_ops import OPERATORS
from normexport.graphs.refusal import Refuse
from tests.folding.build import GraphBuilder
from tests.folding.graphs import array, int64

Build = Callable[[GraphBuilder, str, str], str]


def truth(b: GraphBuilder, *values: bool) -> str:
    return b.const(np.array(values), keep_type=True)


def number(b: GraphBuilder, value: float) -> str:
    return b.const(np.array(value, np.float32))


def as_float(b: GraphBuilder, name: str) -> str:
    return b.node("Cast", [name], to=1)


def last(b: GraphBuilder, count: int) -> str:
    """The name of the last of `count` outputs of the newest node."""
    return b.nodes[-1].output[count - 1]


def split(b: GraphBuilder, p: str) -> str:
    b.node("Split", [p, int64(b, 1, 2)], outputs=2, axis=1)
    return last(b, 2)


def topk(b: GraphBuilder, q: str) -> str:
    b.node("TopK", [q, int64(b, 2)], outputs=2)
    return as_float(b, last(b, 2))


ALONE = (
    "Atan Celu Ceil Cos Elu Erf Floor Gelu HardSigmoid HardSwish Hardmax LeakyRelu LogSoftmax LpNormalization Mish "
    "ReduceLogSumExp ReduceMin ReduceProd ReduceSumSquare Relu Round Selu Shrink Sigmoid Sign Sin Softmax Softplus "
    "Softsign Tanh ThresholdedRelu Trilu"
)


def alone(name: str) -> Build:
    """The operator on the second constant."""
    return lambda b, p, q: b.node(name, [q])


# name: a graph of two constants (2, 3), the first positive
EXPRESSIONS: dict[str, Build] = {
    **{name: alone(name) for name in ALONE.split()},
    "And": lambda b, p, q: as_float(b, b.node("And", [truth(b, True, False), truth(b, True, True)])),
    "ArgMax": lambda b, p, q: as_float(b, b.node("ArgMax", [q], axis=1)),
    "Clip": lambda b, p, q: b.node("Clip", [q, number(b, -0.5), number(b, 0.25)]),
    "Compress": lambda b, p, q: b.node("Compress", [q, truth(b, False, True, True)], axis=1),
    "ConstantOfShape": lambda b, p, q: b.node(
        "ConstantOfShape", [int64(b, 2, 3)], value=numpy_helper.from_array(np.array([0.7], np.float32))
    ),
    "CumSum": lambda b, p, q: b.node("CumSum", [q, b.const(np.array(1), keep_type=True)]),
    "Einsum": lambda b, p, q: b.node("Einsum", [p, q], equation="ij,kj->ik"),
    "Equal": lambda b, p, q: as_float(b, b.node("Equal", [q, q])),
    "EyeLike": lambda b, p, q: b.node("EyeLike", [q], dtype=1),
    "Gather": lambda b, p, q: b.node("Gather", [q, int64(b, 2, -1, 0)], axis=1),
    "GatherElements": lambda b, p, q: b.node("GatherElements", [q, b.const([[0, 1, 0]], keep_type=True)], axis=0),
    "GatherND": lambda b, p, q: b.node("GatherND", [q, b.const([[0, 2], [1, 1]], keep_type=True)]),
    "Gemm": lambda b, p, q: b.node("Gemm", [p, q, number(b, 0.3)], transB=1, alpha=0.5, beta=2.0),
    "Greater": lambda b, p, q: as_float(b, b.node("Greater", [p, q])),
    "MatMul": lambda b, p, q: b.node("MatMul", [b.node("Transpose", [p]), q]),
    "Mean": lambda b, p, q: b.node("Mean", [p, q, number(b, 1.0)]),
    "Mod": lambda b, p, q: b.node("Mod", [q, p], fmod=1),
    "Not": lambda b, p, q: as_float(b, b.node("Not", [truth(b, True, False)])),
    "OneHot": lambda b, p, q: b.node(
        "OneHot", [int64(b, 2, 0), b.const(np.array(3), keep_type=True), b.const([0.25, 4.0])]
    ),
    "PRelu": lambda b, p, q: b.node("PRelu", [q, p]),
    "Pad": lambda b, p, q: b.node("Pad", [q, int64(b, 0, 1, 0, 2), number(b, 0.5)]),
    "Range": lambda b, p, q: b.node("Range", [number(b, 0.0), number(b, 3.0), number(b, 1.0)]),
    "ReduceLogSum": lambda b, p, q: b.node("ReduceLogSum", [p, int64(b, 1)]),
    "ScatterElements": lambda b, p, q: b.node(
        "ScatterElements", [q, b.const([[0, 1, 0]], keep_type=True), b.const([[7.0, 8.0, 9.0]])]
    ),
    "Size": lambda b, p, q: as_float(b, b.node("Size", [q])),
    "Slice": lambda b, p, q: b.node("Slice", [q, int64(b, -1), int64(b, -9), int64(b, 1), int64(b, -2)]),
    "SpaceToDepth": lambda b, p, q: b.node("SpaceToDepth", [b.const(array(1, 1, 2, 2))], blocksize=2),
    "Split": lambda b, p, q: split(b, q),
    "Sum": lambda b, p, q: b.node("Sum", [p, q, p]),
    "Tile": lambda b, p, q: b.node("Tile", [q, int64(b, 2, 1)]),
    "TopK": lambda b, p, q: topk(b, q),
    "Where": lambda b, p, q: b.node("Where", [b.const([[True], [False]], keep_type=True), p, q]),
}


def untyped(b: GraphBuilder, name: str) -> onnx.ModelProto:
    """The model with one output, which nothing has checked."""
    tensors = [numpy_helper.from_array(value, key) for key, value in b.constants.items()]
    output = helper.make_empty_tensor_value_info(name)
    graph = helper.make_graph(b.nodes, "test", b.inputs, [output], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def ours(model: onnx.ModelProto) -> np.ndarray:
    graph = ir.from_proto(model).graph
    return Constants(graph).array(graph.outputs[0])


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_a_constant_is_what_onnx_runtime_makes_of_it(name: str) -> None:
    b = GraphBuilder(np.float32)
    p, q = b.const(np.abs(array(2, 3)) + 0.1), b.const(array(2, 3))
    model = untyped(b, EXPRESSIONS[name](b, p, q))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    expected = onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, {})[0]
    got = ours(model)
    assert got.dtype == np.float64
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=2e-6, atol=1e-7)


def test_every_operator_has_a_case_or_a_twin() -> None:
    """The rest are of a family one of which is tried."""
    twins = {
        "Acos Acosh Asin Asinh Atanh Cosh Sinh Tan": "Cos",
        "ArgMin": "ArgMax",
        "BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor": "Mod",
        "DepthToSpace": "SpaceToDepth",
        "GreaterOrEqual Less LessOrEqual": "Greater",
        "IsInf IsNaN": "Not",
        "NonZero": "TopK",
        "Or Xor": "And",
        "ScatterND": "ScatterElements",
    }
    spoken_for = {name for names in twins for name in names.split()}
    assert set(OPERATORS) == set(EXPRESSIONS) | spoken_for


def test_every_output_of_a_split_is_its_own() -> None:
    b = GraphBuilder()
    b.node("Split", [b.const(np.arange(6.0))], outputs=3, num_outputs=3)
    for position in (1, 2, 3):
        assert ours(untyped(b, last(b, position))).tolist() == [2.0 * position - 2, 2.0 * position - 1]


@pytest.mark.parametrize(("operator", "expected"), [("BitwiseAnd", 8), ("BitwiseXor", 198), ("Sum", 214)])
def test_whole_numbers_keep_their_type(operator: str, expected: int) -> None:
    b = GraphBuilder()
    operands = [b.const(np.array([each], np.uint8), keep_type=True) for each in (200, 14)]
    got = ours(untyped(b, b.node(operator, operands)))
    assert got.dtype == np.uint8
    assert got.tolist() == [expected]


HOSTILE: dict[str, Callable[[GraphBuilder], str]] = {
    "ConstantOfShape": lambda b: b.node("ConstantOfShape", [int64(b, 10**5, 10**5)]),
    "Einsum": lambda b: b.node("Einsum", [b.const(np.ones(3000))] * 3, equation="i,j,k->ijk"),
    "Einsum of a sum": lambda b: b.node("Einsum", [b.const(np.ones(9000))] * 3, equation="i,j,k->"),
    "Einsum with an ellipsis": lambda b: b.node("Einsum", [b.const(np.ones((3, 3)))], equation="...->..."),
    "Gather": lambda b: b.node(
        "Gather", [b.const(np.ones((1, 4096))), b.const(np.zeros(10**5, np.int64), keep_type=True)]
    ),
    "MatMul": lambda b: b.node("MatMul", [b.const(np.ones((9000, 1))), b.const(np.ones((1, 9000)))]),
    "OneHot": lambda b: b.node("OneHot", [int64(b, 2, 0), int64(b, 10**10), b.const([0.25, 4.0])]),
    "Pad": lambda b: b.node("Pad", [b.const(np.ones(4)), int64(b, 10**10, 0)]),
    "Range": lambda b: b.node("Range", [b.const(0.0), b.const(1e12), b.const(1.0)]),
    "Range without end": lambda b: b.node("Range", [b.const(0.0), b.const(np.inf), b.const(1.0)]),
    "Sigmoid": lambda b: b.node("Sigmoid", [b.node("ConstantOfShape", [int64(b, 10**7)])]),
    "Tile": lambda b: b.node("Tile", [b.const(np.ones(4)), int64(b, 10**10)]),
    "Tile again and again": lambda b: _tiled(b),
    "Tile by less than nothing": lambda b: b.node("Tile", [b.const(np.ones(4)), int64(b, -3)]),
    "Where": lambda b: b.node(
        "Where", [b.const(np.ones((9000, 1), bool), keep_type=True), b.const(np.ones(9000)), b.const(1.0)]
    ),
}


def _tiled(b: GraphBuilder) -> str:
    name = b.const(np.ones(4))
    for _ in range(40):
        name = b.node("Tile", [name, int64(b, 2)])
    return name


@pytest.mark.parametrize("name", HOSTILE)
def test_what_expands_beyond_the_limits_is_refused_before_it_is_made(name: str) -> None:
    b = GraphBuilder()
    model = untyped(b, HOSTILE[name](b))
    start = time.process_time()
    with pytest.raises(Refuse, match=r"MiB|evaluated"):
        ours(model)
    assert time.process_time() - start < 20  # a hang, not a timing


JUMPS: dict[str, Callable[[GraphBuilder, str], str]] = {
    "Cast": lambda b, x: b.node("Cast", [x], to=7),
    "Equal": lambda b, x: b.node("Equal", [x, b.const(1.0)]),
    "Floor": lambda b, x: b.node("Floor", [x]),
    "Greater": lambda b, x: b.node("Greater", [x, b.const(1.0)]),
    "Sign": lambda b, x: b.node("Sign", [x]),
    "TopK": lambda b, x: b.node("TopK", [b.node("Unsqueeze", [x, int64(b, 0)]), int64(b, 1)], outputs=2),
}


@pytest.mark.parametrize("name", JUMPS)
def test_what_hangs_on_the_last_digit_is_taken_of_exact_numbers_only(name: str) -> None:
    """float32(0.1) * 10 is 1 in float32 and more in float64."""
    b = GraphBuilder(np.float32)
    computed = b.node("Mul", [b.const(0.1), b.const(10.0)])
    with pytest.raises(Refuse, match="hangs on the last digit of what was computed"):
        ours(untyped(b, JUMPS[name](b, computed)))
    for exact in (b.const(0.7), b.node("Neg", [b.const(0.7)]), b.node("Mul", [b.const(3.0), b.const(4.0)])):
        ours(untyped(b, JUMPS[name](b, exact)))


def test_random_numbers_and_dropout_in_training_are_no_constants() -> None:
    b = GraphBuilder()
    training = b.const(np.array(True), keep_type=True)
    for name in (
        b.node("RandomNormal", [], shape=[3]),
        b.node("Dropout", [b.const(np.ones(3)), b.const(0.5), training]),
    ):
        with pytest.raises(Refuse, match="is computed at inference"):
            ours(untyped(b, name))
