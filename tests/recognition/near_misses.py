"""Random live norms in ONNX, and random near misses: norms but for one thing.

All in float64, so that ONNX Runtime, which computes a file before and after recognition, tells one from the other: a
replacement that is wrong by more than what float32 parameters lose is seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx

from tests.folding.build import GraphBuilder
from tests.folding.choices import Choices

K, CHUNKS, SPACE = 5, 8, 32
KINDS = ("l1", "l2", "linf", "topk", "range")
#: Groups are of channels, GROUPS of them; a layer is all of a sample.
SCOPES, GROUPS = ("batch", "instance", "group", "layer"), 2
NUMERATOR = 1 + math.sqrt(math.pi * math.log(4))

#: Misses that only norms of the batch and of samples have.
_OF_TWO_SCOPES = ("parts of the batch", "all channels", "centred by half of the batch", "a little of the mean")

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


class Maker:
    """Writes one norm with the spellings that `choices` says, different in `miss`."""

    def __init__(self, choices: Choices, miss: str) -> None:
        self.choices, self.miss = choices, miss
        self.kind, self.scope = choices.one_of(KINDS), choices.one_of(SCOPES)
        if miss in _OF_TWO_SCOPES:
            self.scope = choices.one_of(("batch", "instance"))
        if miss.startswith("chunks"):
            self.kind = "range"
        if miss == "epsilon in the root":
            self.kind = "l2"
        self.build = GraphBuilder()
        self.channels = choices.one_of((4, 6)) if self.scope == "group" else choices.integer(2, 4)
        self.batch = choices.one_of((4, 6))
        self.space = choices.one_of(((8, 4), (32,), (4, 8), (2, 4, 4)))
        self.is_open = choices.chance(50)
        self.sizes = (None if self.is_open else self.batch, self.channels, *self.space)
        self.rank = len(self.sizes)
        self.axes = [axis for axis in range(self.rank) if axis != 1 and (axis or self.scope == "batch")]
        if self.scope == "layer":
            self.axes = [*range(1, self.rank)]
        if miss == "all channels":
            self.axes = sorted({*self.axes, 1})
        self.epsilon = choices.one_of((1e-5, 1e-3, 0.1))

    def make(self) -> Made:
        """The model."""
        b = self.build
        x = given = b.input([size or "N" for size in self.sizes])
        if self.miss == "input cut off":
            x = b.node("Min", [x, b.const(self.choices.one_of((3.0, 50.0)))])
        if self.miss == "parts of the batch":
            x = b.node("Reshape", [x, self.whole([2, -1, self.channels, *self.space])])
            self.rank, self.axes = self.rank + 1, [axis + 1 for axis in self.axes]
        if self.scope == "group":
            x = b.node("Reshape", [x, self.whole([-1, GROUPS, self.channels // GROUPS, *self.space])])
            self.rank, self.axes = self.rank + 1, [*range(2, self.rank + 1)]
        mean = self.mean(x)
        d = b.node("Sub", [x, mean]) if self.choices.chance(70) else b.node("Neg", [b.node("Sub", [mean, x])])
        centred = x if self.miss == "no centre of the statistic" else d
        divisor = self.with_epsilon(b.node("Mul", self.either(self.statistic(centred), self.constant(given))), given)
        y = self.scaled(x, mean, d, divisor)
        if self.miss == "parts of the batch":
            y = b.node("Reshape", [y, self.whole([-1, self.channels, *self.space])])
        if self.scope == "group":
            x, y = given, b.node("Reshape", [y, self.whole([-1, self.channels, *self.space])])
        if self.miss == "a little of the input":
            y = b.node("Add", [y, b.node("Mul", [x, b.const(self.choices.one_of((1e-2, 1e-6)))])])
        if self.miss == "a little of the mean":
            y = b.node("Add", [y, b.node("Mul", [mean, b.const(self.choices.one_of((1e-2, 1e-6)))])])
        if self.choices.chance(30):
            y = b.node("Max", [y, b.node("Mul", [y, b.const(0.5)])])  # a leaky ReLU
        b.output(y)
        return Made(b.model(), self.kind, self.scope, self.miss, self.sizes)

    def mean(self, x: str) -> str:
        b = self.build
        if self.miss == "centred by the middle of the range":
            return b.node("Mul", [b.node("Add", [self.reduce("Max", x), self.reduce("Min", x)]), b.const(0.5)])
        if self.miss == "centred by half of the batch":
            x = b.node("Slice", [x, self.whole([0]), self.whole([2]), self.whole([0])])
            return b.node("ReduceMean", [x, self.whole([*{0, *self.axes}])])
        how = self.choices.one_of(("mean", "sum", "squeezed"))
        if how == "sum" and not self.is_open:
            return b.node("Div", [self.reduce("Sum", x), b.const(self.count())])
        if how == "squeezed":
            flat = b.node("ReduceMean", [x, self.whole(self.axes)], keepdims=0)
            return b.node("Unsqueeze", [flat, self.whole(self.axes)])
        return self.reduce("Mean", x)

    def statistic(self, d: str) -> str:
        if self.miss == "two kinds mixed":
            other = KINDS[(KINDS.index(self.kind) + 1) % len(KINDS)]
            pair = [self.raw(self.kind, d), self.raw(other, d)]
            return self.build.node("Mul", [self.build.node("Add", pair), self.build.const(0.5)])
        return self.raw(self.kind, d)

    def raw(self, kind: str, d: str) -> str:
        b = self.build
        if self.miss.startswith("power"):
            power = 0.5 if self.miss.endswith("half") else 3.0
            mean = self.reduce("Mean", b.node("Pow", [self.size(d), b.const(power)]))
            return b.node("Pow", [mean, b.const(1 / power)])
        if self.miss == "statistic of the square":
            return b.node("Mul", [self.reduce("Mean", self.size(d))] * 2)
        if kind == "l1":
            return self.mean_of(self.size(d))
        if kind == "l2":
            inner = self.mean_of(b.node("Mul", [d, d]))
            if self.miss == "epsilon in the root":
                inner = b.node("Add", [inner, b.const(self.epsilon)])
            return b.node("Sqrt", [inner])
        if kind == "linf":
            return self.reduce("Max", self.size(d))
        if kind == "topk":
            rows = self.rows(self.size(d))
            largest = b.node("TopK", [rows, self.whole([K])], outputs=2, axis=1, largest=1, sorted=0)
            return self.unrow(b.node("ReduceMean", [largest, self.whole([1])], keepdims=0))
        rows = self.rows(d)
        cut = [0, -1, SPACE // CHUNKS] if self.miss == "chunks of fixed length" else [0, CHUNKS, -1]
        if self.miss == "chunks across space first":
            cut = [0, -1, CHUNKS]
        chunked = b.node("Reshape", [rows, self.whole(cut)])
        along = self.whole([1 if self.miss == "chunks across space first" else 2])
        ends = [b.node(f"Reduce{end}", [chunked, along], keepdims=0) for end in ("Max", "Min")]
        if self.choices.chance(50):
            means = [b.node("ReduceMean", [end, self.whole([1])], keepdims=0) for end in ends]
            return self.unrow(b.node("Sub", means))
        return self.unrow(b.node("ReduceMean", [b.node("Sub", ends), self.whole([1])], keepdims=0))

    def mean_of(self, value: str) -> str:
        if self.miss != "mean over n - 1":
            return self.reduce("Mean", value)
        b = self.build
        less = b.node("Sub", [self.count_node(), b.const(1.0)]) if self.is_open else b.const(self.count() - 1)
        return b.node("Div", [self.reduce("Sum", value), less])

    def size(self, d: str) -> str:
        """|d|, in one of its spellings."""
        b = self.build
        if self.miss == "one side only":
            return b.node("Relu", [d])
        how = self.choices.one_of(("abs", "root", "max", "relu", "sign", "where"))
        if how == "root":
            return b.node("Sqrt", [b.node("Mul", [d, d])])
        if how == "max":
            return b.node("Max", [d, b.node("Neg", [d])])
        if how == "relu":
            return b.node("Add", [b.node("Relu", [d]), b.node("Relu", [b.node("Neg", [d])])])
        if how == "sign":
            return b.node("Mul", [d, b.node("Sign", [d])])
        if how == "where":
            is_below = b.node("Less", [d, b.const(0.0)])
            return b.node("Where", [is_below, b.node("Neg", [d]), d])
        return b.node("Abs", [d])

    def rows(self, d: str) -> str:
        """(statistics, elements)."""
        b = self.build
        if self.miss == "parts of the batch":
            d = b.node("Transpose", [d], perm=[0, 2, 1, *range(3, self.rank)])
            flat = [0, 0, -1] if self.scope == "batch" else [-1, SPACE]
            return b.node("Reshape", [b.node("Reshape", [d, self.whole(flat)]), self.whole([-1, self.lasts()])])
        if self.miss == "all channels":
            return b.node("Reshape", [d, self.whole([1, -1] if self.scope == "batch" else [0, -1])])
        if self.scope in ("group", "layer"):
            return b.node("Reshape", [d, self.whole([-1, int(self.count())])])
        if self.scope == "batch":
            d = b.node("Transpose", [d], perm=[1, 0, *range(2, self.rank)])
            return b.node("Reshape", [d, self.whole([0, -1])])
        return b.node("Reshape", [d, self.whole([-1, SPACE])])

    def lasts(self) -> int:
        return SPACE * self.batch // 2 if self.scope == "batch" else SPACE

    def unrow(self, stat: str) -> str:
        ones = [1] * len(self.space)
        if self.miss == "parts of the batch":
            shape = [2, 1, self.channels, *ones] if self.scope == "batch" else [2, self.channels, -1, *ones]
            stat = self.build.node("Reshape", [stat, self.whole(shape)])
            swap = [0, 2, 1, *range(3, self.rank)]
            return stat if self.scope == "batch" else self.build.node("Transpose", [stat], perm=swap)
        if self.scope in ("group", "layer"):
            groups = [GROUPS, 1] if self.scope == "group" else [1]
            return self.build.node("Reshape", [stat, self.whole([-1, *groups, *ones])])
        channels = 1 if self.miss == "all channels" else self.channels
        return self.build.node("Reshape", [stat, self.whole([1 if self.scope == "batch" else -1, channels, *ones])])

    def constant(self, x: str) -> str:
        b = self.build
        if self.kind == "l1":
            return b.const(math.sqrt(math.pi / 2) * (1.01 if self.miss == "another constant" else 1.0))
        if self.kind == "l2":
            return b.const(1.0 if self.miss != "another constant" else 0.97)
        shift, times = float(self.miss == "log of n - 1"), 2.0 if self.miss == "log of 2 n" else 1.0
        share = 0.35 if self.kind == "range" else 1.0
        share *= 1.01 if self.miss == "another constant" else 1.0
        if self.is_open and self.miss != "constant of another size":
            n = self.count_node(x)
            n = b.node("Div", [n, b.const(float(CHUNKS))]) if self.kind == "range" else n
            n = b.node("Mul", [b.node("Sub", [n, b.const(shift)]), b.const(times)])
            root = b.node("Sqrt", [b.node("Mul", [b.node("Log", [n]), b.const(8.0)])])
            return b.node("Div", [b.const(share * NUMERATOR), root])
        count = self.count() / (CHUNKS if self.kind == "range" else 1)
        return b.const(share * NUMERATOR / math.sqrt(8 * math.log(times * (count - shift))))

    def with_epsilon(self, stat: str, x: str) -> str:
        b = self.build
        if self.miss == "epsilon in the root":
            return stat
        if self.miss == "epsilon as a floor":
            return b.node("Max", [stat, b.const(self.epsilon)])
        if self.miss == "epsilon by channel":
            values = self.epsilon * (1 + 0.2 * np.arange(self.channels))
            return b.node("Add", [stat, b.const(values.reshape(self.column))])
        if self.miss == "epsilon by sample":
            return b.node("Add", [stat, b.node("Mul", [stat, b.const(self.epsilon)])])
        if self.miss == "epsilon twice":
            return b.node("Add", [b.node("Add", [stat, b.const(self.epsilon)]), b.const(self.epsilon)])
        return b.node("Add", self.either(stat, b.const(self.epsilon)))

    def scaled(self, x: str, mean: str, d: str, divisor: str) -> str:
        b = self.build
        column = self.column
        weights = np.linspace(0.5, 1.5, self.channels) * np.where(np.arange(self.channels) % 2, -1, 1)
        weight, bias = b.const(weights.reshape(column)), b.const(np.linspace(-1, 2, self.channels).reshape(column))
        last = self.space[-1]
        if self.miss == "scale by position":
            weight = b.const(np.linspace(1, 1.5, last))
        if self.miss == "bias by position":
            bias = b.const(np.linspace(1, 1.5, last))
        if self.miss == "scale of the input":
            d = x
        how = self.choices.one_of(("div", "reciprocal", "slope", "affine"))
        if how == "reciprocal":
            z = b.node("Mul", self.either(d, b.node("Reciprocal", [divisor])))
            return b.node("Add", self.either(b.node("Mul", self.either(z, weight)), bias))
        if how == "slope":
            return b.node("Add", [b.node("Mul", [d, b.node("Div", [weight, divisor])]), bias])
        if how == "affine" and self.miss != "scale of the input":
            a = b.node("Div", [weight, divisor])
            rest = b.node("Sub", [bias, b.node("Mul", [mean, a])])
            return b.node("Add", [b.node("Mul", [x, a]), rest])
        return b.node("Add", self.either(b.node("Mul", [weight, b.node("Div", [d, divisor])]), bias))

    @property
    def column(self) -> tuple[int, ...]:
        """The shape of what each channel has one of."""
        groups = (GROUPS, self.channels // GROUPS) if self.scope == "group" else (self.channels,)
        return (*groups, *[1] * len(self.space))

    def reduce(self, how: str, value: str) -> str:
        return self.build.node(f"Reduce{how}", [value, self.whole(self.axes)], keepdims=1)

    def either(self, a: str, b: str) -> list[str]:
        return [a, b] if self.choices.chance(50) else [b, a]

    def count(self) -> float:
        """Elements of one statistic where sizes are fixed (or taken to be)."""
        parts = 2 if self.miss == "parts of the batch" else 1
        channels = self.channels if self.miss == "all channels" or self.scope == "layer" else 1
        if self.scope == "group":
            channels = self.channels // GROUPS
        return float((self.batch // parts if self.scope == "batch" else 1) * SPACE * channels)

    def count_node(self, x: str = "x") -> str:
        """The same, computed at inference."""
        b = self.build
        if self.scope != "batch":
            return b.const(self.count())
        batch = b.node("Cast", [b.node("Shape", [x], start=0, end=1)], to=onnx.TensorProto.DOUBLE)
        return b.node("Mul", [batch, b.const(self.count() / self.batch)])

    def whole(self, values: list[int]) -> str:
        return self.build.const(np.array(values, np.int64), keep_type=True, as_node=self.choices.chance(50))


def make(choices: Choices) -> Made:
    """A norm in one of three, else a near miss."""
    return Maker(choices, "" if choices.chance(33) else choices.one_of(MISSES)).make()
