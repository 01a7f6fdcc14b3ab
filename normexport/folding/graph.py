"""The working copy that a fold rewrites: graph, constants, shapes, names, and the warnings it collects."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from normexport.folding.constants import Constants
from normexport.folding.per_channel import Array
from normexport.folding.result import FoldConfig
from normexport.graphs.initializers import add_initializer
from normexport.graphs.names import Names
from normexport.graphs.node_metadata import FOLDED
from normexport.graphs.nodes import op
from normexport.graphs.shapes import Shapes
from normexport.io.onnx_domain import opset_in

_SUFFIX = "_folded"
_SHAPING = ("Concat", "Expand", "Gather", "Shape", "Slice", "Squeeze", "Tile", "Unsqueeze")


class Draft:
    """One fold in progress. `graph` is a private copy; rules read it and edits change it."""

    def __init__(self, original: ir.Model, copy: ir.Model, config: FoldConfig) -> None:
        self.graph = copy.graph
        self.config = config
        self.opset = opset_in(copy.graph.opset_imports)
        self.constants = Constants(copy.graph)
        self.shapes = Shapes(original)
        self._copy = copy
        self.fresh = Names(copy.graph).fresh

    def model_of(self, body: ir.Graph) -> ir.Model:
        """A graph within this one as a model, with the functions that it may call."""
        return ir.Model(body, ir_version=self._copy.ir_version, functions=list(self._copy.functions.values()))

    def infer_shapes_again(self) -> None:
        """Learn sizes that the original does not tell, from the copy as it is now."""
        self.shapes = Shapes(self._copy.clone())

    def folded_name(self, name: str | None) -> str:
        """A fresh name for what `name` becomes: conv1.weight -> conv1.weight_folded."""
        stem = (name or "value").split(_SUFFIX)[0]
        return self.fresh(stem + _SUFFIX)

    def new_constant(self, array: Array, dtype: ir.DataType, name: str) -> ir.Value:
        """A new initializer holding the float64 `array` rounded once to `dtype`."""
        with np.errstate(over="ignore"):
            value = add_initializer(self.graph, name, np.asarray(array, dtype.numpy(), order="C"), dtype)
        self.constants.remember(value, array)
        return value

    def replace_with_constant(self, node: ir.Node, array: Array, dtype: ir.DataType) -> None:
        """The node's only output becomes an initializer of the same name."""
        output = node.outputs[0]
        name = output.name or self.fresh("weight")
        value = self.new_constant(array, dtype, self.fresh(name))
        output.replace_all_uses_with(value, replace_graph_outputs=True)
        self.remove([node])
        value.name = name

    def set_input(self, node: ir.Node, index: int, value: ir.Value) -> None:
        """Let the node read `value` instead; what it read before goes if nothing else needs it."""
        if index >= len(node.inputs):
            node.resize_inputs(index + 1)
        old = node.inputs[index]
        node.replace_input_with(index, value)
        if old is not None:
            self._ask_shape_of(value, old)
            self.release([old])

    def _ask_shape_of(self, new: ir.Value, old: ir.Value) -> None:
        """Let who reads only the shape of `old` read that of `new`, so that no weight stays for it."""
        if new.const_value is None or old.const_value is None or new.const_value.shape != old.const_value.shape:
            return
        for use in list(old.uses()):
            if op(use.node) == "Shape" and use.node.graph is self.graph:
                use.node.replace_input_with(0, new)

    def ask_shape_of(self, value: ir.Value, instead: ir.Value) -> None:
        """Let who asks for the shape of `value`, which goes, ask for that of another value of the same shape."""
        for use in list(value.uses()):
            if op(use.node) in ("Shape", "Size"):
                use.node.replace_input_with(use.idx, instead)

    def retire(self, value: ir.Value) -> None:
        """Give a value whose content has changed a new name: the old one keeps its meaning, and is gone."""
        self.shapes.keep(value)
        value.name = self.folded_name(value.name)

    def hand_over(self, old: ir.Value, new: ir.Value, nodes: Iterable[ir.Node]) -> None:
        """`new` now holds what `old` held: it gets the uses, type and name of `old`, whose `nodes` go."""
        self.copy_type(old, new)
        new.metadata_props.update(old.metadata_props)
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        self.remove(nodes)
        new.name = old.name

    def copy_type(self, source: ir.Value, target: ir.Value) -> None:
        """Type and sizes of `source` for `target`, which has the same ones."""
        self.shapes.keep(source, target)
        if source.type is not None:
            target.type = source.type
        if source.shape is not None:
            target.shape = source.shape.copy()

    def remove(self, nodes: Iterable[ir.Node]) -> None:
        """Take nodes whose outputs nobody reads out of the graph, with the constants only they read."""
        gone = list(nodes)
        operands = [value for node in gone for value in node.inputs if value is not None]
        self.graph.remove(gone, safe=True)
        self.release(operands)

    def release(self, values: Iterable[ir.Value]) -> None:
        """Drop those of `values` that are constant, or spread constants, and that nothing reads any more."""
        pending = list(values)
        while pending:
            value = pending.pop()
            node = value.producer()
            known = value in self.constants or (node is not None and op(node) in _SHAPING)
            if not known or value.uses() or value.is_graph_output():
                continue
            if node is None:
                self.graph.initializers.pop(value.name or "", None)
            elif node.graph is self.graph and not any(each.uses() or each.is_graph_output() for each in node.outputs):
                pending += [each for each in node.inputs if each is not None]
                self.graph.remove(node, safe=True)
            self.constants.forget(value)

    def mark(self, node: ir.Node, folded: str) -> None:
        """Record on a node which norm it has taken in."""
        before = node.metadata_props.get(FOLDED)
        node.metadata_props[FOLDED] = f"{before},{folded}" if before else folded
