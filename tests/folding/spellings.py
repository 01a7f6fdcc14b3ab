"""Ways to spell a norm with running statistics: places x forms, each a graph whose only norm must fold away.

A place says where the norm stands and on which axis its channels are; a form writes (x - mean)/scale*gamma + beta, or
part of it, with constants of the shape that the place asks for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.folding.build import GraphBuilder
from tests.folding.case import weights
from tests.folding.graphs import int64

C = 4
MEAN = np.array([0.3, -0.7, 1.1, 0.2])
VARIANCE = np.array([0.5, 2.0, 1.25, 0.8])
GAMMA = np.array([1.5, -0.5, 0.75, 2.0])
BETA = np.array([-0.2, 0.6, 0.1, -1.0])

Shape = tuple[int, ...]
Form = Callable[[GraphBuilder, str, Shape], str]


class Parameters:
    """Constants of one shape, and the arithmetic of nodes between them."""

    def __init__(self, b: GraphBuilder, shape: Shape) -> None:
        self.b, self.shape = b, shape

    def const(self, values: np.ndarray) -> str:
        return self.b.const(values.reshape(self.shape))

    def number(self, value: float) -> str:
        return self.b.const(np.array(value))

    def __call__(self, op: str, *inputs: str, **attrs: Any) -> str:
        return self.b.node(op, inputs, **attrs)

    def deviation(self) -> str:
        return self("Sqrt", self("Add", self.const(VARIANCE), self.number(1e-3)))

    def shaped(self, vector: str) -> str:
        """A vector (C,) in the shape of the place."""
        return self("Reshape", vector, int64(self.b, *(-1 if size == C else size for size in self.shape)))


def _form(write: Callable[[Parameters, str], str]) -> Form:
    return lambda b, x, shape: write(Parameters(b, shape), x)


def _stacked(p: Parameters) -> str:
    return p.b.const(np.stack([MEAN, VARIANCE, GAMMA, BETA]))


def _by_gather(p: Parameters, x: str) -> str:
    stack = _stacked(p)
    mean, variance, gamma, beta = (
        p.shaped(p("Gather", stack, p.b.const(np.array(i), keep_type=True))) for i in range(4)
    )
    return p("Add", p("Mul", p("Div", p("Sub", x, mean), p("Sqrt", variance)), gamma), beta)


def _by_split(p: Parameters, x: str) -> str:
    p.b.node("Split", [_stacked(p)], outputs=4, num_outputs=4)
    mean, variance, gamma, beta = (p.shaped(name) for name in list(p.b.nodes[-1].output))
    return p("Add", p("Mul", p("Div", p("Sub", x, mean), p("Sqrt", variance)), gamma), beta)


def _by_slice(p: Parameters, x: str) -> str:
    stack = _stacked(p)
    rows = [p.shaped(p("Slice", stack, int64(p.b, i), int64(p.b, i + 1), int64(p.b, 0))) for i in range(4)]
    return p("Sub", p("Mul", p("Div", p("Sub", x, rows[0]), rows[1]), rows[2]), rows[3])


def _merged(p: Parameters, x: str) -> str:
    scale = p("Div", p.const(GAMMA), p.deviation())
    return p("Add", p("Mul", x, scale), p("Sub", p.const(BETA), p("Mul", p.const(MEAN), scale)))


def _interrupted(op: str, *more: Callable[[Parameters], str], **attrs: Any) -> Form:
    """A chain with a node after every step that changes nothing."""

    def write(p: Parameters, x: str) -> str:
        for step, values in (("Sub", MEAN), ("Div", VARIANCE), ("Mul", GAMMA), ("Add", BETA)):
            x = p(op, p(step, x, p.const(values)), *(each(p) for each in more), **attrs)
        return x

    return _form(write)


def _scaled(make: Callable[[Parameters], str]) -> Form:
    """(x - mean)*s with a scale of its own making."""
    return _form(lambda p, x: p("Mul", p("Sub", x, p.const(MEAN)), make(p)))


FORMS: dict[str, Form] = {
    "Sub, Div by Sqrt, Mul, Add": _form(
        lambda p, x: p(
            "Add", p("Mul", p("Div", p("Sub", x, p.const(MEAN)), p.deviation()), p.const(GAMMA)), p.const(BETA)
        )
    ),
    "Mul by the reciprocal": _form(
        lambda p, x: p("Add", p("Mul", p("Sub", x, p.const(MEAN)), p("Reciprocal", p.deviation())), p.const(BETA))
    ),
    "Pow of the variance": _scaled(lambda p: p("Pow", p.const(VARIANCE), p.number(-0.5))),
    "scale and shift merged by the graph": _form(_merged),
    "addcdiv": _form(
        lambda p, x: p(
            "Add", p.const(BETA), p("Div", p("Mul", p.const(GAMMA), p("Sub", x, p.const(MEAN))), p.deviation())
        )
    ),
    "the mean first": _form(lambda p, x: p("Div", p("Sub", p.const(MEAN), x), p.const(-VARIANCE))),
    "Neg": _form(lambda p, x: p("Add", p("Neg", p("Mul", x, p.const(GAMMA))), p.const(BETA))),
    "Sum": _form(lambda p, x: p("Sum", p("Mul", x, p.const(GAMMA)), p.const(BETA))),
    "an L1 scale": _scaled(
        lambda p: p("Reciprocal", p("Add", p("Mul", p.const(VARIANCE), p.number(np.sqrt(np.pi / 2))), p.number(1e-3)))
    ),
    "batch renormalisation at inference": _form(
        lambda p, x: p(
            "Add",
            p(
                "Mul",
                p("Add", p("Mul", p("Div", p("Sub", x, p.const(MEAN)), p.deviation()), p.number(1.0)), p.number(0.0)),
                p.const(GAMMA),
            ),
            p.const(BETA),
        )
    ),
    "activation norm": _form(lambda p, x: p("Mul", p("Add", x, p.const(BETA)), p("Exp", p.const(GAMMA)))),
    "scales in logarithms": _scaled(lambda p: p("Exp", p.const(GAMMA))),
    "scales of powers of two": _scaled(lambda p: p("Pow", p.number(2.0), p.const(np.array([1.0, -2.0, 0.0, 3.0])))),
    "Sigmoid": _scaled(lambda p: p("Sigmoid", p.const(GAMMA))),
    "Softplus": _scaled(lambda p: p("Softplus", p.const(GAMMA))),
    "Tanh": _scaled(lambda p: p("Tanh", p.const(GAMMA))),
    "Clip": _scaled(lambda p: p("Clip", p.const(GAMMA), p.number(0.1), p.number(1.0))),
    "Where": _scaled(
        lambda p: p("Where", p("Greater", p.const(VARIANCE), p.number(1.0)), p.const(VARIANCE), p.number(1.0))
    ),
    "ReduceProd": _scaled(
        lambda p: p.shaped(p("ReduceProd", p.b.const(np.stack([GAMMA, VARIANCE])), int64(p.b, 0), keepdims=0))
    ),
    "ReduceSumSquare": _scaled(
        lambda p: p.shaped(p("ReduceSumSquare", p.b.const(np.stack([GAMMA, VARIANCE])), int64(p.b, 0), keepdims=0))
    ),
    "Log": _scaled(lambda p: p("Log", p.const(VARIANCE + 1))),
    "Expand": _scaled(lambda p: p("Expand", p.number(0.7), int64(p.b, *p.shape))),
    "Tile": _scaled(lambda p: p.shaped(p("Tile", p.b.const(GAMMA[:2]), int64(p.b, 2)))),
    "Concat": _scaled(lambda p: p.shaped(p("Concat", p.b.const(GAMMA[:1]), p.b.const(GAMMA[1:]), axis=0))),
    "Einsum of parameters": _scaled(
        lambda p: p.shaped(
            p("Einsum", p.b.const(np.stack([GAMMA, BETA])), p.b.const(np.array([1.0, 2.0])), equation="ic,i->c")
        )
    ),
    "MatMul of parameters": _scaled(lambda p: p.shaped(p("MatMul", p.b.const(weights(C, C)), p.b.const(GAMMA)))),
    "a stack by Gather": _form(_by_gather),
    "a stack by Split": _form(_by_split),
    "a stack by Slice": _form(_by_slice),
    "Identity between": _interrupted("Identity"),
    "a Cast to the same type between": _interrupted("CastLike", lambda p: p.number(1.0)),
    "Dropout between": _interrupted("Dropout"),
    "Expand by one between": _interrupted("Expand", lambda p: int64(p.b, 1)),
}


def _conv(b: GraphBuilder, inputs: int = 2, outputs: int = C) -> str:
    return b.node("Conv", [b.input((2, inputs, 5, 4)), b.const(weights(outputs, inputs, 3, 2))])


def _behind_conv(b: GraphBuilder, form: Form) -> str:
    return b.node("Relu", [form(b, _conv(b), (C, 1, 1))])


def _channels_last(b: GraphBuilder, form: Form) -> str:
    y = form(b, b.node("Transpose", [_conv(b)], perm=[0, 2, 3, 1]), (C,))
    return b.node("Relu", [b.node("Transpose", [y], perm=[0, 3, 1, 2])])


def _rows(b: GraphBuilder, form: Form) -> str:
    y = form(b, b.node("Reshape", [_conv(b), int64(b, 0, C, -1)]), (C, 1))
    return b.node("Relu", [b.node("Reshape", [y, int64(b, 2, C, 3, 3)])])


def _unsqueezed(b: GraphBuilder, form: Form) -> str:
    y = form(b, b.node("Unsqueeze", [_conv(b), int64(b, 2)]), (1, C, 1, 1, 1))
    return b.node("Relu", [b.node("Squeeze", [y, int64(b, 2)])])


def _behind_matmul(b: GraphBuilder, form: Form) -> str:
    y = b.node("MatMul", [b.input((2, 3, 5)), b.const(weights(5, C))])
    return b.node("Relu", [form(b, y, (1, 1, C))])


def _before_conv(b: GraphBuilder, form: Form) -> str:
    y = form(b, b.input((2, C, 5, 4)), (1, C, 1, 1))
    return b.node("Conv", [y, b.const(weights(3, C, 2, 2))])


def _behind_split_columns(b: GraphBuilder, form: Form) -> str:
    y = b.node("Gemm", [b.input((2, 5)), b.const(weights(5, 6 * C))])
    return b.node("Relu", [form(b, b.node("Reshape", [y, int64(b, -1, C, 3, 2)]), (C, 1, 1))])


#: Place: how it is built, and the operators that are left.
PLACES: dict[str, tuple[Callable[[GraphBuilder, Form], str], dict[str, int]]] = {
    "behind a convolution": (_behind_conv, {"Conv": 1, "Relu": 1}),
    "channels last": (_channels_last, {"Conv": 1, "Relu": 1}),
    "in rows": (_rows, {"Conv": 1, "Relu": 1}),
    "with an axis more": (_unsqueezed, {"Conv": 1, "Unsqueeze": 1, "Squeeze": 1, "Relu": 1}),
    "behind a MatMul": (_behind_matmul, {"MatMul": 1, "Add": 1, "Relu": 1}),
    "before a convolution": (_before_conv, {"Conv": 1}),
    "behind columns laid out as an image": (_behind_split_columns, {"Gemm": 1, "Reshape": 1, "Relu": 1}),
}
