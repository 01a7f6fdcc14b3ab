"""Which channels of which tensors may be multiplied by a positive number of their own, and undone behind.

A layer makes channels, y_c = sum w_ci x_i + b_c: dividing row c of w and b_c by s divides y_c by s. What follows passes
a positive factor on, f(y / s) = f(y) / s, until layers read it, whose column c of the weight takes the s.

    passes on     Relu, LeakyRelu, PRelu, Abs, Neg, pools, means and maxima over other axes, Pad, Identity, Dropout
    shares        Add, Sub, Sum, Max, Min (all operands take one factor per channel), Concat (each part its own)
    constants     added: they take the factor too; divided by: they pass it on
    scales        multiplied by a constant of each channel: it takes factors from both sides, as a layer's weight does
    gates         x * sigmoid(z): x passes its factor on, the gate has none
    moves         Flatten, Reshape, Transpose, Squeeze, Unsqueeze that keep channels whole
    Clip          as Relu, where it ends at zero alone; another end is one number for all channels (`BELOW`)

A channel is held (its factor is 1), with the reason, where anything else sees it: an output of the graph, a layer whose
weight is no constant or has other readers, any other operator, the body of an If or Loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from normexport.graphs.nodes import label, op, optional, readers
from normexport.graphs.shapes import Shapes
from normexport.precision.int8.clips import clip_ends
from normexport.precision.int8.moved_channels import (
    Channels,
    channels_of_moved,
    channels_of_reduced,
    is_padded_with_zeros,
)
from normexport.precision.int8.pairs import LAYERS
from normexport.precision.int8.shared_factors import Indices, SharedFactors
from normexport.precision.int8.weights import Float64s, by_group, stored

#: Lowest and highest number seen of each channel, by the name of a value.
Extremes = Mapping[str, tuple[Float64s, Float64s]]

_SAME = frozenset(
    {"Relu", "LeakyRelu", "Abs", "Neg", "Identity", "Dropout", "MaxPool", "AveragePool", "LpPool"}
    | {"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"}
)
_REDUCE = frozenset({"ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL1", "ReduceL2"})
_TOGETHER = frozenset({"Add", "Sub", "Sum", "Max", "Min"})
_MOVED = frozenset({"Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze"})
_GATES = frozenset({"Sigmoid", "HardSigmoid", "Softmax"})
#: Of a Clip's end, how much a channel may reach, before and after its factor, to pass the Clip by. What was never seen
#: beyond half of it is cut where new samples go twice as far.
BELOW = 0.5


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer with a constant weight, or a scale of each channel, and the numbers of its channels' factors."""

    node: ir.Node
    inputs: Indices
    outputs: Indices

    @property
    def weight(self) -> Float64s:
        """Its weight as `by_group` gives it; made anew each time, for all of a ResNet-50's are 200 MB."""
        held = stored(self.node.inputs[1])
        weight = None if held is None else by_group(self.node, held)
        assert weight is not None
        return weight


@dataclass(frozen=True, eq=False)
class Shift:
    """A constant (input `index` of `node`) that is added to channels along `axis` of a tensor of this rank."""

    node: ir.Node
    index: int
    numbers: Indices
    axis: int
    rank: int


