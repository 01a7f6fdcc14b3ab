"""Small graphs whose fold is known beforehand, written as functions with a verdict above each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper

from normexport import norms
from tests.folding.build import GraphBuilder, bias_like

Make = Callable[[GraphBuilder], None]


@dataclass(frozen=True)
class Case:
    """A graph and what folding must do with it.

    verdict: "folds" (every norm; `after` are then the operators left), "refuses" (no norm may be folded, and
    where `says` is given every refusal names it) or "safe" (folding is optional, the meaning is not).
    `untouched`: there is nothing to improve, so `changed` must be False.
    """

    name: str
    make: Make
    verdict: str
    after: Counter[str] = field(default_factory=Counter)
    says: str = ""
    untouched: bool = False
    infer: bool = True
    dtype: type = np.float64

    def model(self) -> onnx.ModelProto:
        """A fresh model of the case."""
        build = GraphBuilder(self.dtype)
        self.make(build)
        return build.model(infer=self.infer)


class Cases:
    """Collects cases through decorators; the function's name, in words, is the claim."""

    def __init__(self) -> None:
        self.all: list[Case] = []

    def folds(self, infer: bool = True, **after: int) -> Callable[[Make], Make]:
        return self._register("folds", after=Counter(after), infer=infer)

    def refuses(self, says: str = "", **options: Any) -> Callable[[Make], Make]:
        return self._register("refuses", says=says, **options)

    def safe(self) -> Callable[[Make], Make]:
        return self._register("safe")

    def add(self, name: str, make: Make, **after: int) -> None:
        """A case made in a loop, which must fold."""
        self.all.append(Case(name, make, "folds", Counter(after)))

    def _register(self, verdict: str, **options: Any) -> Callable[[Make], Make]:
        def register(make: Make) -> Make:
            self.all.append(Case(make.__name__, make, verdict, **options))
            return make

        return register


# ---- the parts that cases are made of; constants are deterministic and never symmetric -------------------------


def weights(*shape: int) -> np.ndarray:
    """Distinct values of mixed signs, no two slices proportional."""
    size = int(np.prod(shape))
    return (np.sin(1.7 * np.arange(1, size + 1) ** 1.3) + 0.1).reshape(shape)


def conv(b: GraphBuilder, x: str, inputs: int, outputs: int, kernel: tuple[int, ...] = (3, 3), **attrs: Any) -> str:
    """Conv with bias; `bias=False` without; `weight` names one to share; other attributes go to the node."""
    has_bias, weight = attrs.pop("bias", True), attrs.pop("weight", None)
    shape = (outputs, inputs // attrs.get("group", 1), *kernel)
    operands = [x, weight or b.const(weights(*shape), "weight")]
    if has_bias:
        operands.append(b.const(bias_like(outputs), "bias"))
    return b.node("Conv", operands, **attrs)


def branch(b: GraphBuilder, captured: str) -> str:
    """An If whose branches read `captured` from the outer graph."""
    elem = helper.np_dtype_to_tensor_dtype(b.dtype)
    out = helper.make_tensor_value_info("inner", elem, None)
    bodies = {
        f"{name}_branch": helper.make_graph([helper.make_node(op, [captured], ["inner"])], name, [], [out])
        for name, op in (("then", "Neg"), ("else", "Abs"))
    }
    return b.node("If", [b.const(np.array(True), keep_type=True)], **bodies)


GAMMAS = np.array([0.7, -1.3, 0.05, 2.0, -0.4, 1.1, 0.9, -0.8])
FORMS = ("running", "batchnorm", "naive", "divided", "reversed", "minus", "shift", "scale_shift")


def norm(b: GraphBuilder, x: str, channels: int, rank: int = 4, form: str = "running", positive: bool = False) -> str:
    """A norm of `channels` channels on axis 1 of x in one of FORMS; gammas of both signs unless `positive`."""
    gamma = np.abs(GAMMAS[:channels]) if positive else GAMMAS[:channels]
    mean, beta = 0.3 * np.arange(1, channels + 1), 1.0 - 0.6 * np.arange(channels)
    scale = 0.5 + 0.25 * np.arange(channels)
    if form == "running":
        constants = [b.const(value) for value in (mean, 1 / scale, gamma, beta)]
        return b.node("RunningNorm", [x, *constants], domain=norms.DOMAIN, kind="l1")
    if form == "batchnorm":
        constants = [b.const(value) for value in (gamma, beta, mean, scale)]
        return b.node("BatchNormalization", [x, *constants], epsilon=1e-3)
    return chain(b, x, CHAINS[form](mean, scale, gamma, beta), rank)


Link = tuple[str, np.ndarray, bool]  # operator, constant (C,), constant first

CHAINS: dict[str, Callable[..., list[Link]]] = {
    "naive": lambda m, s, g, b: [("Sub", m, False), ("Mul", 1 / s, False), ("Mul", g, False), ("Add", b, False)],
    "divided": lambda m, s, g, b: [("Sub", m, False), ("Div", s, False), ("Mul", g, False), ("Add", b, False)],
    "reversed": lambda m, s, g, b: [("Add", -m, True), ("Mul", 1 / s, True), ("Mul", g, True), ("Add", b, True)],
    "minus": lambda m, s, g, b: [("Sub", m, True), ("Mul", g, True), ("Sub", b, True)],
    "shift": lambda m, s, g, b: [("Sub", m, False), ("Add", b, False)],
    "scale_shift": lambda m, s, g, b: [("Mul", g, False), ("Add", b, False)],
}


def chain(b: GraphBuilder, x: str, links: list[Link], rank: int = 4, batch_axis: bool = False) -> str:
    """Elementwise nodes whose constants have the shape (C, 1, ...), or (1, C, 1, ...) with `batch_axis`."""
    for op, value, first in links:
        shape = (*([1] if batch_axis else []), -1, *[1] * (rank - 2))
        constant = b.const(value.reshape(shape))
        x = b.node(op, [constant, x] if first else [x, constant])
    return x
