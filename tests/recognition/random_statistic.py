"""Random spellings of a live norm's statistic in ONNX, right or different in one thing."""

from __future__ import annotations

import numpy as np
import onnx

from tests.folding.build import GraphBuilder
from tests.folding.choices import Choices
from tests.recognition.random_layout import CHUNKS, KINDS, SPACE, Layout

K = 5


class StatisticMaker:
    """Writes the statistic of a norm with the spellings that `choices` says, different in `miss`."""

    def __init__(self, choices: Choices, miss: str) -> None:
        self.choices, self.miss = choices, miss
        self.at = at = Layout(choices, miss)
        self.rank, self.axes = at.rank, at.axes
        self.build = GraphBuilder()
        self.epsilon = choices.one_of((1e-5, 1e-3, 0.1))
        self.centred_value = ""  # of which the mean is taken

    def statistic(self, d: str) -> str:
        if self.miss == "two kinds mixed":
            other = KINDS[(KINDS.index(self.at.kind) + 1) % len(KINDS)]
            pair = [self.raw(self.at.kind, d), self.raw(other, d)]
            return self.build.node("Mul", [self.build.node("Add", pair), self.build.const(0.5)])
        if self.miss == "one element not counted":
            d = self.build.node("Mul", [d, self.build.const(self.at.mask(self.choices))])
        if self.miss == "at most eight samples":
            d = self.cut_out(d, 0, 0, 8)
        stat = self.raw(self.at.kind, d)
        if self.miss == "statistic of the next sample":
            last = self.cut_out(stat, 0, 1, 1 << 62)
            return self.build.node("Concat", [last, self.cut_out(stat, 0, 0, 1)], axis=0)
        return stat

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
        if kind == "linf" and self.miss == "first element not counted":
            rows = self.but_first(self.rows(self.size(d)))
            return self.unrow(b.node("ReduceMax", [rows, self.whole([1])], keepdims=0))
        if kind == "linf":
            return self.reduce("Max", self.size(d))
        if kind == "topk":
            rows = self.but_first(self.rows(self.size(d)))
            largest = b.node("TopK", [rows, self.whole([K])], outputs=2, axis=1, largest=1, sorted=0)
            return self.unrow(b.node("ReduceMean", [largest, self.whole([1])], keepdims=0))
        rows = self.rows(d)
        cut = [0, -1, SPACE // CHUNKS] if self.miss == "chunks of fixed length" else [0, CHUNKS, -1]
        if self.miss == "chunks across space first":
            cut = [0, -1, CHUNKS]
        if self.miss == "chunks in another order":
            turned = b.node("Transpose", [b.node("Reshape", [rows, self.whole([0, 4, -1])])], perm=[0, 2, 1])
            rows = b.node("Reshape", [turned, self.whole([0, -1])])
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
        less = b.node("Sub", [self.count_node(), b.const(1.0)]) if self.at.is_open else b.const(self.at.count() - 1)
        return b.node("Div", [self.reduce("Sum", value), less])

    def size(self, d: str) -> str:
        """|d|, in one of its spellings."""
        b = self.build
        if self.miss == "one side only":
            return b.node("Relu", [d])
        if self.miss == "epsilon in each root":
            return b.node("Sqrt", [b.node("Add", [b.node("Mul", [d, d]), b.const(self.epsilon)])])
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
            flat = [0, 0, -1] if self.at.scope == "batch" else [-1, SPACE]
            return b.node("Reshape", [b.node("Reshape", [d, self.whole(flat)]), self.whole([-1, self.lasts()])])
        if self.miss == "all channels":
            return b.node("Reshape", [d, self.whole([1, -1] if self.at.scope == "batch" else [0, -1])])
        if self.at.scope in ("group", "layer"):
            return b.node("Reshape", [d, self.whole([-1, int(self.at.count())])])
        if self.at.scope == "batch":
            d = b.node("Transpose", [d], perm=[1, 0, *range(2, self.rank)])
            return b.node("Reshape", [d, self.whole([0, -1])])
        return b.node("Reshape", [d, self.whole([-1, SPACE])])

    def lasts(self) -> int:
        return SPACE * self.at.batch // 2 if self.at.scope == "batch" else SPACE

    def unrow(self, stat: str) -> str:
        ones = [1] * len(self.at.space)
        if self.miss == "parts of the batch":
            shape = [2, 1, self.at.channels, *ones] if self.at.scope == "batch" else [2, self.at.channels, -1, *ones]
            stat = self.build.node("Reshape", [stat, self.whole(shape)])
            swap = [0, 2, 1, *range(3, self.rank)]
            return stat if self.at.scope == "batch" else self.build.node("Transpose", [stat], perm=swap)
        if self.at.scope in ("group", "layer"):
            own = [self.at.channels if self.at.first == 2 else 1]
            groups = [self.at.groups, 1] if self.at.scope == "group" else own
            return self.build.node("Reshape", [stat, self.whole([-1, *groups, *ones])])
        channels = 1 if self.miss == "all channels" else self.at.channels
        return self.build.node("Reshape", [stat, self.whole([1 if self.at.scope == "batch" else -1, channels, *ones])])

    def but_first(self, rows: str) -> str:
        """Without the first of each, where that is the miss."""
        return self.cut_out(rows, 1, 1, 1 << 62) if self.miss == "first element not counted" else rows

    def cut_out(self, value: str, axis: int, start: int, end: int) -> str:
        return self.build.node("Slice", [value, self.whole([start]), self.whole([end]), self.whole([axis])])

    def reduce(self, how: str, value: str) -> str:
        if self.miss == f"{'mean' if value == self.centred_value else 'statistic'} over other axes":
            return self.build.node(f"Reduce{how}", [value, self.whole(self.at.other_axes)], keepdims=1)
        return self.build.node(f"Reduce{how}", [value, self.whole(self.axes)], keepdims=1)

    def either(self, a: str, b: str) -> list[str]:
        return [a, b] if self.choices.chance(50) else [b, a]

    def count_node(self, x: str = "x") -> str:
        """The same, computed at inference."""
        b = self.build
        if self.at.scope != "batch":
            return b.const(self.at.count())
        batch = b.node("Cast", [b.node("Shape", [x], start=0, end=1)], to=onnx.TensorProto.DOUBLE)
        return b.node("Mul", [batch, b.const(self.at.count() / self.at.batch)])

    def whole(self, values: list[int]) -> str:
        return self.build.const(np.array(values, np.int64), keep_type=True, as_node=self.choices.chance(50))
