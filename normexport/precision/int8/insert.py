"""Puts QuantizeLinear and DequantizeLinear around what is computed in int8.

    x -> Q -> DQ -> layer(DQ(int8 weight), DQ(int32 bias)) -> Q -> DQ -> what reads it

- A value has one pair, behind what makes it; whoever reads the value reads the pair, but a graph output stays the
  number itself. `value_scales` settles which values have one, `layer_constants` stores weights and biases.
- In float8 layers alone read pairs; all else reads the number itself. QuantizeLinear has no zero point there and says
  its type in an attribute: with a zero point in float8 ONNX Runtime 1.32 takes it that the range does the clipping, and
  leaves out the ReLU in front.

Refuses: operator sets below 11, for float8 below 21. A layer is left in float32 where its weight is not a
finite float32 initializer that nobody can override.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx_ir as ir

from normexport.dtypes import FLOAT8_FROM, SHORT
from normexport.errors import FoldError
from normexport.graphs.nodes import op
from normexport.graphs.shapes import Shapes
from normexport.io.onnx_domain import opset_in
from normexport.precision.int8.activations import Activations
from normexport.precision.int8.additions import Additions
from normexport.precision.int8.corrections import NONE, Corrections
from normexport.precision.int8.layer_constants import CHANNELS_FROM, LayerConstants
from normexport.precision.int8.ranges import Range
from normexport.precision.int8.storage import Storage
from normexport.precision.int8.value_scales import Linear, ValueScales

# QuantizeLinear came with 10, but ONNX Runtime 1.32 rewrites such models into ones that need Round, of 11.
_FIRST_OPSET = 11
# Behind these, and a Reshape that it puts before a MatMul in float32, ONNX Runtime 1.32 repeats an int8 pair and makes
# it uint8; from 21 on QuantizeLinear says its type in an attribute too, which stays int8, and it refuses the model.
# Where the body of an If reads what is behind them, repeating any pair ends the process.
_CARRIED, _TYPES_IN_ATTRIBUTES = ("MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"), 21


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
    opset = opset_in(model.graph.opset_imports)
    first = first_opset(how.storage)
    if opset < first:
        cause = f"has operator set {opset}, and {SHORT[how.storage.dtype]} needs {first} or newer"
        raise FoldError(model.graph.name or "model", cause, f"export it with operator set {max(first, CHANNELS_FROM)}")
    copy = model.clone()
    ours = [ours for theirs, ours in zip(model.graph, list(copy.graph), strict=True) if theirs in chosen]
    additions = Additions(copy.graph)
    scales = ValueScales(additions, Shapes(model), limits, corrections.grids, how, opset)
    constants = LayerConstants(additions, corrections, how, opset, scales.linear)
    layers = scales.settle(ours)
    for layer in layers:
        constants.store(layer)
    pairs = _Pairs(additions, layers, how, opset)
    for value, linear in reversed(scales.linear.items()):
        pairs.add(value, linear)
    return copy


class _Pairs:
    """Adds the pairs of values, those of the last values first: whether a node reads one hangs on what is behind it."""

    def __init__(self, additions: Additions, layers: Collection[ir.Node], how: Activations, opset: int) -> None:
        self._additions, self._graph, self._layers = additions, additions.graph, frozenset(layers)
        self._how = how
        self._types_in_attributes = opset >= _TYPES_IN_ATTRIBUTES
        self._paired: set[ir.Value] = set()

    def add(self, value: ir.Value, linear: Linear) -> None:
        """Let all that read a value read its pair, but for those that must not."""
        uses = [use for use in value.uses() if op(use.node) != "Shape" and not self._reads_floats(use.node)]
        if self._how.storage.is_float8:
            uses = [use for use in uses if use.idx == 0 and use.node in self._layers]
        if not uses:  # a graph output alone
            return
        self._paired.add(value)
        pair = self._pair(value, linear)
        producer = value.producer()
        if producer is None:
            self._graph.insert_before(self._graph[0], pair)
        else:
            self._graph.insert_after(producer, pair)
        for use in uses:
            use.node.replace_input_with(use.idx, pair[-1].outputs[0])

    def _pair(self, value: ir.Value, linear: Linear) -> list[ir.Node]:
        """QuantizeLinear, the Clip of integers that training ended at, and DequantizeLinear."""
        node, dtype = self._additions.node, self._how.dtype
        quantize = node("QuantizeLinear", [value, *linear.constants], value, dtype)
        if self._how.storage.is_float8:
            quantize.resize_inputs(2)
            quantize.attributes["output_dtype"] = ir.AttrInt64("output_dtype", int(dtype))
        pair = [quantize]
        if linear.ends is not None:
            limits = [
                self._additions.constant(f"{value.name}_{word}", np.asarray(end, dtype.numpy()))
                for word, end in zip(("low", "high"), linear.ends, strict=True)
            ]
            pair.append(node("Clip", [quantize.outputs[0], *limits], value, dtype))
        pair.append(node("DequantizeLinear", [pair[-1].outputs[0], *linear.constants], value, ir.DataType.FLOAT))
        return pair

    def _reads_floats(self, node: ir.Node) -> bool:
        """Whether a node is to read numbers themselves, for ONNX Runtime would fail on the pair (`_CARRIED`)."""
        fails = self._types_in_attributes and self._how.dtype is ir.DataType.INT8
        if self._is_carried(node) and (fails or self._enters_subgraph(node.outputs[0])):
            return True
        return fails and op(node) == "MatMul" and node not in self._layers

    def _is_carried(self, node: ir.Node) -> bool:
        return op(node) in _CARRIED and node.outputs[0] not in self._paired

    def _enters_subgraph(self, value: ir.Value) -> bool:
        """Whether the body of an If, Loop or Scan reads a value, or what ONNX Runtime carries a pair of it behind."""
        users = [use.node for use in value.uses()]
        return any(
            user.graph is not self._graph or (self._is_carried(user) and self._enters_subgraph(user.outputs[0]))
            for user in users
        )
