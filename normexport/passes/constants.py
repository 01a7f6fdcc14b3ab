"""Values that are the same at every inference, evaluated once, in float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from normexport.errors import FoldError
from normexport.passes.affine import Array, Refuse
from normexport.passes.evaluate import OPERATORS, widen
from normexport.passes.nodes import label, op

_CONSTANT_FIELDS = ("value", "value_float", "value_floats", "value_int", "value_ints")


class Constants:
    """Knows which values of the main graph are constant, and their arrays (float64 or int64) when asked.

    A constant is an initializer that no caller can override (not also a graph input), the output of a Constant
    node, or computed from constants by the operators of `evaluate`. Arrays must not be written to.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self._constant: set[ir.Value] = {
            value
            for value in graph.initializers.values()
            if value.const_value is not None and not value.is_graph_input()
        }
        self._arrays: dict[ir.Value, Array] = {}
        for node in graph:
            self._classify(node)

    def _classify(self, node: ir.Node) -> None:
        stored = op(node) == "Constant" and any(field in node.attributes for field in _CONSTANT_FIELDS)
        computed = op(node) in OPERATORS and bool(node.inputs)
        if stored or (computed and all(i is None or i in self._constant for i in _read_by(node))):
            self._constant.update(node.outputs)

    def __contains__(self, value: ir.Value | None) -> bool:
        return value in self._constant

    def remember(self, value: ir.Value, array: Array) -> None:
        """A new initializer and the float64 array it was rounded from, so that folding twice rounds once."""
        self._constant.add(value)
        self._arrays[value] = array

    def forget(self, value: ir.Value) -> None:
        """The value has left the graph."""
        self._constant.discard(value)
        self._arrays.pop(value, None)

    def array(self, value: ir.Value | None) -> Array:
        """The constant's array.

        Raises:
            Refuse: the value is absent, not constant, or of a type that is not evaluated.
        """
        if value is None:
            raise Refuse("an input is absent")
        if value not in self._constant:
            raise Refuse(self.why_not(value))
        # An explicit stack: chains of constants may be longer than Python's recursion limit.
        pending = [value]
        while pending:
            current = pending[-1]
            missing = [each for each in self._sources(current) if each not in self._arrays]
            if current not in self._arrays and not missing:
                self._arrays[current] = self._evaluate(current)
            pending = pending[:-1] if current in self._arrays else [*pending, *missing]
        return self._arrays[value]

    def weight(self, value: ir.Value, reader: ir.Node) -> Array:
        """The array of a weight that belongs to `reader` alone.

        Neither the weight nor anything of its size that it is computed from may feed another node. Smaller
        operands on the way (factors, shapes) may: exporters merge equal small constants.

        Raises:
            Refuse: the weight is not constant, or it is shared.
        """
        array = self.array(value)
        carriers, family = self._carriers(value, array.size)
        for carrier in carriers:
            # Who asks for the shape of a weight does not mind its values, and a fold keeps the shape.
            uses = [use for use in carrier.uses() if op(use.node) != "Shape"]
            others = [label(use.node) for use in uses if use.node not in family and use.node is not reader]
            if carrier is value and len(uses) > 1 and not others:
                others = [f"input {use.idx} of {label(use.node)}" for use in uses if use.idx != 1]
            if carrier.is_graph_output():
                raise Refuse(f"the weight '{carrier.name}' of {label(reader)} is also a graph output")
            if others:
                also = ", ".join(dict.fromkeys(others))
                raise Refuse(f"the weight '{carrier.name}' of {label(reader)} is shared: it also feeds {also}")
        return array

    def _carriers(self, weight: ir.Value, size: int) -> tuple[list[ir.Value], set[ir.Node]]:
        """Values of at least `size` elements that the weight is computed from (itself first), and the nodes between."""
        carriers: dict[ir.Value, None] = {}
        family: set[ir.Node] = set()
        pending = [weight]
        while pending:
            value = pending.pop()
            if self._arrays[value].size >= size:
                carriers[value] = None
            node = value.producer()
            if node is not None and node not in family and op(node) != "Shape":
                family.add(node)
                pending += self._sources(value)
        return list(carriers), family

    def why_not(self, value: ir.Value) -> str:
        """Why a value is not a constant, in words."""
        node = value.producer()
        if value.is_graph_input():
            if value.is_initializer():
                return f"'{value.name}' is also a graph input, so a caller may override it"
            return f"'{value.name}' is a graph input, not a constant"
        if node is None:
            return f"'{value.name}' has no stored values"
        if op(node) in ("DequantizeLinear", "QuantizeLinear"):
            return f"'{value.name}' comes from fake-quantisation ({label(node)}); fold before quantising"
        return f"'{value.name}' is computed at inference by {label(node)}"

    def _sources(self, value: ir.Value) -> list[ir.Value]:
        node = value.producer()
        if node is None or op(node) == "Constant":
            return []
        return [each for each in _read_by(node) if each is not None]

    def _evaluate(self, value: ir.Value) -> Array:
        node = value.producer()
        if node is None:
            return widen(_read(value))
        if op(node) == "Constant":
            return widen(_stored(node))
        inputs = [None if each is None else self._arrays[each] for each in _read_by(node)]
        try:
            with np.errstate(all="ignore"):
                return OPERATORS[op(node)](node, inputs)
        except (ValueError, TypeError, IndexError) as error:
            raise Refuse(f"{label(node)} can't be evaluated: {error}") from error


def _read_by(node: ir.Node) -> Sequence[ir.Value | None]:
    """The inputs whose values matter; of the second one of CastLike it is the type."""
    return node.inputs[:1] if op(node) == "CastLike" else node.inputs


def _read(value: ir.Value) -> Array:
    assert value.const_value is not None
    try:
        return np.asarray(value.const_value.numpy())
    except (OSError, ValueError) as error:  # external data that is absent, short, or outside the model's folder
        raise FoldError(value.name or "initializer", f"its values can't be read: {error}") from error


def _stored(node: ir.Node) -> Array:
    field = next(name for name in _CONSTANT_FIELDS if name in node.attributes)
    value: Any = node.attributes[field].value
    if field == "value":
        return np.asarray(value.numpy())
    return np.asarray(value, dtype=np.float64 if "float" in field else np.int64)
