"""Further operators that are evaluated where all they read is constant: by onnx.reference, within limits.

`constant_ops` holds what naive exports of a norm leave between its constants and its use. The operators here occur
around weights as well: sigmoids and clips of parameters, stacked and chunked ones, masks, factorised weights. Each
has a cost, known from shapes alone, so that a file can't make a fold hang or take memory: the numbers that it makes,
times what the library takes for one.

Floating-point arrays are float64 here, and the file's own arithmetic rounds to its type. Where a result hangs on the
last digit (a comparison, Floor, a position), it is refused unless what it reads is exact: see `Constants`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from normexport.folding.per_channel import Array
from normexport.graphs.nodes import label, op
from normexport.graphs.refusal import Refuse

Inputs = Sequence[Any]

_SLOW = 32  # a Python call for each element: about 1 microsecond, beside 30 ns


def evaluate(node: ir.Node, inputs: Inputs, opset: int) -> tuple[Array, ...]:
    """All outputs of the node, as onnx.reference computes them of these arrays.

    Raises:
        Refuse: it can't.
    """
    if op(node) in _IN_FLOAT64 and inputs[0].dtype.kind == "f":
        return (_IN_FLOAT64[op(node)](node, inputs[0]),)
    if op(node) == "OneHot":
        inputs = [inputs[0], inputs[1].reshape(()), inputs[2]]  # the library takes no depth of one axis
    if op(node).startswith("Reduce") and len(inputs) > 1 and inputs[1] is not None and inputs[1].size == 0:
        inputs = inputs[:1]  # no axes are as none given; before 1.20 the library reduced all, whatever the node said
    try:
        results = ReferenceEvaluator(_alone(node, inputs, opset)).run(None, _feeds(inputs))
    except Exception as error:  # the library raises whatever numpy does, and errors of its own
        raise Refuse(f"{label(node)} can't be evaluated: {error}") from error
    return tuple(np.asarray(result) for result in results)


def cost(node: ir.Node, inputs: Inputs) -> int:
    """How many numbers evaluating the node makes at most, in the time that numpy takes for one.

    Raises:
        Refuse: it is not known.
        ValueError, IndexError, TypeError: the shapes do not fit together.
    """
    return OPERATORS[op(node)](node, inputs)


def _alone(node: ir.Node, inputs: Inputs, opset: int) -> onnx.ModelProto:
    """A model of the node only; its inputs are called by their positions, its outputs by theirs."""
    proto = ir.to_proto(node)
    del proto.input[:], proto.output[:], proto.metadata_props[:]
    proto.input.extend("" if each is None else f"input_{i}" for i, each in enumerate(inputs))
    proto.output.extend(f"output_{i}" for i in range(len(node.outputs)))
    graph = onnx.helper.make_graph(
        [proto],
        "constant",
        [onnx.helper.make_empty_tensor_value_info(name) for name in proto.input if name],
        [onnx.helper.make_empty_tensor_value_info(name) for name in proto.output],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])


def _feeds(inputs: Inputs) -> dict[str, Array]:
    return {f"input_{i}": each for i, each in enumerate(inputs) if each is not None}


_ERF = np.vectorize(math.erf, otypes=[np.float64])


def _gelu(node: ir.Node, x: Array) -> Array:
    if node.attributes.get_string("approximate", "none") == "tanh":
        inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
        return np.asarray(0.5 * x * (1 + np.tanh(inner)))
    return np.asarray(0.5 * x * (1 + _ERF(x / math.sqrt(2))))


#: What the library rounds to float32 on the way, by 2e-8 of the result.
_IN_FLOAT64: dict[str, Callable[[ir.Node, Array], Array]] = {
    "Erf": lambda _, x: np.asarray(_ERF(x)),
    "Gelu": _gelu,
    "HardSwish": lambda _, x: np.asarray(x * np.clip(x / 6 + 0.5, 0, 1)),
}


def _same(node: ir.Node, inputs: Inputs) -> int:
    return int(inputs[0].size)


def _slow(node: ir.Node, inputs: Inputs) -> int:
    return _SLOW * max(int(each.size) for each in inputs if each is not None)


def _all_read(node: ir.Node, inputs: Inputs) -> int:
    return sum(int(each.size) for each in inputs if each is not None)


def _broadcast(node: ir.Node, inputs: Inputs) -> int:
    return math.prod(np.broadcast_shapes(*(each.shape for each in inputs if each is not None)))


def _gather(node: ir.Node, inputs: Inputs) -> int:
    data, places = inputs[:2]
    axis = node.attributes.get_int("axis", 0)
    return int(places.size) * int(data.size // max(1, data.shape[axis]))


def _numbers(value: Array) -> list[int]:
    if value.size > 64:
        raise Refuse("it makes an array of more than 64 axes")
    return [int(each) for each in np.asarray(value).reshape(-1)]


def _filled(node: ir.Node, inputs: Inputs) -> int:
    return math.prod(_numbers(inputs[0]))


def _tiled(node: ir.Node, inputs: Inputs) -> int:
    return int(inputs[0].size) * math.prod(_numbers(inputs[1]))


def _range(node: ir.Node, inputs: Inputs) -> int:
    start, limit, delta = (float(np.asarray(each).reshape(-1)[0]) for each in inputs)
    return max(0, math.ceil((limit - start) / delta)) if delta else 0


def _padded(node: ir.Node, inputs: Inputs) -> int:
    shape, pads = inputs[0].shape, _numbers(inputs[1])
    return math.prod(side + sum(max(0, pad) for pad in pads) for side in shape)


def _one_hot(node: ir.Node, inputs: Inputs) -> int:
    return int(inputs[0].size) * int(np.asarray(inputs[1]).reshape(-1)[0])


def _eye(node: ir.Node, inputs: Inputs) -> int:
    return int(inputs[0].size)


def _product(node: ir.Node, inputs: Inputs) -> int:
    """A product of matrices: 32 multiplications take the time of a number made."""
    first, second = inputs[:2]
    columns = second.shape[-1] if second.ndim > 1 else 1
    batch = math.prod(np.broadcast_shapes(first.shape[:-2], second.shape[:-2]))
    rows = first.shape[-2] if first.ndim > 1 else 1
    made = int(batch * rows * columns)
    return max(made, made * int(first.shape[-1]) // 32)


def _gemm(node: ir.Node, inputs: Inputs) -> int:
    made = int(max(inputs[0].shape) * max(inputs[1].shape))
    return max(made, made * int(min(inputs[0].shape)) // 32)


def _einsum(node: ir.Node, inputs: Inputs) -> int:
    """The product of all sizes that the equation names: each combination is multiplied once."""
    terms = node.attributes.get_string("equation", "").replace(" ", "").split("->")[0].split(",")
    if len(terms) != len(inputs) or not all(
        term.isalpha() and len(term) == x.ndim for term, x in zip(terms, inputs, strict=True)
    ):
        raise Refuse(f"{label(node)} has an equation that is not evaluated")
    sizes = {
        name: side for term, x in zip(terms, inputs, strict=True) for name, side in zip(term, x.shape, strict=True)
    }
    return math.prod(sizes.values())


_UNARY = (
    "Acos Acosh Asin Asinh Atan Atanh Ceil Celu Cos Cosh Elu Floor HardSigmoid HardSwish IsInf IsNaN LeakyRelu "
    "LogSoftmax Mish Not Relu Round Selu Shrink Sign Sin Sinh Softmax Softplus Softsign Tan Tanh ThresholdedRelu"
)
_BINARY = (
    "And Equal Greater GreaterOrEqual Less LessOrEqual Mean Mod Or PRelu Sum Where Xor BitShift BitwiseAnd BitwiseOr "
    "BitwiseXor Clip"
)
_WITHIN = (
    "ArgMax ArgMin BitwiseNot Compress CumSum DepthToSpace Hardmax LpNormalization ReduceLogSum "
    "ReduceLogSumExp ReduceMin ReduceProd ReduceSumSquare Size Slice SpaceToDepth Split Trilu"
)

#: The operators, each with its cost.
OPERATORS: dict[str, Callable[[ir.Node, Inputs], int]] = {
    **dict.fromkeys(_UNARY.split(), _same),
    **dict.fromkeys(_BINARY.split(), _broadcast),
    **dict.fromkeys(_WITHIN.split(), _all_read),
    **dict.fromkeys(("Erf", "GatherND", "Gelu", "NonZero", "ScatterElements", "ScatterND", "Sigmoid", "TopK"), _slow),
    "ConstantOfShape": _filled,
    "Einsum": _einsum,
    "EyeLike": _eye,
    "Gather": _gather,
    "GatherElements": lambda node, inputs: int(inputs[1].size),
    "Gemm": _gemm,
    "MatMul": _product,
    "OneHot": _one_hot,
    "Pad": _padded,
    "Range": _range,
    "Tile": _tiled,
}

_LAST_DIGIT = (
    "ArgMax ArgMin Cast CastLike Ceil Compress Equal Floor Greater GreaterOrEqual Hardmax IsInf IsNaN Less LessOrEqual "
    "Mod NonZero Range Round Shrink Sign ThresholdedRelu TopK"
)
_UNROUNDED = (
    "Abs Ceil Clip Compress Concat ConstantOfShape DepthToSpace Expand EyeLike Flatten Floor Gather GatherElements "
    "GatherND Identity Max Min Neg OneHot Pad Range ReduceMax ReduceMin Relu Reshape Round ScatterElements ScatterND "
    "Sign Slice SpaceToDepth Split Squeeze Tile TopK Transpose Trilu Unsqueeze Where"
)

#: Their result can jump where what they read differs in its last digit.
JUMPS = frozenset(_LAST_DIGIT.split())

#: They move numbers about, choose among them or turn their signs: of exact numbers they make exact ones.
EXACT = frozenset(_UNROUNDED.split())

#: What these make of exact numbers is exact where it is a small whole number.
WHOLE = frozenset(("Add", "Div", "Mul", "Pow", "Sqrt", "Sub"))
