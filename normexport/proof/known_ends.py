"""Ends that the numbers of a value can't pass, whatever the inputs are: a sigmoid's 0 and 1, the 0 of a ReLU."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from normexport.graphs.nodes import op
from normexport.proof.inputs.following import LAYOUT, constant_numbers

#: The least and the largest number.
Ends: TypeAlias = tuple[float, float]

_ANY: Ends = (-math.inf, math.inf)
_DEEP = 100  # nodes in a row that are looked at
_RANGES: dict[str, Ends] = {
    **dict.fromkeys(("Sigmoid", "HardSigmoid", "Softmax"), (0.0, 1.0)),
    **dict.fromkeys(("Tanh", "Sin", "Cos", "Erf", "Softsign", "Sign"), (-1.0, 1.0)),
    **dict.fromkeys(("Abs", "Exp", "Sqrt", "Softplus", "ReduceL1", "ReduceL2", "ReduceSumSquare"), (0.0, math.inf)),
    "LogSoftmax": (-math.inf, 0.0),
    "Acos": (0.0, math.pi),
}
#: What they give lies among the numbers that they are given, or is 0 where they pad.
_AMONG = frozenset({*LAYOUT, "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean"}) - {"Pad"}
_PAD = frozenset({"AveragePool", "Trilu"})
_ROUND = frozenset({"Cast", "Floor", "Ceil", "Round"})
_SEVERAL = frozenset({"Concat", "Where", "Max", "Min"})


def known_ends(value: ir.Value | None) -> Ends:
    """The ends of a value, as far as the functions behind it have such: -inf or inf where they have none."""
    return _ends(value, _DEEP, {})


def _ends(value: ir.Value | None, deep: int, known: dict[ir.Value, Ends]) -> Ends:
    """Each value is looked at once, however many ways lead to it: ends from fewer nodes are only wider."""
    if value is None or deep == 0:
        return _ANY
    if value not in known:
        known[value] = _ANY  # while it is looked for, lest a circle be gone round
        known[value] = _found(value, deep, known)
    return known[value]


def _found(value: ir.Value, deep: int, known: dict[ir.Value, Ends]) -> Ends:
    numbers = constant_numbers(value)
    if numbers is not None:
        return float(numbers.min()), float(numbers.max())
    node = value.producer()
    if node is None:
        return _ANY
    kind = op(node)
    if kind in _RANGES:
        return _RANGES[kind]
    given = [_ends(each, deep - 1, known) for each in _numbers_of(node)]
    if kind == "Relu":
        return max(given[0][0], 0.0), max(given[0][1], 0.0)
    if kind in ("Max", "Min"):
        chosen = max if kind == "Max" else min
        return chosen(low for low, _ in given), chosen(high for _, high in given)
    if kind == "Clip":
        return _clipped(node, given[0])
    if kind in ("Neg", "Add", "Sub", "Mul", "Div"):
        return _by_arithmetic(kind, node, given)
    if kind in _AMONG and given:
        ends = [*given, (0.0, 0.0)] if kind in _PAD else given
        low, high = min(low for low, _ in ends), max(high for _, high in ends)
        return (_down(low), -_down(-high)) if kind in _ROUND else (low, high)
    return _ANY


def _numbers_of(node: ir.Node) -> list[ir.Value | None]:
    """The inputs among whose numbers those of the result lie."""
    if op(node) == "Where":
        return [*node.inputs[1:3]]
    if op(node) in ("Add", "Sub", "Mul", "Div") or op(node) in _SEVERAL:
        return [*node.inputs]
    return [*node.inputs[:1]]


def _down(end: float) -> float:
    return float(np.floor(end))


def _clipped(node: ir.Node, given: Ends) -> Ends:
    low, high = given
    for position, end in ((1, "min"), (2, "max")):
        numbers = constant_numbers(node.inputs[position]) if len(node.inputs) > position else None
        limit = node.attributes[end].as_float() if end in node.attributes else None
        limit = float(numbers.reshape(-1)[0]) if numbers is not None else limit
        if limit is not None and end == "min":
            low, high = max(low, limit), max(high, limit)
        elif limit is not None:
            low, high = min(low, limit), min(high, limit)
    return low, high


def _by_arithmetic(kind: str, node: ir.Node, given: list[Ends]) -> Ends:
    if kind == "Neg":
        return -given[0][1], -given[0][0]
    if kind == "Mul" and node.inputs[0] is node.inputs[1]:
        return 0.0, math.inf
    (low, high), (least, most) = given
    if kind == "Add":
        return low + least, high + most
    if kind == "Sub":
        return low - most, high - least
    if kind == "Div" and least <= 0 <= most:
        return _ANY
    with np.errstate(all="ignore"):
        ends = [
            float(np.divide(a, b) if kind == "Div" else np.multiply(a, b)) for a in (low, high) for b in (least, most)
        ]
    ends = [0.0 if math.isnan(end) else end for end in ends]  # 0 * inf: of numbers that are all finite
    return min(ends), max(ends)
