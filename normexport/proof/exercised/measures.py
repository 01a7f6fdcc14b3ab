"""The least and the largest numbers of values, measured where they are made, in the bodies of Loop, Scan and If too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from normexport.graphs.initializers import add_initializer
from normexport.graphs.probe import Probe

_BOTH = ("ReduceMin", "ReduceMax")
_NONE = {"ReduceMin": np.inf, "ReduceMax": -np.inf}  # of no numbers at all


@dataclass(frozen=True)
class Ends:
    """The names of the values that hold the least and the largest numbers of another."""

    least: str
    largest: str


class Measure(Probe):
    """A probe for the ends of values, of each value once."""

    def __init__(self, graph: ir.Graph, around: Measure | None = None) -> None:
        if around is None:
            super().__init__(graph)
        else:
            self.graph, self.opset, self.fresh, self.outputs = graph, around.opset, around.fresh, []
        self._root: ir.Graph = graph if around is None else around._root
        self._known: dict[tuple[ir.Value, tuple[int, ...] | None], Ends] = {}
        self._kinds: list[str] = []

    def constant(self, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> ir.Value:
        """A new initializer of the main graph, which bodies see as well."""
        return add_initializer(self._root, self.fresh("probe_constant"), array)

    def ends(self, value: ir.Value | None, axes: Sequence[int] | None = None) -> Ends:
        """Of all numbers of a value, or for each place of the axes that are not among `axes`."""
        assert value is not None
        key = value, None if axes is None else tuple(axes)
        if key not in self._known:
            single = self.node("Cast", [value], [ir.AttrInt64("to", int(ir.DataType.FLOAT))])
            reduced = [self.reduced(kind, single, None if axes is None else list(axes)) for kind in _BOTH]
            self._known[key] = self._kept(reduced, scalar=axes is None)
        return self._known[key]

    def _kept(self, values: Sequence[ir.Value], *, scalar: bool) -> Ends:
        for value in values:
            if scalar:
                value.shape = ir.Shape([])
        self.outputs += values
        self._kinds += _BOTH
        return Ends(*(str(value.name) for value in values))

    def lifted(self, node: ir.Node, inner: Measure) -> dict[str, str]:
        """Take what was measured in a body of `node` out of it, over all its rounds: new names by those inside."""
        names: dict[str, str] = {}
        for kind, value in zip(inner._kinds, inner.outputs, strict=True):
            if node.op_type == "If":
                self._in_other_branch(node, inner.graph, kind)
            inner.graph.outputs.append(value)
            node.resize_outputs(len(node.outputs) + 1)
            given = node.outputs[-1]
            given.name, given.type = self.fresh("probe_of_body"), ir.TensorType(ir.DataType.FLOAT)
            for attribute in ("scan_output_axes", "scan_output_directions"):
                if attribute in node.attributes:
                    more = [*node.attributes[attribute].as_ints(), 0]
                    node.attributes[attribute] = ir.AttrInt64s(attribute, more)
            row = self.node("Reshape", [given, self.constant(np.array([-1], np.int64))])
            none = self.constant(np.array([_NONE[kind]], np.float32))
            whole = self.node("Concat", [row, none], [ir.AttrInt64("axis", 0)])
            names[str(value.name)] = str(self._single(kind, whole).name)
        return names

    def _single(self, kind: str, value: ir.Value) -> ir.Value:
        found = self.reduced(kind, value, None)
        found.shape = ir.Shape([])
        self.outputs.append(found)
        self._kinds.append(kind)
        return found

    def _in_other_branch(self, node: ir.Node, branch: ir.Graph, kind: str) -> None:
        """What another branch gives where one measures: the end of nothing."""
        for attribute in node.attributes.values():
            other = attribute.value
            if isinstance(other, ir.Graph) and other is not branch:
                inner = Measure(other, self)
                none = inner.node("Identity", [self.constant(np.array(_NONE[kind], np.float32))])
                none.shape = ir.Shape([])
                other.outputs.append(none)