class Links:
    """Which channels of a graph share a factor.

    Attributes:
        shared: the factors by number, and what is known of each.
        layers, shifts: what takes the factors.
        channels: by value, the axis of its channels and the number of each channel's factor.

    Args:
        below: what was seen of each channel, where one that stays below `BELOW` of a Clip's end may pass it: what the
            Clip does of it is then nothing, on those samples. None: a Clip at another number than zero holds all.
    """

    def __init__(self, model: ir.Model, below: Extremes | None = None) -> None:
        self._shapes, self._below = Shapes(model), below
        self.shared = SharedFactors()
        self.layers: list[Layer] = []
        self.shifts: list[Shift] = []
        self.channels: dict[ir.Value, tuple[int, Indices]] = {}
        for node in model.graph:
            self._follow(node)
        for value in self.channels:
            if value.is_graph_output():
                self._hold(value, f"'{value.name}' is an output of the graph")
            if any(use.node.graph is not model.graph for use in readers(value)):
                self._hold(value, f"'{value.name}' is read inside an If, Loop or Scan")

    # ---- channels

    def _make(self, value: ir.Value, axis: int, size: int) -> Indices:
        numbers = self.shared.make(size)
        self.channels[value] = (axis, numbers)
        return numbers

    def _hold(self, value: ir.Value | None, reason: str) -> None:
        if value in self.channels:
            assert value is not None
            for number in self.channels[value][1].tolist():
                self.shared.hold(number, reason)

    # ---- operators

    def _follow(self, node: ir.Node) -> None:
        kind = op(node)
        known = [value for value in node.inputs if value in self.channels]
        if kind in LAYERS:
            done = self._layer(node)
        elif kind == "Mul" and self._scale(node):
            done = True
        elif not known:
            return
        elif kind in _TOGETHER:
            done = self._together(node)
        else:
            one = self._ONE.get(kind)
            done = one is not None and known == [node.inputs[0]] and one(self, node)
            if not done and kind == "Concat":
                done = self._concat(node)
            if not done and kind in ("Mul", "Div"):
                done = self._multiplied(node)
        if not done and kind not in ("Shape", "Size"):
            for value in known:
                self._hold(value, f"{label(node)} reads '{value.name if value is not None else ''}'")

    def _pass(self, node: ir.Node) -> bool:
        source = node.inputs[0]
        assert source is not None
        self.channels[node.outputs[0]] = self.channels[source]
        return True

    def _layer(self, node: ir.Node) -> bool:
        source, held = node.inputs[0], optional(node, 1)
        found = stored(held)
        weight = None if found is None else by_group(node, found)
        rank = 2 if op(node) == "Gemm" else self._shapes.rank(node.outputs[0])
        if weight is None or source is None or held is None or not np.isfinite(weight).all():
            return False
        groups, made, read, _ = weight.shape
        sizes = groups * read, groups * made
        axis = 1 if op(node) in ("Conv", "ConvTranspose") else None if rank is None else rank - 1
        if (op(node) == "Gemm" and node.attributes.get_int("transA", 0) != 0) or axis is None or len(held.uses()) > 1:
            return False
        bias = optional(node, 2)
        array = stored(bias)
        if bias is not None and (array is None or array.size not in (1, sizes[1]) or array.ndim > 2):
            return False
        if array is not None and array.ndim == 2 and array.shape[0] != 1:
            return False
        own = self.channels.get(source)
        if own is not None and (own[0] != axis or len(own[1]) != sizes[0]):
            return False
        inputs = np.zeros(sizes[0], np.int64) if own is None else own[1]
        outputs = self._make(node.outputs[0], axis, sizes[1])
        self.layers.append(Layer(node, inputs, outputs))
        return True

    def _scale(self, node: ir.Node) -> bool:
        """A tensor times a constant of each channel: factors end and begin there."""
        source, held = node.inputs[:2]
        array, rank = stored(held), self._shapes.rank(node.outputs[0])
        if array is None or source is None or rank is None or self._shapes.rank(source) != rank:
            return False
        axes = [rank - array.ndim + place for place, size in enumerate(array.shape) if size != 1]
        if len(axes) != 1 or not np.isfinite(array).all():
            return False
        own = self.channels.get(source)
        if (own is not None and (own[0] != axes[0] or len(own[1]) != array.size)) or axes[0] == 0:
            return False
        if own is None and self._shapes.size(source, axes[0]) != array.size:
            return False
        inputs = np.zeros(array.size, np.int64) if own is None else own[1]
        self.layers.append(Layer(node, inputs, self._make(node.outputs[0], axes[0], array.size)))
        return True

    def _prelu(self, node: ir.Node) -> bool:
        return stored(optional(node, 1)) is not None and self._pass(node)

    def _clip(self, node: ir.Node) -> bool:
        source = node.inputs[0]
        assert source is not None
        ends = clip_ends(node)
        if ends is None or not ends[0] <= 0 <= ends[1]:
            return False
        if not set(ends) <= {0.0, np.inf, -np.inf}:
            self._hold_unless_below(source, ends, f"{label(node)} has one end for all channels")
        return self._pass(node)

    def _hold_unless_below(self, source: ir.Value, ends: tuple[float, float], reason: str) -> None:
        """Hold the channels that come near an end; the others must not come nearer by their factors."""
        _, numbers = self.channels[source]
        seen = None if self._below is None else self._below.get(str(source.name))
        if seen is None or len(seen[0]) != len(numbers):
            self._hold(source, reason)
            return
        shares = [np.maximum(found / end, 0.0) for found, end in zip(seen, ends, strict=True) if end]
        for number, share in zip(numbers.tolist(), np.max(shares, axis=0).tolist(), strict=True):
            if share > BELOW:
                self.shared.hold(number, f"{reason}, and channels reach more than {BELOW:.0%} of it")
            else:
                self.shared.keep_above(number, share / BELOW)

    def _together(self, node: ir.Node) -> bool:
        """Channels of several tensors that are added or compared; of a tensor and a constant."""
        result = node.outputs[0]
        moving = [(index, value) for index, value in enumerate(node.inputs) if stored(value) is None]
        first = next(self.channels[value] for value in node.inputs if value in self.channels and value is not None)
        rank = self._shapes.rank(result)
        fits = all(
            value is not None
            and value in self.channels
            and self.channels[value][0] == first[0]
            and len(self.channels[value][1]) == len(first[1])
            and self._shapes.rank(value) == rank
            for _, value in moving
        )
        if not fits or rank is None:
            return False
        found = []
        for index, value in enumerate(node.inputs):
            array = stored(value)
            if array is None:
                continue
            place = array.ndim - (rank - first[0])
            if array.ndim > rank or (place >= 0 and array.shape[place] not in (1, len(first[1]))):
                return False
            found.append(Shift(node, index, first[1], first[0], rank))
        self.shifts += found
        for _, value in moving:
            assert value is not None
            self.shared.join(first[1], self.channels[value][1])
        self.channels[result] = first
        return True

    def _concat(self, node: ir.Node) -> bool:
        sources = [self.channels.get(value) if value is not None else None for value in node.inputs]
        rank = self._shapes.rank(node.outputs[0])
        axis = node.attributes.get_int("axis", 1)
        parts = [each for each in sources if each is not None]
        if len(parts) < len(sources) or rank is None or len({each[0] for each in parts}) > 1:
            return False
        if axis % rank == parts[0][0]:
            self.channels[node.outputs[0]] = parts[0][0], np.concatenate([each[1] for each in parts])
            return True
        if len({len(each[1]) for each in parts}) > 1:
            return False
        for each in parts[1:]:
            self.shared.join(parts[0][1], each[1])
        self.channels[node.outputs[0]] = parts[0]
        return True

    def _multiplied(self, node: ir.Node) -> bool:
        """A tensor times a constant or a gate, or divided by a constant."""
        first, second = node.inputs[:2]
        ways = [(first, second), (second, first)] if op(node) == "Mul" else [(first, second)]
        rank = self._shapes.rank(node.outputs[0])
        for tensor, factor in ways:
            if tensor is None or factor is None or tensor not in self.channels or tensor is factor:
                continue
            producer = factor.producer()
            gate = producer is not None and op(producer) in _GATES and factor not in self.channels
            if (stored(factor) is None and not gate) or rank is None or self._shapes.rank(tensor) != rank:
                continue
            if self._shapes.size(node.outputs[0], self.channels[tensor][0]) != len(self.channels[tensor][1]):
                continue
            self.channels[node.outputs[0]] = self.channels[tensor]
            return True
        return False

    def _pad(self, node: ir.Node) -> bool:
        source = node.inputs[0]
        assert source is not None
        return is_padded_with_zeros(node, self.channels[source][0], self._shapes) and self._pass(node)

    def _reduced(self, node: ir.Node) -> bool:
        return self._place(node, channels_of_reduced)

    def _moved(self, node: ir.Node) -> bool:
        return self._place(node, channels_of_moved)

    def _place(self, node: ir.Node, follow: Callable[[ir.Node, Channels, Shapes], Channels | None]) -> bool:
        """Where the channels of what a node reads lie in what it makes."""
        source = node.inputs[0]
        assert source is not None
        found = follow(node, self.channels[source], self._shapes)
        if found is not None:
            self.channels[node.outputs[0]] = found
        return found is not None

    _ONE: Mapping[str, Callable[[Links, ir.Node], bool]] = {
        **dict.fromkeys(_SAME, _pass),
        **dict.fromkeys(_REDUCE, _reduced),
        **dict.fromkeys(_MOVED, _moved),
        "PRelu": _prelu,
        "Clip": _clip,
        "Pad": _pad,
    }
