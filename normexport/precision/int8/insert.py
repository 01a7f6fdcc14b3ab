"""Puts QuantizeLinear and DequantizeLinear around what is computed in int8.

    x -> Q -> DQ -> layer(DQ(int8 weight), DQ(int32 bias)) -> Q -> DQ -> what reads it

- A value has one pair, behind what makes it; whoever reads the value reads the pair, but a graph output stays the
  number itself. Operators that choose or move numbers (`DIRECT`) give their result the scale of what they read.
- Weights are symmetric, a scale per output channel: s = max|w| / 127. Operator sets below 13 know one scale per tensor.
- A bias (C,) becomes int32 in units of s_x * s_w, the accumulator's own; where it would not fit, s_w of that channel is
  widened until it does (a channel whose weights are all but zero beside its bias). Others stay floating.
- With zero points, the range of what a ReLU or Clip makes does the clipping: a node of which that is true goes.
- In float8 layers alone read pairs; all else reads the number itself. QuantizeLinear has no zero point there and says
  its type in an attribute: with a zero point in float8 ONNX Runtime 1.32 takes it that the range does the clipping, and
  leaves out the ReLU in front.

Refuses: operator sets below 11, for float8 below 21. A layer is left in float32 where its weight is not a
finite float32 initializer that nobody can override.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from normexport.dtypes import FLOAT8_FROM, FLOAT32, SHORT
from normexport.errors import FoldError
from normexport.folding.per_channel import Array
from normexport.graphs.names import Names
from normexport.graphs.nodes import op, optional
from normexport.graphs.shapes import Shapes
from normexport.norms import DOMAIN
from normexport.precision.int8.activations import Activations, Range
from normexport.precision.int8.corrections import NONE, Corrections
from normexport.precision.int8.grids import Grid
from normexport.precision.int8.pairs import LAYERS
from normexport.precision.int8.storage import Storage
from normexport.precision.int8.weights import add_to_bias, channel_axis, is_stored

#: Their result has the numbers of their input, and so its scale.
DIRECT = ("MaxPool", "AveragePool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze")

# QuantizeLinear came with 10, but ONNX Runtime 1.32 rewrites such models into ones that need Round, of 11.
_FIRST_OPSET, CHANNELS_FROM, _MAX_POOL_FROM = 11, 13, 12
# Behind these, and a Reshape that it puts before a MatMul in float32, ONNX Runtime 1.32 repeats an int8 pair and makes
# it uint8; from 21 on QuantizeLinear says its type in an attribute too, which stays int8, and it refuses the model.
# Where the body of an If reads what is behind them, repeating any pair ends the process.
_CARRIED, _TYPES_IN_ATTRIBUTES = ("MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"), 21
_BIAS = float(2**31 - 1) / 1.0001


@dataclass(frozen=True, eq=False)
class _Linear:
    """Scale and zero point of a value, as numbers and as the constants that all values with them share.

    Attributes:
        ends: the integers that it was trained on, where these are fewer than its type has.
    """

    scale: float
    limits: Range
    values: tuple[ir.Value, ir.Value]
    ends: tuple[int, int] | None = None


def first_opset(storage: Storage) -> int:
    """The oldest operator set that numbers can be stored so in."""
    return FLOAT8_FROM if storage.is_float8 else _FIRST_OPSET


def insert_pairs(
    model: ir.Model,
    chosen: Collection[ir.Node],
    limits: Mapping[str, Range],
    how: Activations,
    corrections: Corrections = NONE,
) -> ir.Model:
    """A copy of the model in which the `chosen` nodes read and make quantised values; see the top of this file.

    Args:
        limits: by value name, the range that int8 stands for, with zero in it.
        corrections: weights that are rounded otherwise than to nearest, and what is added to biases.

    Raises:
        FoldError: the model's operator set is too old.
    """
    opset = model.graph.opset_imports.get("", model.graph.opset_imports.get("ai.onnx", 0))
    first = first_opset(how.storage)
    if opset < first:
        cause = f"has operator set {opset}, and {SHORT[how.storage.dtype]} needs {first} or newer"
        raise FoldError(model.graph.name or "model", cause, f"export it with operator set {max(first, CHANNELS_FROM)}")
    copy = model.clone()
    pairs = zip(model.graph, list(copy.graph), strict=True)
    work = _Insertion(copy.graph, Shapes(model), limits, how, opset, corrections)
    work.run([ours for theirs, ours in pairs if theirs in chosen])
    return copy


def is_clipped_behind(value: ir.Value) -> bool:
    """Whether a ReLU or Clip alone reads a value: it may be clipped to the range of what that makes of it."""
    uses = list(value.uses())
    return len(uses) == 1 and uses[0].idx == 0 and op(uses[0].node) in ("Relu", "Clip") and not value.is_graph_output()


class _Insertion:
    """One insertion in progress: first every value's scale is settled, then nodes are added."""

    def __init__(
        self,
        graph: ir.Graph,
        shapes: Shapes,
        limits: Mapping[str, Range],
        how: Activations,
        opset: int,
        corrections: Corrections = NONE,
    ) -> None:
        self.corrections = corrections
        # Values are renamed on the way.
        self.results = {node: str(node.outputs[0].name) for node in graph if op(node) in LAYERS}
        self.graph, self.shapes, self.limits, self.how, self.opset = graph, shapes, dict(limits), how, opset
        self.fresh = Names(graph).fresh
        self.linear: dict[ir.Value, _Linear] = {}
        self.paired: set[ir.Value] = set()
        self.layers: dict[ir.Node, None] = {}  # those that compute in int8
        self.weights: dict[tuple[ir.Value, int | None, bytes], ir.Value] = {}

    def run(self, nodes: list[ir.Node]) -> None:
        for node in nodes:
            self._clip_before(node)
        self.layers = dict.fromkeys(node for node in nodes if self._give_scales(node))
        for value in [*self.graph.inputs, *(each for node in self.graph for each in node.outputs)]:
            if str(value.name) in self.corrections.grids:  # rounded in training, whoever reads it
                self._give(value)
        for layer in self.layers:
            self._quantize_constants(layer)
        for value in reversed(list(self.linear)):
            self._add_pair(value)

    def _clip_before(self, node: ir.Node) -> None:
        """What a ReLU or Clip alone reads may be clipped to the range of its result."""
        if op(node) not in ("Relu", "Clip"):
            return
        source, result = node.inputs[0], node.outputs[0]
        limits = self.limits.get(str(result.name))
        alone = source is not None and is_clipped_behind(source)
        if self.corrections.grids and (source is None or limits is None or not self._clips(node, limits)):
            return  # training rounded once, behind it
        if source is not None and alone and limits is not None and not self._is_trained(source):
            self.limits[str(source.name)] = limits

    def _clips(self, node: ir.Node, limits: Range) -> bool:
        """Whether a range within a ReLU's or Clip's ends does what it does."""
        ends = _ends(node)
        return ends is not None and ends[0] <= limits[0] <= limits[1] <= ends[1]

    def _give_scales(self, node: ir.Node) -> bool:
        """Give scales to what a node reads and makes; whether it is a layer with a weight to quantise."""
        source, result = node.inputs[0], node.outputs[0]
        if source is None:
            return False
        if op(node) in LAYERS:
            if not self._has_weight(node) or not self._give(source):
                return False
            if not self.how.storage.is_float8:
                self._give(result)
            return True
        if node.domain == DOMAIN:
            self._give(source)
            self._give(result)
        elif op(node) in DIRECT:
            rounds = op(node) == "AveragePool" and bool(self.corrections.grids)  # which training did not
            if source in self.linear and not rounds and (op(node) != "MaxPool" or self.opset >= _MAX_POOL_FROM):
                self._give(result, replace(self.linear[source], ends=None))  # its numbers are within them
        elif op(node) in ("Relu", "Clip"):
            if source in self.linear and not self._let_range_clip(node):
                self._give(result)
        else:
            for value in (*node.inputs, result):
                if value is not None:
                    self._give(value)
        return False

    def _has_weight(self, node: ir.Node) -> bool:
        weight = optional(node, 1)
        stored = weight.const_value if weight is not None and is_stored(weight) else None
        return stored is not None and bool(np.isfinite(stored.numpy()).all()) and stored.size > 0

    def _give(self, value: ir.Value, like: _Linear | None = None) -> bool:
        """Give a value a scale, `like` another's or its own; whether it has one now."""
        if value in self.linear:
            return True
        computed = value.producer() is not None or value.is_graph_input()
        if not computed or value.is_initializer() or self.shapes.dtype(value) != ir.DataType.FLOAT:
            return False
        grid = self.corrections.grids.get(str(value.name))
        trained = self.how.stored(grid) if grid is not None else None
        limits = self.limits.get(str(value.name))
        if trained is not None:
            like = self._trained(value, trained)
        elif like is None and limits is not None:
            scale, zero = self.how.linear(limits)
            stored = np.asarray(zero).astype(self.how.dtype.numpy())
            constants = self._scale(f"{value.name}_scale", np.float32(scale)), self._zero(value, stored)
            like = _Linear(scale, limits, constants)
        if like is not None:
            self.linear[value] = like
        return like is not None

    def _is_trained(self, value: ir.Value) -> bool:
        return str(value.name) in self.corrections.grids

    def _trained(self, value: ir.Value, grid: Grid) -> _Linear:
        zero = np.asarray(grid.zero, self.how.dtype.numpy())
        constants = self._scale(f"{value.name}_scale", np.float32(grid.scale)), self._zero(value, zero)
        whole = np.iinfo(zero.dtype)
        narrow = not self.how.symmetric and (grid.low, grid.high) != (whole.min, whole.max)
        return _Linear(grid.scale, grid.limits, constants, (grid.low, grid.high) if narrow else None)

    def _let_range_clip(self, node: ir.Node) -> bool:
        """Take out a ReLU or Clip whose result's range clips as it does; its source takes its result's name."""
        source, result = node.inputs[0], node.outputs[0]
        assert source is not None
        limits = self.limits.get(str(result.name))
        alone = len(source.uses()) == 1 and source.producer() is not None and not source.is_graph_output()
        if self.how.symmetric or limits is None or not alone or result.is_graph_output():
            return False
        if self._is_trained(source) or not self._clips(node, limits):
            return False
        name, shape, dtype = result.name, result.shape, self.shapes.dtype(result)
        result.replace_all_uses_with(source)
        self.graph.remove(node, safe=True)
        del self.linear[source]
        source.name, source.shape = name, shape or source.shape
        source.type = ir.TensorType(dtype or ir.DataType.FLOAT)
        return self._give(source)

    def _add_pair(self, value: ir.Value) -> None:
        uses = [use for use in value.uses() if op(use.node) != "Shape" and not self._reads_floats(use.node)]
        if self.how.storage.is_float8:
            uses = [use for use in uses if use.idx == 0 and use.node in self.layers]
        if not uses:  # a graph output alone
            return
        self.paired.add(value)
        scale, zero = self.linear[value].values
        quantize = self._node("QuantizeLinear", [value, scale, zero], value, self.how.dtype)
        if self.how.storage.is_float8:
            quantize.resize_inputs(2)
            quantize.attributes["output_dtype"] = ir.AttrInt64("output_dtype", int(self.how.dtype))
        pair = [quantize]
        if (ends := self.linear[value].ends) is not None:
            limits = [self._end(f"{value.name}_{word}", each) for word, each in zip(("low", "high"), ends, strict=True)]
            pair.append(self._node("Clip", [quantize.outputs[0], *limits], value, self.how.dtype))
        pair.append(self._node("DequantizeLinear", [pair[-1].outputs[0], scale, zero], value, ir.DataType.FLOAT))
        dequantize = pair[-1]
        producer = value.producer()
        if producer is None:
            self.graph.insert_before(self.graph[0], pair)
        else:
            self.graph.insert_after(producer, pair)
        for use in uses:
            use.node.replace_input_with(use.idx, dequantize.outputs[0])

    def _reads_floats(self, node: ir.Node) -> bool:
        """Whether a node is to read numbers themselves, for ONNX Runtime would fail on the pair (`_CARRIED`)."""
        fails = self.opset >= _TYPES_IN_ATTRIBUTES and self.how.dtype is ir.DataType.INT8
        if self._is_carried(node) and (fails or self._enters_subgraph(node.outputs[0])):
            return True
        return fails and op(node) == "MatMul" and node not in self.layers

    def _is_carried(self, node: ir.Node) -> bool:
        return op(node) in _CARRIED and node.outputs[0] not in self.paired

    def _enters_subgraph(self, value: ir.Value) -> bool:
        """Whether the body of an If, Loop or Scan reads a value, or what ONNX Runtime carries a pair of it behind."""
        users = [use.node for use in value.uses()]
        return any(
            user.graph is not self.graph or (self._is_carried(user) and self._enters_subgraph(user.outputs[0]))
            for user in users
        )

    def _quantize_constants(self, node: ir.Node) -> None:
        shift = self.corrections.shifts.get(self.results[node])
        if shift is not None:
            add_to_bias(node, shift, self.fresh)
        source, weight, bias = node.inputs[0], node.inputs[1], optional(node, 2)
        assert source is not None
        assert weight is not None
        assert weight.const_value is not None
        array = weight.const_value.numpy().astype(np.float64)
        if self._quantize_as_trained(node, weight, bias):
            return
        axis = channel_axis(node, array.ndim) if self.opset >= CHANNELS_FROM else None
        others = None if axis is None else tuple(i for i in range(array.ndim) if i != axis)
        scale = np.abs(array).max(axis=others) / self.how.storage.largest
        scale = np.where(scale.astype(np.float32) >= FLOAT32.smallest_normal, scale, 1.0)
        stored = self._bias_of(node, bias, array.shape[axis] if axis is not None else None)
        if stored is not None:
            room = np.abs(stored) / (self.linear[source].scale * _BIAS)
            scale = np.maximum(scale, room if axis is not None else room.max(initial=0.0))
        scale = self.how.storage.scale(scale)
        node.replace_input_with(1, self._weight(weight, array, scale, axis, node))
        self._quantize_bias(node, bias, stored, scale)

    def _quantize_as_trained(self, node: ir.Node, weight: ir.Value, bias: ir.Value | None) -> bool:
        """Store a weight on the grid of training; whether there is one that int8 has."""
        grid = self.corrections.weights.get(str(weight.name))
        stored = None if grid is None else grid.stored(self.how.symmetric)
        if grid is None or stored is None or (grid.axis is not None and self.opset < CHANNELS_FROM):
            return False
        whole, zero = stored
        dequantized = self._insert_dequantized(weight, whole, grid.scale, grid.axis, node, zero)
        node.replace_input_with(1, dequantized)
        numbers, source = self._bias_of(node, bias, None), node.inputs[0]
        along = grid.axis in (None, channel_axis(node, whole.ndim))
        if numbers is not None and source is not None and along:
            unit = self._unit(source, grid.scale)
            if unit.size in (1, numbers.size) and np.all(np.abs(numbers) <= unit * _BIAS):
                self._quantize_bias(node, bias, numbers, np.broadcast_to(grid.scale, numbers.shape))
        return True

    def _unit(self, source: ir.Value, scale: Array) -> Array:
        """What a whole number of a bias stands for."""
        return np.float32(self.linear[source].scale) * np.asarray(scale, np.float32)

    def _quantize_bias(self, node: ir.Node, bias: ir.Value | None, numbers: Array | None, scale: Array) -> None:
        source = node.inputs[0]
        if bias is None or numbers is None or source is None:
            return
        unit = self._unit(source, scale)
        if np.all(unit >= FLOAT32.smallest_normal):
            whole = np.clip(np.rint(numbers / unit.astype(np.float64)), -(2.0**31), 2.0**31 - 1)
            axis = 0 if unit.ndim else None
            node.replace_input_with(2, self._insert_dequantized(bias, whole.astype(np.int32), unit, axis, node))

    def _bias_of(self, node: ir.Node, bias: ir.Value | None, channels: int | None) -> Array | None:
        """The bias that becomes whole numbers; None where there is none, or it stays as it is."""
        if self.how.symmetric or self.how.storage.scales != FLOAT32.name or bias is None or not is_stored(bias):
            return None
        assert bias.const_value is not None
        array = bias.const_value.numpy().astype(np.float64)
        scaled = any(node.attributes.get_float(name, 1.0) != 1.0 for name in ("alpha", "beta"))
        fits = array.ndim == 1 and (channels is None or len(array) == channels) and np.isfinite(array).all()
        return array if fits and not scaled else None

    def _weight(self, weight: ir.Value, array: Array, scale: Array, axis: int | None, node: ir.Node) -> ir.Value:
        key = weight, axis, scale.tobytes()
        if key not in self.weights:
            sides = () if axis is None else [-1 if i == axis else 1 for i in range(array.ndim)]
            chosen = self.corrections.rounded.get(str(weight.name))
            whole = self.how.storage.nearest(array / scale.reshape(sides))
            if chosen is not None and chosen.scale.shape == scale.shape:
                whole = np.where((chosen.scale == scale).reshape(sides), chosen.whole, whole)
            self.weights[key] = self._insert_dequantized(weight, whole, scale, axis, node)
        return self.weights[key]

    def _insert_dequantized(
        self, of: ir.Value, whole: Array, scale: Array, axis: int | None, reader: ir.Node, zero: int = 0
    ) -> ir.Value:
        """A stored whole number constant behind a DequantizeLinear, in front of the node that reads it."""
        stored = self._constant(f"{of.name}_quantized", whole)
        operands = [
            stored,
            self._scale(f"{of.name}_scale", scale),
            self._constant(f"{of.name}_zero_point", np.full(scale.shape, zero).astype(whole.dtype)),
        ]
        node = self._node("DequantizeLinear", operands, of, ir.DataType.FLOAT, axis)
        self.graph.insert_before(reader, node)
        return node.outputs[0]

    def _node(
        self, operator: str, inputs: list[ir.Value], of: ir.Value, dtype: ir.DataType, axis: int | None = None
    ) -> ir.Node:
        attributes = [] if axis is None else [ir.AttrInt64("axis", axis)]
        node = ir.Node("", operator, inputs, attributes, name=self.fresh(f"{of.name}_{operator}"))
        result = node.outputs[0]
        result.name = self.fresh(f"{of.name}_{operator}_Output")
        result.type, result.shape = ir.TensorType(dtype), of.shape
        return node

    def _scale(self, name: str, scale: Array | np.float32) -> ir.Value:
        return self._constant(name, np.asarray(scale, np.float32))

    def _zero(self, value: ir.Value, stored: Array) -> ir.Value:
        return self._constant(f"{value.name}_zero_point", stored)

    def _end(self, name: str, whole: int) -> ir.Value:
        return self._constant(name, np.asarray(whole, self.how.dtype.numpy()))

    def _constant(self, name: str, array: Array) -> ir.Value:
        name = self.fresh(name)
        tensor = ir.Tensor(array, name=name)
        value = ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
        self.graph.register_initializer(value)
        return value


def _ends(node: ir.Node) -> Range | None:
    """Between which numbers a ReLU or Clip keeps its input; None where they are not constants."""
    if op(node) == "Relu":
        return 0.0, np.inf
    ends = [node.attributes.get_float("min", -np.inf), node.attributes.get_float("max", np.inf)]
    for index in (1, 2):
        value = optional(node, index)
        if value is not None:
            tensor = ir.convenience.get_const_tensor(value) if not value.is_graph_input() else None
            if tensor is None or tensor.size != 1:
                return None
            ends[index - 1] = float(tensor.numpy().reshape(-1)[0])
    return float(ends[0]), float(ends[1])
