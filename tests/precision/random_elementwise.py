"""Random steps that compute element by element: activations, arithmetic, comparisons, casts."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from tests.precision.random_growth import Growth, Unfit, Value

# name: (first opset, attributes to choose from, whether it jumps)
ACTIVATIONS: dict[str, tuple[int, tuple[dict[str, object], ...], bool]] = {
    "Relu": (9, ({},), False),
    "LeakyRelu": (9, ({}, {"alpha": 0.3}), False),
    "Elu": (9, ({}, {"alpha": 0.5}), False),
    "Selu": (9, ({},), False),
    "Celu": (12, ({"alpha": 0.7},), False),
    "Sigmoid": (9, ({},), False),
    "HardSigmoid": (9, ({}, {"alpha": 0.3, "beta": 0.4}), False),
    "HardSwish": (14, ({},), False),
    "Gelu": (20, ({}, {"approximate": "tanh"}), False),
    "Mish": (18, ({},), False),
    "Tanh": (9, ({},), False),
    "Softplus": (9, ({},), False),
    "Softsign": (9, ({},), False),
    "ThresholdedRelu": (10, ({"alpha": 0.2},), True),
    "Swish": (24, ({},), False),
    "Erf": (9, ({},), False),
    "Exp": (9, ({},), False),
    "Abs": (9, ({},), False),
    "Neg": (9, ({},), False),
    "Sin": (9, ({},), False),
    "Cos": (9, ({},), False),
    "Atan": (9, ({},), False),
    "Identity": (9, ({},), False),
    "Floor": (9, ({},), True),
    "Ceil": (9, ({},), True),
    "Round": (11, ({},), True),
    "Sign": (9, ({},), True),
}
POSITIVE = ("Log", "Sqrt", "Reciprocal")


def activation(g: Growth) -> None:
    """One operator of one input."""
    name = g.choices.one_of([each for each, (since, _, _) in ACTIVATIONS.items() if since <= g.opset])
    _, attributes, jumps = ACTIVATIONS[name]
    g.jumps |= jumps
    x = g.pick()
    how: dict[str, Any] = g.choices.one_of(attributes)
    g.node(name, [x], **how)


def of_positive(g: Growth) -> None:
    """Log, Sqrt or Reciprocal of |x| + 0.5."""
    x = g.node("Abs", [g.pick()], keep=False)
    g.node(g.choices.one_of(POSITIVE), [g.node("Add", [x, g.const(np.float32(0.5))], keep=False)])


def clip(g: Growth) -> None:
    """Clip by attributes (opset 9, 10) or by inputs that may be absent."""
    low, high = g.choices.one_of(((-1.0, 1.0), (0.0, 6.0), (None, 0.5), (-0.25, None), (None, None)))
    x = g.pick()
    if g.opset < 11:
        limits: dict[str, Any] = {k: v for k, v in (("min", low), ("max", high)) if v is not None}
        g.node("Clip", [x], **limits)
        return
    ends = [None if end is None else g.const(np.float32(end), "end") for end in (low, high)]
    while ends and ends[-1] is None:
        ends.pop()
    g.node("Clip", [x, *ends])


def constant_arithmetic(g: Growth) -> None:
    """x with a constant: per channel, scalar, (1,), of the whole shape; either operand first."""
    x = g.pick()
    channels = x.shape[1] if x.rank > 1 else 1
    shape = g.choices.one_of(
        ((), (1,), x.shape, x.shape[-1:], (channels, *[1] * (x.rank - 2)), (1, channels, *[1] * (x.rank - 2)))
    )
    name = g.choices.one_of(("Add", "Sub", "Mul", "Div", "Mul", "Add"))
    values = g.normal(*shape)
    constant = g.const((np.abs(values) + 0.5) if name == "Div" else values, "factor", shared=name != "Div")
    swapped = name != "Div" and g.choices.chance(40)
    g.node(name, [constant, x] if swapped else [x, constant])


def joined(g: Growth) -> None:
    """Two or three values that broadcast."""
    first = g.pick()
    second = g.pick(lambda v: v.is_float and _broadcast(first, v))
    name = g.choices.one_of(("Add", "Add", "Add", "Sub", "Mul", "Max", "Min", "Sum", "Mean"))
    operands = [first, second]
    if name in ("Max", "Min", "Sum", "Mean") and g.choices.chance(40):
        operands.append(first)
    g.node(name, operands)


def divided(g: Growth) -> None:
    """x / (|y| + 0.5)."""
    x = g.pick()
    y = g.node("Abs", [g.pick(lambda v: v.is_float and _broadcast(x, v))], keep=False)
    g.node("Div", [x, g.node("Add", [y, g.const(np.float32(0.5))], keep=False)])


def power(g: Growth) -> None:
    """x squared, or |x| to some power; from opset 12 the exponent may be of a whole type."""
    x = g.pick()
    if g.opset >= 12 and g.choices.chance(40):
        g.node("Pow", [x, g.const(np.array(2, g.choices.one_of((np.int64, np.int32))), "exponent")])
    elif g.choices.chance(50):
        g.node("Pow", [x, g.const(np.float32(2.0), "exponent")])
    else:
        g.node("Pow", [g.node("Abs", [x], keep=False), g.const(np.array([1.5], np.float32), "exponent")])


def prelu(g: Growth) -> None:
    """A slope for all, or one per channel."""
    x = g.pick(lambda v: v.is_float and v.rank > 1)
    shape = g.choices.one_of(((1,), (x.shape[1], *[1] * (x.rank - 2))))
    g.node("PRelu", [x, g.const(g.normal(*shape), "slope")])


def dropout(g: Growth) -> None:
    """At inference it changes nothing; with its ratio as attribute (up to 11) or input."""
    x = g.pick()
    if g.opset < 12:
        g.node("Dropout", [x], ratio=0.4)
    elif g.choices.chance(50):
        g.node("Dropout", [x])
    else:
        g.node("Dropout", [x, g.const(np.float32(0.4), "ratio", shared=False), g.const(np.array(False), "training")])


def compared(g: Growth) -> None:
    """A comparison, at times of comparisons."""
    g.jumps = True
    x = g.pick()
    names = ["Greater", "Less"] + (["GreaterOrEqual", "LessOrEqual"] if g.opset >= 12 else [])
    found = g.node(g.choices.one_of(names), [x, g.const(np.float32(0.1), "threshold")])
    if g.choices.chance(30):
        found = g.node("Not", [found])
    if g.choices.chance(30):
        other = g.pick(lambda v: v.elem == TensorProto.BOOL and _broadcast(found, v))
        g.node(g.choices.one_of(("And", "Or", "Xor")), [found, other])


def where(g: Growth) -> None:
    """By a stored mask, or by a comparison; at times against a constant as masks have it."""
    x = g.pick(lambda v: v.is_float and v.rank > 0)
    if g.choices.chance(60):
        mask = g.const(g.rng.random(x.shape[-1:]) > 0.4, "mask")
    else:
        mask = g.pick(lambda v: v.elem == TensorProto.BOOL and _broadcast(x, v))
    other = g.const(np.float32(g.choices.one_of((0.0, -1.0))), "fill")
    g.node("Where", [mask, x, other] if g.choices.chance(50) else [mask, other, x])


def cast(g: Growth) -> None:
    """To a type and back: a float that rounds, a bool, a whole number."""
    x = g.pick()
    to = g.choices.one_of(
        (TensorProto.DOUBLE, TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL)
    )
    g.jumps |= to not in (TensorProto.DOUBLE, TensorProto.FLOAT)
    there = g.node("Cast", [x], to=to, keep=to != TensorProto.DOUBLE)
    g.node("Cast", [there], to=TensorProto.FLOAT)


def whole_arithmetic(g: Growth) -> None:
    """Arithmetic of whole numbers, some of which wraps around, with a constant."""
    x = g.pick(lambda v: v.elem in (TensorProto.INT64, TensorProto.INT32, TensorProto.UINT8, TensorProto.INT8))
    dtype = x.array.dtype
    small = x.elem in (TensorProto.UINT8, TensorProto.INT8)
    if small and g.opset < 14:
        raise Unfit
    name = g.choices.one_of(("Add", "Sub", "Mul", "Div", "Mod") + (("Max", "Min") if g.opset >= 12 else ()))
    constant = g.const(np.asarray(g.choices.integer(1, 100), dtype), "whole")
    g.node(name, [x, constant])


def whole_constants(g: Growth) -> None:
    """A constant computed from stored whole numbers in their own type, then a factor of x."""
    dtype: Any = g.choices.one_of((np.uint8, np.int8, np.int32, np.int64, np.uint32, np.uint64))
    if dtype in (np.uint8, np.int8) and g.opset < 14:
        raise Unfit
    x = g.pick(lambda v: v.is_float and v.rank > 1)
    size = (x.shape[1], *[1] * (x.rank - 2)) if g.choices.chance(60) else ()
    high = min(int(np.iinfo(dtype).max), 2**31)
    first, second = (g.const(np.asarray(g.rng.integers(high // 2, high, size), dtype), "whole") for _ in range(2))
    name = g.choices.one_of(("Add", "Mul", "Sub", "Div"))
    found = (
        g.node("Cast", [g.node(name, [first, second], keep=False)], to=TensorProto.FLOAT, keep=False)
        if (name == "Div")
        else _wrapped(g, name, first, second)
    )
    g.node("Mul", [x, found])


def _wrapped(g: Growth, name: str, first: Value, second: Value) -> Value:
    """(first op second) / 1000 * its type's wrap, as float, brought to numbers of about 1."""
    result = g.node(name, [first, second], keep=False)
    number = g.node("Cast", [result], to=TensorProto.DOUBLE, keep=False)
    peak = float(np.abs(number.array).max()) or 1.0
    scaled = g.node("Div", [number, g.const(np.float64(2.0 ** np.ceil(np.log2(peak))))], keep=False)
    return g.node("Cast", [scaled], to=TensorProto.FLOAT, keep=False)


def from_whole(g: Growth) -> None:
    """Whole numbers or truths as floats."""
    x = g.pick(lambda v: not v.is_float and v.array.dtype.kind in "iub" and np.abs(v.array.astype(float)).max() < 2000)
    g.node("Cast", [x], to=TensorProto.FLOAT)


def _broadcast(first: Value, second: Value) -> bool:
    try:
        return len(np.broadcast_shapes(first.shape, second.shape)) <= 5
    except ValueError:
        return False


STEPS = (
    (8, activation),
    (3, clip),
    (2, of_positive),
    (5, constant_arithmetic),
    (6, joined),
    (1, divided),
    (1, power),
    (1, prelu),
    (1, dropout),
    (1, compared),
    (2, where),
    (1, cast),
    (1, whole_arithmetic),
    (2, whole_constants),
    (1, from_whole),
)
