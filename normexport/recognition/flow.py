"""How numbers flow through a graph: which value everything behind another comes through, and what lies between two."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

import numpy as np
import onnx_ir as ir

from normexport.graphs.nodes import op
from normexport.recognition.operators import AFFINE, LAYOUT, REDUCTIONS, has_threshold, is_allowed

_MOST_NODES = 200  # of one norm; the bodies of this library have up to 90
_FARTHEST = 12  # steps before and behind the place where a norm divides
_SMALL = 4096  # elements of a constant that is looked at


class Role(Enum):
    """What a value depends on."""

    CONSTANT = "constants alone"
    SIZE = "sizes of tensors"
    DATA = "numbers that are given at inference"


@dataclass(frozen=True, eq=False)
class Region:
    """The nodes that compute `output` from `input` and nothing else that is given at inference, in graph order.

    Attributes:
        steps: those of `nodes` whose results depend on the numbers of `input`.
        sized: values beside `input` of which only the sizes are read.
        threshold: a step that compares with a constant, None where there is none.
        reductions: how many of the steps reduce.
    """

    input: ir.Value
    output: ir.Value
    nodes: tuple[ir.Node, ...]
    steps: tuple[ir.Node, ...]
    sized: tuple[ir.Value, ...]
    threshold: ir.Node | None

    @property
    def reductions(self) -> int:
        return sum(op(node) in REDUCTIONS for node in self.steps)

    def readers_outside(self) -> list[tuple[ir.Value, ir.Node | None]]:
        """Values inside that something else needs too, with the reader; None where a value is a graph output."""
        inside = set(self.nodes)
        found: list[tuple[ir.Value, ir.Node | None]] = []
        for value in (value for node in self.steps for value in node.outputs if value is not self.output):
            found += [(value, use.node) for use in value.uses() if use.node not in inside]
            found += [(value, None)] if value.is_graph_output() else []
        return found


class Flow:
    """Roles, and for each value its door: the nearest value that all data come through on their way to it."""

    def __init__(self, graph: ir.Graph) -> None:
        self._role: dict[ir.Value, Role] = {}
        self._door: dict[ir.Value, ir.Value | None] = {}
        self._depth: dict[ir.Value | None, int] = {None: 0}
        self._order: dict[ir.Node, int] = {}
        for value in graph.initializers.values():
            self._role[value] = Role.CONSTANT
        for value in graph.inputs:
            self._enter(value, None)
        for index, node in enumerate(graph):
            self._order[node] = index
            self._place(node)

    def role(self, value: ir.Value) -> Role:
        """What a value depends on."""
        return self._role.get(value, Role.DATA)

    def is_data(self, value: ir.Value) -> bool:
        """Whether a value depends on numbers that are given at inference."""
        return self.role(value) is Role.DATA

    def merges(self) -> Iterator[ir.Value]:
        """Values that are computed from more than one value, in graph order."""
        for node in self._order:
            if len({value for value in node.inputs if value is not None and self.is_data(value)}) > 1:
                yield from (value for value in node.outputs[:1] if self.is_data(value) and op(node) != "Concat")

    def doors(self, value: ir.Value) -> Iterator[ir.Value]:
        """The values before `value` that all data come through, nearest first."""
        for _ in range(_FARTHEST):
            before = self._door.get(value)
            if before is None:
                return
            yield before
            value = before

    def behind(self, value: ir.Value) -> list[ir.Value]:
        """`value`, and what constants and layouts make of it, one after another, while nothing else reads it."""
        found = [value]
        while len(found) <= _FARTHEST and not value.is_graph_output():
            readers = {use.node for use in value.uses()}
            if len(readers) != 1:
                break
            (node,) = readers
            others = [each for each in node.inputs if each is not None and each is not value]
            if node not in self._order or op(node) not in AFFINE | LAYOUT or len(node.outputs) != 1:
                break
            if any(self.is_data(each) for each in others):
                break
            value = node.outputs[0]
            found.append(value)
        return found

    def region(self, start: ir.Value, end: ir.Value) -> Region | None:
        """What lies between two values; None where data come another way, or through what no norm is written with."""
        nodes: set[ir.Node] = set()
        steps: set[ir.Node] = set()
        sized: dict[ir.Value, None] = {}
        pending, seen = [end], {start}
        while pending:
            value = pending.pop()
            if value in seen:
                continue
            seen.add(value)
            node, role = value.producer(), self.role(value)
            if node is None:
                if role is Role.CONSTANT:
                    continue
                return None
            nodes.add(node)
            if role is Role.DATA:
                if node not in self._order or not is_allowed(node, self.is_data):
                    return None
                steps.add(node)
            elif op(node) in ("Shape", "Size") and not self._is_within(node.inputs[0], start):
                sized.update(dict.fromkeys(each for each in node.inputs if each is not None))
                continue
            pending += [each for each in node.inputs if each is not None]
            if len(nodes) > _MOST_NODES:
                return None
        ordered = self._sorted(steps)
        threshold = next((node for node in ordered if has_threshold(node, self.is_data, _is_zero)), None)
        return Region(start, end, self._sorted(nodes), ordered, tuple(sized), threshold)

    def _sorted(self, nodes: set[ir.Node]) -> tuple[ir.Node, ...]:
        return tuple(sorted(nodes, key=self._order.__getitem__))

    def _is_within(self, value: ir.Value | None, start: ir.Value) -> bool:
        """Whether a value is `start` or computed from it alone."""
        least = self._depth.get(start, 0)
        while value is not None and value is not start and self._depth.get(value, 0) > least:
            value = self._door.get(value)
        return value is start

    def _place(self, node: ir.Node) -> None:
        read = [value for value in node.inputs if value is not None]
        data = [value for value in read if self.is_data(value)]
        if any(attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for attribute in _own(node)):
            role = Role.DATA  # of what its graphs read, nothing is known here
            data = []
        elif op(node) in ("Shape", "Size"):
            role = Role.CONSTANT if all(self.role(value) is Role.CONSTANT for value in read) else Role.SIZE
        elif not read:
            role = Role.CONSTANT if op(node) == "Constant" else Role.DATA
        else:
            roles = {self.role(value) for value in read}
            role = next(each for each in (Role.DATA, Role.SIZE, Role.CONSTANT) if each in roles)
        for value in node.outputs:
            self._role[value] = role
            if role is Role.DATA:
                self._enter(value, self._meeting(data))

    def _enter(self, value: ir.Value, door: ir.Value | None) -> None:
        self._door[value] = door
        self._depth[value] = self._depth.get(door, 0) + 1
        self._role.setdefault(value, Role.DATA)

    def _meeting(self, values: list[ir.Value]) -> ir.Value | None:
        """The nearest door of all of them; itself where it is one value."""
        if not values:
            return None
        met: ir.Value | None = values[0]
        for value in values[1:]:
            other: ir.Value | None = value
            while met is not other:
                if self._depth.get(met, 0) < self._depth.get(other, 0):
                    other = self._door.get(other) if other is not None else None
                else:
                    met = self._door.get(met) if met is not None else None
        return met


def _own(node: ir.Node) -> list[ir.Attr]:
    return [attribute for attribute in node.attributes.values() if isinstance(attribute, ir.Attr)]


def _is_zero(value: ir.Value) -> bool:
    tensor = ir.convenience.get_const_tensor(value)
    return tensor is not None and tensor.size <= _SMALL and not np.any(tensor.numpy())
