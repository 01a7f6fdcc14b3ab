"""Ways to compute the scale of a norm: (x - mean)*scale behind a convolution, the scale from constants alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from tests.folding.case import weights
from tests.folding.spelled.rows import Net, Rows
from tests.folding.spellings import BETA, GAMMA, MEAN, VARIANCE, C

ROWS = Rows()
PAIR = np.stack([GAMMA, VARIANCE])
SAMPLES = weights(C, 6)

FUNCTIONS = """Atan Asinh Cos Cosh Sin Sinh Tan Elu Celu Selu Gelu Mish Erf Exp HardSigmoid HardSwish LeakyRelu Softsign
Softplus Sigmoid Tanh Relu ThresholdedRelu Identity Reciprocal Neg Abs Round Floor Ceil Sign"""


def _of_parameter(op: str, n: Net) -> str:
    return n(op, n.const(np.round(GAMMA * 2 + 0.1, 1)))


def scale(name: str, make: Callable[[Net], str], shaped: bool = False, **more: Any) -> None:
    """A row; `shaped`: what `make` gives is a vector (C,)."""

    def write(n: Net) -> str:
        centred = n("Sub", n.conv(), n.const(MEAN))
        made = make(n)
        return n("Relu", n("Mul", centred, n.shaped(made) if shaped else made))

    ROWS.add(name, write, **more)


def _variance(n: Net) -> str:
    return n("Add", n.const(VARIANCE), n.number(1e-3))


# ---- the root and its reciprocal ----
scale("Exp of half the Log", lambda n: n("Exp", n("Mul", n("Log", _variance(n)), n.number(-0.5))))
scale("Exp of minus half the Log", lambda n: n("Exp", n("Neg", n("Mul", n("Log", _variance(n)), n.number(0.5)))))
scale("Pow of half, then Reciprocal", lambda n: n("Reciprocal", n("Pow", _variance(n), n.number(0.5))))
scale("Pow of minus one of the root", lambda n: n("Pow", n("Sqrt", _variance(n)), n.number(-1.0)))
scale("Pow of a whole exponent", lambda n: n("Pow", _variance(n), n.whole(np.int64(-1))))
scale("one divided by the root", lambda n: n("Div", n.number(1.0), n("Sqrt", _variance(n))))
scale("gamma divided by the root", lambda n: n("Div", n.const(GAMMA), n("Sqrt", _variance(n))))
scale("the root of the reciprocal", lambda n: n("Sqrt", n("Reciprocal", _variance(n))))
scale("L1 over the root of pi half", lambda n: n("Div", n.number(np.sqrt(2 / np.pi)), n.const(VARIANCE)))

# ---- where epsilon enters ----
scale("Max with epsilon", lambda n: n("Reciprocal", n("Sqrt", n("Max", n.const(VARIANCE), n.number(1e-3)))))
scale("epsilon outside the root", lambda n: n("Reciprocal", n("Add", n("Sqrt", n.const(VARIANCE)), n.number(1e-3))))
scale("epsilon in both places", lambda n: n("Reciprocal", n("Add", n("Sqrt", _variance(n)), n.number(1e-3))))
scale("Clip from below alone", lambda n: n("Reciprocal", n("Clip", n.const(VARIANCE), n.number(1e-3))))
scale("Abs of a negative multiplier", lambda n: n("Add", n("Abs", n.const(GAMMA)), n.number(1e-3)))
scale("Min of two", lambda n: n("Min", n.const(VARIANCE), n.const(np.full(C, 1.1))))
scale("epsilon as a Cast of a double", lambda n: n("Sqrt", n("Add", n.const(VARIANCE), _cast(n, np.float32(1e-3)))))
scale("epsilon as a Cast of a whole number", lambda n: n("Sqrt", n("Add", n.const(VARIANCE), _cast(n, np.int32(1)))))
scale(
    "epsilon as a Constant node",
    lambda n: n("Sqrt", n("Add", n.const(VARIANCE), n.b.const(np.array(1e-3), as_node=True))),
)
scale("epsilon per channel", lambda n: n("Sqrt", n("Add", n.const(VARIANCE), n.const(np.full(C, 1e-3)))))


def _cast(n: Net, value: Any) -> str:
    return n("CastLike", n.whole(value), n.number(0.0))


# ---- what the variance is computed from ----
def _of_samples(n: Net) -> str:
    samples = n.vector(SAMPLES)
    deviation = n("Sub", samples, n("ReduceMean", samples, n.ints(1)))
    return n("ReduceMean", n("Mul", deviation, deviation), n.ints(1), keepdims=0)


scale("the mean square of stored samples", _of_samples, shaped=True)
scale(
    "E[x*x] - E[x]*E[x]",
    lambda n: n("Sqrt", n("Sub", n.const(VARIANCE + MEAN**2), n("Mul", n.const(MEAN), n.const(MEAN)))),
)
scale(
    "sums over a stored count",
    lambda n: n("Sqrt", n("Div", n.const(VARIANCE * 7), n("Cast", n.whole(np.int64(7)), to=n.type))),
)
scale("unbiased by n / (n - 1)", lambda n: n("Mul", n.const(VARIANCE), n.number(49 / 48)))
scale("a standard deviation times itself", lambda n: n("Reciprocal", n("Mul", n.const(VARIANCE), n.const(VARIANCE))))
scale("ReduceL2", lambda n: n("ReduceL2", n.vector(SAMPLES), n.ints(1), keepdims=0), shaped=True)
scale("ReduceL1", lambda n: n("ReduceL1", n.vector(SAMPLES), n.ints(1), keepdims=0), shaped=True)
scale("ReduceMax", lambda n: n("ReduceMax", n.vector(SAMPLES), n.ints(1), keepdims=0), shaped=True)
scale("ReduceMin", lambda n: n("ReduceMin", n.vector(PAIR), n.ints(0), keepdims=0), shaped=True)
scale("ReduceSum", lambda n: n("ReduceSum", n.vector(PAIR), n.ints(0), keepdims=0), shaped=True)
scale("ReduceLogSum", lambda n: n("ReduceLogSum", n.vector(np.abs(PAIR)), n.ints(0), keepdims=0), shaped=True)
scale("ReduceLogSumExp", lambda n: n("ReduceLogSumExp", n.vector(PAIR), n.ints(0), keepdims=0), shaped=True)
scale(
    "ReduceProd over nothing",
    lambda n: n("ReduceProd", n.const(GAMMA), n.whole(np.empty(0, np.int64)), noop_with_empty_axes=1),
)
scale("CumSum", lambda n: n("CumSum", n.const(VARIANCE), n.whole(np.int64(0))))
scale("Mean of two", lambda n: n("Mean", n.const(VARIANCE), n.const(GAMMA)))
scale("Sum of three parameters", lambda n: n("Sum", n.const(VARIANCE), n.const(GAMMA), n.const(BETA)))

# ---- functions of parameters ----
for op in FUNCTIONS.split():
    scale(f"{op} of the parameter", partial(_of_parameter, op))
scale("Softmax over the channels", lambda n: n("Softmax", n.vector(GAMMA), axis=0), shaped=True)
scale("LogSoftmax over the channels", lambda n: n("LogSoftmax", n.vector(GAMMA), axis=0), shaped=True)
scale("PRelu of the parameter", lambda n: n("PRelu", n.const(GAMMA), n.const(VARIANCE)))
scale("Shrink of the parameter", lambda n: n("Shrink", n.const(GAMMA), lambd=0.5))
scale(
    "Mod of whole numbers",
    lambda n: n("CastLike", n("Mod", n.whole(np.arange(1, 5).reshape(C, 1, 1)), n.whole(np.int64(3))), n.number(0.0)),
)
scale(
    "BitShift to powers of two",
    lambda n: n(
        "CastLike",
        n(
            "BitShift",
            n.whole(np.full((C, 1, 1), 1, np.uint8)),
            n.whole(np.arange(4, dtype=np.uint8).reshape(C, 1, 1)),
            direction="LEFT",
        ),
        n.number(0.0),
    ),
)
scale(
    "Exp of a multiple of log two",
    lambda n: n("Exp", n("Mul", n.const(np.array([1.0, -2, 0, 3])), n.number(np.log(2)))),
)
scale("Sqrt of two powers", lambda n: n("Pow", n.number(2.0), n("Round", n.const(np.array([1.2, -2.1, 0.4, 2.8])))))

# ---- choices ----
scale(
    "Where by a stored mask",
    lambda n: n("Where", n.whole(np.array([True, False, True, False]).reshape(C, 1, 1)), n.const(GAMMA), n.number(1.0)),
)
scale(
    "Where a variance is zero",
    lambda n: n(
        "Where", n("Equal", n.const(np.array([0.0, 1, 2, 3])), n.number(0.0)), n.number(1.0), n.const(VARIANCE)
    ),
)
scale(
    "Where a number is missing",
    lambda n: n("Where", n("IsNaN", n.const(np.array([np.nan, 1, 2, 3]))), n.number(1.0), n.const(VARIANCE)),
)
scale(
    "Where not greater",
    lambda n: n("Where", n("Not", n("Greater", n.const(VARIANCE), n.number(1.0))), n.number(1.0), n.const(VARIANCE)),
)
scale(
    "Where of two conditions",
    lambda n: n(
        "Where",
        n("And", n("Less", n.const(VARIANCE), n.number(2.0)), n("GreaterOrEqual", n.const(GAMMA), n.number(0.0))),
        n.number(1.5),
        n.const(VARIANCE),
    ),
)
scale(
    "a mask times the parameter",
    lambda n: n("Mul", n("CastLike", n("Greater", n.const(GAMMA), n.number(0.0)), n.number(0.0)), n.const(VARIANCE)),
)

# ---- parameters cut, laid out, put together ----
scale("Gather of one row", lambda n: n("Gather", n.vector(PAIR), n.whole(np.int64(1))), shaped=True)
scale("Gather in another order", lambda n: n("Gather", n.vector(GAMMA), n.ints(3, 1, 0, 2)), shaped=True)
scale("Gather along the last axis", lambda n: n("Gather", n.vector(PAIR.T), n.whole(np.int64(0)), axis=1), shaped=True)
scale("GatherElements", lambda n: n("GatherElements", n.vector(PAIR), n.whole(np.array([[0, 1, 1, 0]]))), shaped=True)
scale(
    "GatherND",
    lambda n: n("GatherND", n.vector(PAIR), n.whole(np.array([[0, 1], [1, 0], [1, 3], [0, 2]]))),
    shaped=True,
)
scale(
    "ScatterND",
    lambda n: n("ScatterND", n.vector(GAMMA), n.whole(np.array([[1], [2]])), n.vector([0.5, 0.25])),
    shaped=True,
)
scale(
    "ScatterElements", lambda n: n("ScatterElements", n.vector(GAMMA), n.ints(0, 3), n.vector([0.5, 0.25])), shaped=True
)
scale(
    "Compress by a stored mask",
    lambda n: n("Compress", n.vector(PAIR), n.whole(np.array([False, True])), axis=0),
    shaped=True,
)
scale(
    "OneHot times a table",
    lambda n: n("MatMul", n("OneHot", n.ints(2, 0, 3, 1), n.ints(4), n.vector([0.0, 1.0])), n.vector(GAMMA)),
    shaped=True,
)
scale(
    "the diagonal of a matrix",
    lambda n: n(
        "ReduceSum", n("Mul", n.vector(weights(C, C)), n("EyeLike", n.vector(weights(C, C)))), n.ints(1), keepdims=0
    ),
    shaped=True,
)
scale(
    "Trilu of a table",
    lambda n: n("ReduceSum", n("Trilu", n.vector(weights(C, C))), n.ints(0), keepdims=0),
    shaped=True,
)
scale(
    "TopK of stored samples",
    lambda n: n(
        "ReduceMean", _first(n, "TopK", n.vector(np.abs(SAMPLES)), n.ints(2), outputs=2), n.ints(1), keepdims=0
    ),
    shaped=True,
)
scale(
    "Slice backwards",
    lambda n: n("Slice", n.vector(GAMMA), n.ints(-1), n.ints(-100), n.ints(0), n.ints(-1)),
    shaped=True,
)
scale(
    "Slice with steps",
    lambda n: n("Slice", n.vector(weights(8)), n.ints(0), n.ints(8), n.ints(0), n.ints(2)),
    shaped=True,
)
scale("Split in unequal parts", lambda n: _second(n, "Split", n.vector(weights(7)), n.ints(3, 4)), shaped=True)
scale(
    "Concat of three",
    lambda n: n("Concat", n.vector(GAMMA[:1]), n.vector(GAMMA[1:2]), n.vector(GAMMA[2:]), axis=0),
    shaped=True,
)
scale("Pad of fewer channels", lambda n: n("Pad", n.vector(GAMMA[:2]), n.ints(0, 2), n.number(1.0)), shaped=True)
scale("Unsqueeze twice", lambda n: n("Unsqueeze", n("Unsqueeze", n.vector(GAMMA), n.ints(1)), n.ints(2)))
scale("Unsqueeze of both axes", lambda n: n("Unsqueeze", n.vector(GAMMA), n.ints(1, -1)))
scale("Squeeze of (1, C, 1, 1, 1)", lambda n: n("Squeeze", n.vector(GAMMA.reshape(1, C, 1, 1, 1)), n.ints(4)))
scale("Transpose of a row", lambda n: n("Unsqueeze", n("Transpose", n.vector(GAMMA[None]), perm=[1, 0]), n.ints(2)))
scale("Flatten", lambda n: n("Flatten", n.vector(GAMMA.reshape(2, 2)), axis=0), shaped=True)
scale(
    "Reshape as the parameter says",
    lambda n: n("Reshape", n.vector(GAMMA), n("Concat", n("Shape", n.vector(MEAN)), n.ints(1, 1), axis=0)),
)
scale(
    "DepthToSpace of parameters",
    lambda n: n("DepthToSpace", n.vector(GAMMA.reshape(1, 4, 1, 1)), blocksize=2),
    shaped=True,
)
scale(
    "ConstantOfShape and an Add",
    lambda n: n("Add", n("ConstantOfShape", n.ints(C, 1, 1)), n.const(GAMMA)),
    dtype=np.float32,
)
scale("ones times a number", lambda n: n("Mul", n("Expand", n.number(1.0), n("Shape", n.const(GAMMA))), n.number(0.3)))
scale("Range", lambda n: n("Range", n.number(1.0), n.number(5.0), n.number(1.0)), shaped=True)
scale("Tile twice", lambda n: n("Tile", n("Tile", n.vector([0.5]), n.ints(2)), n.ints(2)), shaped=True)
scale(
    "Repeat by Expand and Reshape",
    lambda n: n("Reshape", n("Expand", n.vector(GAMMA[:2, None]), n.ints(2, 2)), n.ints(-1)),
    shaped=True,
)
scale(
    "Einsum of two vectors", lambda n: n("Einsum", n.vector(GAMMA), n.vector(VARIANCE), equation="c,c->c"), shaped=True
)
scale("Einsum that sums", lambda n: n("Einsum", n.vector(SAMPLES), equation="cs->c"), shaped=True)
scale(
    "Gemm of parameters",
    lambda n: n("Gemm", n.vector(GAMMA[None]), n.vector(weights(C, C)), n.vector(BETA), transB=1),
    shaped=True,
)
scale("LpNormalization of a parameter", lambda n: n("LpNormalization", n.vector(GAMMA), axis=0, p=2), shaped=True)
scale("spread to all positions", lambda n: n("Expand", n.const(GAMMA), n.ints(2, C, 3, 3)))
scale("stored for all positions", lambda n: n.vector(np.broadcast_to(GAMMA.reshape(C, 1, 1), (C, 3, 3))))
scale("stored for the whole batch", lambda n: n.vector(np.broadcast_to(GAMMA.reshape(1, C, 1, 1), (2, C, 1, 1))))
scale("negative scales", lambda n: n.const(-VARIANCE))
scale("a scale of zero in one channel", lambda n: n.const(np.array([1.0, 0.0, -2.0, 0.5])))
scale("all scales equal", lambda n: n.const(np.full(C, 0.7)))
scale("a list of floats in a node", lambda n: _floats(n), shaped=True, dtype=np.float32)
scale(
    "Size of a stored tensor",
    lambda n: n("Div", n.const(GAMMA), n("CastLike", n("Size", n.vector(SAMPLES)), n.number(0.0))),
)
scale("a Cast up and back", lambda n: n("Cast", n("Cast", n.const(GAMMA), to=1), to=n.type))
scale(
    "stored as whole numbers",
    lambda n: n("CastLike", n.whole(np.array([1, -2, 3, 5], np.int8).reshape(C, 1, 1)), n.number(0.0)),
)
scale(
    "stored as 8-bit numbers with a scale",
    lambda n: n(
        "Mul",
        n("CastLike", n.whole(np.array([100, -20, 30, 50], np.int8).reshape(C, 1, 1)), n.number(0.0)),
        n.number(0.01),
    ),
)
scale(
    "LayerNormalization of parameters",
    lambda n: n("LayerNormalization", n.vector(GAMMA), n.vector(VARIANCE)),
    shaped=True,
)


def _first(n: Net, op: str, *inputs: str, **more: Any) -> str:
    n.b.node(op, inputs, **more)
    return n.b.nodes[-1].output[0]


def _second(n: Net, op: str, *inputs: str) -> str:
    n.b.node(op, inputs, outputs=2)
    return n.b.nodes[-1].output[1]


def _floats(n: Net) -> str:
    return n("Constant", value_floats=[0.5, 1.5, -2.0, 0.25])
