"""Ways to write the steps of a norm behind a convolution: their order, what they merge, nodes between."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.folding.spelled.rows import Net, Rows
from tests.folding.spellings import BETA, GAMMA, MEAN, VARIANCE, C

ROWS = Rows()


def relu(n: Net, y: str) -> str:
    return n("Relu", y)


def steps(name: str, write: Any, left: str = "Conv Relu", **more: Any) -> None:
    ROWS.add(name, lambda n: n("Relu", write(n, n.conv())), left, **more)


# ---- orders ----
steps("Sub, Mul", lambda n, x: n("Mul", n("Sub", x, n.const(MEAN)), n.const(GAMMA)))
steps("Mul, Add", lambda n, x: n("Add", n("Mul", x, n.const(GAMMA)), n.const(BETA)))
steps("Mul alone", lambda n, x: n("Mul", x, n.const(GAMMA)))
steps("Div alone", lambda n, x: n("Div", x, n.const(VARIANCE)))
steps("Sub alone", lambda n, x: n("Sub", x, n.const(MEAN)))
steps("Add of minus the mean, Mul", lambda n, x: n("Mul", n("Add", x, n("Neg", n.const(MEAN))), n.const(GAMMA)))
steps("Div before Sub", lambda n, x: n("Sub", n("Div", x, n.const(VARIANCE)), n.const(MEAN)))
steps("constants first", lambda n, x: n("Add", n.const(BETA), n("Mul", n.const(GAMMA), x)))
steps("mean minus x, times minus gamma", lambda n, x: n("Mul", n("Sub", n.const(MEAN), x), n.const(-GAMMA)))
steps("beta minus the product", lambda n, x: n("Sub", n.const(BETA), n("Mul", x, n.const(GAMMA))))
steps("Neg twice", lambda n, x: n("Neg", n("Mul", n("Neg", x), n.const(GAMMA))))
steps(
    "gamma before the division",
    lambda n, x: n("Div", n("Mul", n("Sub", x, n.const(MEAN)), n.const(GAMMA)), n("Sqrt", n.const(VARIANCE))),
)
steps("Mul by a reciprocal of gamma", lambda n, x: n("Div", x, n("Reciprocal", n.const(GAMMA))))
steps("scale twice, shift twice", lambda n, x: n("Add", n("Mul", n.affine(x), n.const(VARIANCE)), n.const(MEAN)))
steps("a scalar before and a scalar behind", lambda n, x: n("Mul", n.affine(n("Mul", x, n.number(0.5))), n.number(2.0)))
steps("a scalar of rank one", lambda n, x: n("Mul", n("Sub", x, n.const(MEAN)), n.vector([0.3])))
steps("a scalar of rank four", lambda n, x: n("Mul", n("Sub", x, n.const(MEAN)), n.vector(np.full((1, 1, 1, 1), 0.3))))
steps("constants of rank four", lambda n, x: n.affine(x, (1, C, 1, 1)))
steps("Sum of three", lambda n, x: n("Sum", n("Mul", x, n.const(GAMMA)), n.const(BETA), n.const(MEAN)))
steps(
    "Sum with the tensor in the middle",
    lambda n, x: n("Sum", n.const(BETA), n("Mul", x, n.const(GAMMA)), n.const(MEAN)),
)
steps("Sum of one", lambda n, x: n("Mul", n("Sum", x), n.const(GAMMA)))
steps("a mean that was stored as Mean of two", lambda n, x: n("Sub", x, n("Mean", n.const(MEAN), n.const(BETA))))
steps("the same constant for mean and scale", lambda n, x: _same_constant(n, x))
steps("alpha of an addcmul", lambda n, x: n("Add", n.const(BETA), n("Mul", n.number(0.5), n("Mul", x, n.const(GAMMA)))))
steps(
    "Einsum with a vector",
    lambda n, x: n("Add", n("Einsum", x, n.vector(GAMMA), equation="nchw,c->nchw"), n.const(BETA)),
)
steps("Einsum with the vector first", lambda n, x: n("Einsum", n.vector(GAMMA), x, equation="c, nchw -> nchw"))
steps("Einsum with an ellipsis", lambda n, x: n("Einsum", x, n.vector(GAMMA), equation="nc...,c->nc..."))
steps("Einsum without an arrow", lambda n, x: n("Einsum", x, n.vector(GAMMA), equation="abcd,b->abcd"))
steps(
    "Einsum by two vectors", lambda n, x: n("Einsum", x, n.vector(GAMMA), n.vector(VARIANCE), equation="nchw,c,c->nchw")
)
steps(
    "Einsum with a scalar", lambda n, x: n("Sub", n("Einsum", x, n.number(0.5), equation="nchw,->nchw"), n.const(MEAN))
)
steps(
    "behind an Einsum of constants of rank three",
    lambda n, x: n("Mul", n("Einsum", x, n.const(GAMMA), equation="nchw,cij->nchw"), n.const(GAMMA)),
    "Conv Einsum Relu",
)
steps(
    "lerp towards the mean",
    lambda n, x: n("Add", x, n("Mul", n("Sub", n.const(MEAN), x), n.const(GAMMA))),
    "Conv Sub Mul Add Relu",
    stays="has more than one reader",
)
steps(
    "the tensor added to itself scaled",
    lambda n, x: n("Add", n("Mul", x, n.const(GAMMA)), n("Mul", x, n.const(VARIANCE))),
    "Conv Mul Mul Add Relu",
    stays="has more than one reader",
)
steps(
    "x times gamma minus mean times gamma",
    lambda n, x: n("Sub", n("Mul", x, n.const(GAMMA)), n("Mul", n.const(MEAN), n.const(GAMMA))),
)
steps(
    "x over s minus mean over s",
    lambda n, x: n("Sub", n("Div", x, n.const(VARIANCE)), n("Div", n.const(MEAN), n.const(VARIANCE))),
)
steps("twenty steps", lambda n, x: _many(n, x))

# ---- nodes between that change nothing ----
NOTHING: dict[str, tuple[Any, ...]] = {
    "a Cast to the type that is there": ("Cast", lambda n: [], {}),
    "Reshape to the same sizes": ("Reshape", lambda n: [n.ints(2, C, 3, 3)], {}),
    "Reshape with zeros": ("Reshape", lambda n: [n.ints(0, 0, 0, 0)], {}),
    "Reshape with one open size": ("Reshape", lambda n: [n.ints(0, C, -1, 3)], {}),
    "Transpose in the order that is there": ("Transpose", lambda n: [], {"perm": [0, 1, 2, 3]}),
    "Tile once": ("Tile", lambda n: [n.ints(1, 1, 1, 1)], {}),
    "Pad of nothing": ("Pad", lambda n: [n.ints(*[0] * 8)], {}),
    "Expand to the sizes": ("Expand", lambda n: [n.ints(2, C, 3, 3)], {}),
    "Sum of one": ("Sum", lambda n: [], {}),
    "Mean of one": ("Mean", lambda n: [], {}),
    "Max of one": ("Max", lambda n: [], {}),
    "Min of one": ("Min", lambda n: [], {}),
    "Concat of one": ("Concat", lambda n: [], {"axis": 1}),
    "Slice of everything": ("Slice", lambda n: [n.ints(0), n.ints(2**31), n.ints(2)], {}),
    "Split into one": ("Split", lambda n: [], {"axis": 1, "num_outputs": 1}),
    "Pow of one": ("Pow", lambda n: [n.number(1.0)], {}),
    "Mul by one": ("Mul", lambda n: [n.number(1.0)], {}),
    "Add of zero": ("Add", lambda n: [n.number(0.0)], {}),
    "AveragePool of one": ("AveragePool", lambda n: [], {"kernel_shape": [1, 1]}),
    "MaxPool of one": ("MaxPool", lambda n: [], {"kernel_shape": [1, 1]}),
    "DepthToSpace of one": ("DepthToSpace", lambda n: [], {"blocksize": 1}),
    "SpaceToDepth of one": ("SpaceToDepth", lambda n: [], {"blocksize": 1}),
    "ReduceSum over no axes": ("ReduceSum", lambda n: [], {"noop_with_empty_axes": 1}),
    "Resize by one": ("Resize", lambda n: ["", n.whole(np.ones(4, np.float32))], {}),
}


def _between(op: str, more: Any, attrs: dict[str, Any]) -> Any:
    def write(n: Net) -> str:
        y = n.conv()
        for step, values in (("Sub", MEAN), ("Div", VARIANCE), ("Mul", GAMMA), ("Add", BETA)):
            y = n(step, y, n.const(values))
            y = n(op, y, *more(n), **({"to": n.type} if op == "Cast" else attrs))
        return n("Relu", y)

    return write


for name, (op, more, attrs) in NOTHING.items():
    left = f"{op} " * 4 if op in ("DepthToSpace", "Resize", "SpaceToDepth") else ""
    ROWS.add(f"{name} between", _between(op, more, attrs), f"Conv {left}Relu")


def _same_constant(n: Net, x: str) -> str:
    shared = n.const(VARIANCE)
    return n("Div", n("Sub", x, shared), shared)


def _many(n: Net, x: str) -> str:
    for _ in range(5):
        x = n.affine(x)
    return x
