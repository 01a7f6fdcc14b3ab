"""Random live norms in ONNX, and random near misses: norms but for one thing.

All in float64, so that ONNX Runtime, which computes a file before and after recognition, tells one from the other: a
replacement that is wrong by more than what float32 parameters lose is seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx

from tests.folding.choices import Choices
from tests.recognition.random_layout import CHUNKS
from tests.recognition.random_statistic import StatisticMaker

NUMERATOR = 1 + math.sqrt(math.pi * math.log(4))

#: What can be different. "" is nothing: then it is a norm.
MISSES = (
    "",
    "no centre of the statistic",
    "centred by the middle of the range",
    "centred by half of the batch",
    "mean over n - 1",
    "one side only",
    "two kinds mixed",
    "power of a half",
    "power of three",
    "chunks of fixed length",
    "chunks across space first",
    "parts of the batch",
    "all channels",
    "log of n - 1",
    "log of 2 n",
    "another constant",
    "constant of another size",
    "epsilon by channel",
    "epsilon by sample",
    "epsilon in the root",
    "epsilon as a floor",
    "epsilon twice",
    "scale by position",
    "bias by position",
    "a little of the input",
    "a little of the mean",
    "scale of the input",
    "statistic of the square",
    "input cut off",
    "mean over other axes",
    "statistic over other axes",
    "groups that interleave",
    "last axis left out",
    "statistic of the next sample",
    "chunks in another order",
    "constant of other chunks",
    "one element not counted",
    "first element not counted",
    "at most eight samples",
    "epsilon above the line",
    "epsilon in each root",
    "bias by sample",
)


@dataclass(frozen=True)
class Made:
    """A model of one norm, or near miss, and what it is.

    Attributes:
        sizes: of x, with None for those that are open.
    """

    model: onnx.ModelProto
    kind: str
    scope: str
    miss: str
    sizes: tuple[int | None, ...]


class Maker(StatisticMaker):
    """Writes one norm with the spellings that `choices` says, different in `miss`."""

    def make(self) -> Made:
        """The model."""
        b = self.build
        x = given = b.input([size or "N" for size in self.at.sizes])
        if self.miss == "input cut off":
            x = b.node("Min", [x, b.const(self.choices.one_of((3.0, 50.0)))])
        if self.miss == "parts of the batch":
            x = b.node("Reshape", [x, self.whole([2, -1, self.at.channels, *self.at.space])])
            self.rank, self.axes = self.rank + 1, [axis + 1 for axis in self.axes]
        if self.at.scope == "group":
            x = b.node("Reshape", [x, self.whole(self.at.cut)])
        self.centred_value = x
        mean = self.mean(x)
        d = b.node("Sub", [x, mean]) if self.choices.chance(70) else b.node("Neg", [b.node("Sub", [mean, x])])
        centred = x if self.miss == "no centre of the statistic" else d
        divisor = self.with_epsilon(b.node("Mul", self.either(self.statistic(centred), self.constant(given))), given)
        y = self.scaled(x, mean, d, divisor)
        if self.miss == "parts of the batch":
            y = b.node("Reshape", [y, self.whole(self.at.whole)])
        if self.at.scope == "group":
            x, y = given, b.node("Reshape", [y, self.whole(self.at.whole)])
        if self.miss == "a little of the input":
            y = b.node("Add", [y, b.node("Mul", [x, b.const(self.choices.one_of((1e-2, 1e-6)))])])
        if self.miss == "a little of the mean":
            y = b.node("Add", [y, b.node("Mul", [mean, b.const(self.choices.one_of((1e-2, 1e-6)))])])
        if self.choices.chance(30):
            y = b.node("Max", [y, b.node("Mul", [y, b.const(0.5)])])  # a leaky ReLU
        b.output(y)
        return Made(b.model(), self.at.kind, self.at.scope, self.miss, self.at.sizes)

    def mean(self, x: str) -> str:
        b = self.build
        if self.miss == "centred by the middle of the range":
            return b.node("Mul", [b.node("Add", [self.reduce("Max", x), self.reduce("Min", x)]), b.const(0.5)])
        if self.miss == "centred by half of the batch":
            return b.node("ReduceMean", [self.cut_out(x, 0, 0, 2), self.whole([*{0, *self.axes}])])
        if self.miss == "at most eight samples":
            return b.node("ReduceMean", [self.cut_out(x, 0, 0, 8), self.whole(self.axes)])
        how = "mean" if self.miss == "mean over other axes" else self.choices.one_of(("mean", "sum", "squeezed"))
        if how == "sum" and not self.at.is_open:
            return b.node("Div", [self.reduce("Sum", x), b.const(self.at.count())])
        if how == "squeezed":
            flat = b.node("ReduceMean", [x, self.whole(self.axes)], keepdims=0)
            return b.node("Unsqueeze", [flat, self.whole(self.axes)])
        return self.reduce("Mean", x)

    def constant(self, x: str) -> str:
        b = self.build
        if self.at.kind == "l1":
            return b.const(math.sqrt(math.pi / 2) * (1.01 if self.miss == "another constant" else 1.0))
        if self.at.kind == "l2":
            return b.const(1.0 if self.miss != "another constant" else 0.97)
        shift, times = float(self.miss == "log of n - 1"), 2.0 if self.miss == "log of 2 n" else 1.0
        share = 0.35 if self.at.kind == "range" else 1.0
        share *= 1.01 if self.miss == "another constant" else 1.0
        chunks = float(CHUNKS / 2 if self.miss == "constant of other chunks" else CHUNKS)
        if self.at.is_open and self.miss != "constant of another size":
            n = self.count_node(x)
            n = b.node("Div", [n, b.const(chunks)]) if self.at.kind == "range" else n
            n = b.node("Mul", [b.node("Sub", [n, b.const(shift)]), b.const(times)])
            root = b.node("Sqrt", [b.node("Mul", [b.node("Log", [n]), b.const(8.0)])])
            return b.node("Div", [b.const(share * NUMERATOR), root])
        count = self.at.count() / (chunks if self.at.kind == "range" else 1)
        return b.const(share * NUMERATOR / math.sqrt(8 * math.log(times * (count - shift))))

    def with_epsilon(self, stat: str, x: str) -> str:
        b = self.build
        if self.miss in ("epsilon in the root", "epsilon in each root"):
            return stat
        if self.miss == "epsilon as a floor":
            return b.node("Max", [stat, b.const(self.epsilon)])
        if self.miss == "epsilon by channel":
            values = self.epsilon * (1 + 0.2 * np.arange(math.prod(self.at.column)))
            return b.node("Add", [stat, b.const(values.reshape(self.at.column))])
        if self.miss == "epsilon by sample":
            return b.node("Add", [stat, b.node("Mul", [stat, b.const(self.epsilon)])])
        if self.miss == "epsilon twice":
            return b.node("Add", [b.node("Add", [stat, b.const(self.epsilon)]), b.const(self.epsilon)])
        return b.node("Add", self.either(stat, b.const(self.epsilon)))

    def scaled(self, x: str, mean: str, d: str, divisor: str) -> str:
        b = self.build
        weight, bias = (b.const(values) for values in self.at.weights())
        last = self.at.space[-1]
        if self.miss == "scale by position":
            weight = b.const(np.linspace(1, 1.5, last))
        if self.miss == "bias by position":
            bias = b.const(np.linspace(1, 1.5, last))
        if self.miss == "bias by sample":
            by = np.linspace(1, 2, self.at.batch).reshape(-1, *[1] * (self.rank - 1))
            bias = b.node("Mul", [bias, b.const(by)])
        if self.miss == "scale of the input":
            d = x
        if self.miss == "epsilon above the line":
            d = b.node("Add", [d, b.const(self.epsilon)])
        how = self.choices.one_of(("div", "reciprocal", "slope", "affine"))
        if how == "reciprocal":
            z = b.node("Mul", self.either(d, b.node("Reciprocal", [divisor])))
            return b.node("Add", self.either(b.node("Mul", self.either(z, weight)), bias))
        if how == "slope":
            return b.node("Add", [b.node("Mul", [d, b.node("Div", [weight, divisor])]), bias])
        if how == "affine" and self.miss not in ("scale of the input", "epsilon above the line"):
            a = b.node("Div", [weight, divisor])
            rest = b.node("Sub", [bias, b.node("Mul", [mean, a])])
            return b.node("Add", [b.node("Mul", [x, a]), rest])
        return b.node("Add", self.either(b.node("Mul", [weight, b.node("Div", [d, divisor])]), bias))


def make(choices: Choices) -> Made:
    """A norm in one of three, else a near miss."""
    return Maker(choices, "" if choices.chance(33) else choices.one_of(MISSES)).make()
