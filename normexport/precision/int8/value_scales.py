"""Which values of a graph are rounded to eight bits, and with which scale; settled before a pair is inserted.

- Operators that choose or move numbers (`DIRECT`) give their result the scale of what they read.
- With zero points, the range of what a ReLU or Clip makes does the clipping: a node of which that is true goes.
- A grid of training comes before a range.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from normexport.graphs.initializers import fixed_tensor
from normexport.graphs.nodes import op, optional
from normexport.graphs.shapes import Shapes
from normexport.norms import DOMAIN
from normexport.precision.int8.activations import Activations
from normexport.precision.int8.additions import Additions
from normexport.precision.int8.clips import CLIPS, clip_ends, is_clipped_behind
from normexport.precision.int8.grids import Grid
from normexport.precision.int8.pairs import DIRECT, LAYERS
from normexport.precision.int8.ranges import Range
from normexport.precision.int8.weights import is_stored

_MAX_POOL_FROM = 12


@dataclass(frozen=True, eq=False)
class Linear:
    """Scale and zero point of a value, as numbers and as the constants that all values with them share.

    Attributes:
        ends: the integers that it was trained on, where these are fewer than its type has.
    """

    scale: float
    constants: tuple[ir.Value, ir.Value]
    ends: tuple[int, int] | None = None


class ValueScales:
    """The scale of each value that has one, in the order in which they were given.

    Args:
        limits: by value name, the range that eight bits stand for, with zero in it.
        grids: by value name, what training rounded it to.
    """

    def __init__(
        self,
        additions: Additions,
        shapes: Shapes,
        limits: Mapping[str, Range],
        grids: Mapping[str, Grid],
        how: Activations,
        opset: int,
    ) -> None:
        self.linear: dict[ir.Value, Linear] = {}
        self._additions, self._graph, self._shapes = additions, additions.graph, shapes
        self._limits, self._grids, self._how, self._opset = dict(limits), grids, how, opset

    def settle(self, nodes: list[ir.Node]) -> list[ir.Node]:
        """Give scales to what nodes read and make; those that are layers with a weight to quantise."""
        for node in nodes:
            self._clip_before(node)
        layers = [node for node in nodes if self._give_scales(node)]
        for value in [*self._graph.inputs, *(each for node in self._graph for each in node.outputs)]:
            if self._is_trained(value):  # whoever reads it
                self._give(value)
        return layers

    def _clip_before(self, node: ir.Node) -> None:
        """What a ReLU or Clip alone reads may be clipped to the range of its result."""
        if op(node) not in CLIPS:
            return
        source, result = node.inputs[0], node.outputs[0]
        limits = self._limits.get(str(result.name))
        alone = source is not None and is_clipped_behind(source)
        if self._grids and (source is None or limits is None or not _does_the_clipping(limits, node)):
            return  # training rounded once, behind it
        if source is not None and alone and limits is not None and not self._is_trained(source):
            self._limits[str(source.name)] = limits

    def _give_scales(self, node: ir.Node) -> bool:
        """Give scales to what a node reads and makes; whether it is a layer with a weight to quantise."""
        source, result = node.inputs[0], node.outputs[0]
        if source is None:
            return False
        if op(node) in LAYERS:
            if not _has_weight(node) or not self._give(source):
                return False
            if not self._how.storage.is_float8:
                self._give(result)
            return True
        if node.domain == DOMAIN:
            self._give(source)
            self._give(result)
        elif op(node) in DIRECT:
            rounds = op(node) == "AveragePool" and bool(self._grids)  # which training did not
            if source in self.linear and not rounds and (op(node) != "MaxPool" or self._opset >= _MAX_POOL_FROM):
                self._give(result, replace(self.linear[source], ends=None))  # its numbers are within them
        elif op(node) in CLIPS:
            if source in self.linear and not self._let_range_clip(node):
                self._give(result)
        else:
            for value in (*node.inputs, result):
                if value is not None:
                    self._give(value)
        return False

    def _give(self, value: ir.Value, like: Linear | None = None) -> bool:
        """Give a value a scale, `like` another's or its own; whether it has one now."""
        if value in self.linear:
            return True
        computed = value.producer() is not None or value.is_graph_input()
        if not computed or value.is_initializer() or self._shapes.dtype(value) != ir.DataType.FLOAT:
            return False
        grid = self._grids.get(str(value.name))
        trained = self._how.stored(grid) if grid is not None else None
        limits = self._limits.get(str(value.name))
        if trained is not None:
            like = self._trained(value, trained)
        elif like is None and limits is not None:
            like = self._made(value, *self._how.linear(limits))
        if like is not None:
            self.linear[value] = like
        return like is not None

    def _is_trained(self, value: ir.Value) -> bool:
        return str(value.name) in self._grids

    def _trained(self, value: ir.Value, grid: Grid) -> Linear:
        whole = np.iinfo(self._how.dtype.numpy())
        narrow = not self._how.symmetric and (grid.low, grid.high) != (whole.min, whole.max)
        return self._made(value, grid.scale, grid.zero, (grid.low, grid.high) if narrow else None)

    def _made(self, value: ir.Value, scale: float, zero: int, ends: tuple[int, int] | None = None) -> Linear:
        stored = np.asarray(zero).astype(self._how.dtype.numpy())
        constants = self._additions.scale(value, np.float32(scale)), self._additions.zero_point(value, stored)
        return Linear(scale, constants, ends)

    def _let_range_clip(self, node: ir.Node) -> bool:
        """Take out a ReLU or Clip whose result's range clips as it does; its source takes its result's name."""
        source, result = node.inputs[0], node.outputs[0]
        assert source is not None
        limits = self._limits.get(str(result.name))
        alone = len(source.uses()) == 1 and source.producer() is not None and not source.is_graph_output()
        if self._how.symmetric or limits is None or not alone or result.is_graph_output():
            return False
        if self._is_trained(source) or not _does_the_clipping(limits, node):
            return False
        name, shape, dtype = result.name, result.shape, self._shapes.dtype(result)
        result.replace_all_uses_with(source)
        self._graph.remove(node, safe=True)
        del self.linear[source]
        source.name, source.shape = name, shape or source.shape
        source.type = ir.TensorType(dtype or ir.DataType.FLOAT)
        return self._give(source)


def _does_the_clipping(limits: Range, node: ir.Node) -> bool:
    """Whether a range within a ReLU's or Clip's ends does what it does."""
    ends = clip_ends(node)
    return ends is not None and ends[0] <= limits[0] <= limits[1] <= ends[1]


def _has_weight(node: ir.Node) -> bool:
    """Whether a layer's weight is stored, and finite."""
    weight = optional(node, 1)
    stored = fixed_tensor(weight) if weight is not None and is_stored(weight) else None
    return stored is not None and bool(np.isfinite(stored.numpy()).all()) and stored.size > 0
