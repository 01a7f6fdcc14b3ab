"""What a rule answers when it can take a map in: edits that are made only if every rule involved agrees."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx_ir as ir

from normexport.dtypes import FLOATS, of_onnx
from normexport.folding.graph import Draft
from normexport.folding.per_channel import Array, PerChannel
from normexport.graphs.nodes import label, name_of
from normexport.graphs.refusal import Refuse
from normexport.text import bracketed


@dataclass(frozen=True)
class Hazard:
    """A folded constant that a type can't hold: its own, or (`later`) the one it will be cast to."""

    message: str
    channels: tuple[int, ...]
    later: bool


class Overflow(Refuse):
    """A folded constant does not fit its own type: folding would write infinity into the file."""

    def __init__(self, hazard: Hazard) -> None:
        super().__init__(hazard.message)
        self.hazard = hazard


class Edit(Protocol):
    """One change of the working copy."""

    def apply(self, draft: Draft) -> Iterable[ir.Node]:
        """Make the change; returns the nodes that took something in."""


@dataclass(frozen=True)
class Rewrite:
    """Edits in order. `rule` names the rule nearest to the norm, `added` counts nodes the edits create."""

    rule: str
    reason: str
    edits: tuple[Edit, ...] = ()
    hazards: tuple[Hazard, ...] = ()
    added: int = 0

    def under(self, rule: str, reason: str, *edits: Edit) -> Rewrite:
        """The same rewrite as reached through another rule, with that rule's own edits."""
        return Rewrite(rule, reason, (*self.edits, *edits), self.hazards, self.added)


# How a rule asks what lies behind it: (value, map) -> the rewrite that gives the value that map.
Absorb = Callable[[ir.Value, PerChannel], Rewrite]


def together(rule: str, reason: str, rewrites: Iterable[Rewrite]) -> Rewrite:
    """All of several rewrites as one."""
    every = list(rewrites)
    return Rewrite(
        rule,
        reason,
        tuple(edit for rewrite in every for edit in rewrite.edits),
        tuple(hazard for rewrite in every for hazard in rewrite.hazards),
        sum(rewrite.added for rewrite in every),
    )


@dataclass(frozen=True, eq=False)
class SetConstant:
    """Input `index` of `node` becomes a new initializer; `old_name` is what it replaces."""

    node: ir.Node
    index: int
    array: Array
    dtype: ir.DataType
    old_name: str

    def apply(self, draft: Draft) -> Iterable[ir.Node]:
        value = draft.new_constant(self.array, self.dtype, draft.folded_name(self.old_name))
        draft.set_input(self.node, self.index, value)
        return (self.node,)


@dataclass(frozen=True, eq=False)
class SetFloat:
    """An attribute of `node` gets a new value."""

    node: ir.Node
    attribute: str
    value: float

    def apply(self, draft: Draft) -> Iterable[ir.Node]:
        self.node.attributes[self.attribute] = ir.AttrFloat32(self.attribute, self.value)
        return (self.node,)


@dataclass(frozen=True, eq=False)
class Retire:
    """The value now holds something else: it gets a new name."""

    value: ir.Value

    def apply(self, draft: Draft) -> Iterable[ir.Node]:
        draft.retire(self.value)
        return ()


@dataclass(frozen=True, eq=False)
class RetireInput:
    """What `node` reads at `index` by then (an AppendAdd may have changed it) now holds something else."""

    node: ir.Node
    index: int

    def apply(self, draft: Draft) -> Iterable[ir.Node]:
        value = self.node.inputs[self.index]
        assert value is not None
        draft.retire(value)
        return ()


@dataclass(frozen=True, eq=False)
class AppendAdd:
    """`value` + shift takes the place and the name of `value`, which gets a new one; shift broadcasts to its shape."""

    value: ir.Value
    shift: Array
    dtype: ir.DataType

    def apply(self, draft: Draft) -> Iterable[ir.Node]:
        maker = self.value.producer()
        assert maker is not None
        bias = draft.new_constant(self.shift, self.dtype, draft.folded_name(f"{name_of(maker)}.bias"))
        output = ir.Value(name=self.value.name)
        draft.copy_type(self.value, output)
        output.metadata_props.update(self.value.metadata_props)
        self.value.replace_all_uses_with(output, replace_graph_outputs=True)
        draft.retire(self.value)
        add = ir.Node(
            "",
            "Add",
            [self.value, bias],
            name=draft.fresh(f"{name_of(maker)}_bias"),
            outputs=[output],
            metadata_props=dict(maker.metadata_props),
        )
        draft.graph.insert_after(maker, add)
        return (add,)


def float_type(value: ir.Value, draft: Draft) -> ir.DataType:
    """The value's floating-point type, which new constants beside it get.

    Raises:
        Refuse: it is unknown, or no type that a fold can compute in.
    """
    dtype = draft.shapes.dtype(value)
    if dtype is None and value.const_value is not None:
        dtype = value.const_value.dtype
    if dtype is None or of_onnx(dtype) is None:
        raise Refuse(f"'{value.name}' has type {dtype.name if dtype else 'unknown'}, not a floating-point type")
    return dtype


def constant_edit(
    node: ir.Node, index: int, array: Array, channels: Array, like: ir.Value, old_name: str, draft: Draft
) -> Rewrite:
    """A rewrite that puts `array` (float64) at input `index` of `node`, in the type of `like`.

    `channels` broadcasts to `array` and holds the channel each element belongs to, for messages.

    Raises:
        Overflow: an element is finite in float64 but not in its type.
    """
    dtype = float_type(like, draft)
    edit = SetConstant(node, index, array, dtype, old_name)
    what = f"'{old_name}' of {label(node)} with the norm in it"
    now = overflow(array, channels, dtype, what)
    if now is not None:
        raise Overflow(now)
    later = draft.config.precision
    hazard = overflow(array, channels, FLOATS[later].ir, what, later=True) if later else None
    return Rewrite("", "", (edit,), (hazard,) if hazard else ())


def overflow(array: Array, channels: Array, dtype: ir.DataType, what: str, later: bool = False) -> Hazard | None:
    """The channels whose elements are finite in `array` (float64) but beyond the largest number of `dtype`."""
    kind = of_onnx(dtype)
    assert kind is not None
    limit = kind.largest
    if array.size == 0 or (array.min() >= -limit and array.max() <= limit):
        return None  # the usual case, without a temporary of the weight's size
    too_large = np.isfinite(array) & (np.abs(array) > limit)
    if not too_large.any():
        return None
    found = [int(channel) for channel in np.unique(np.broadcast_to(channels, array.shape)[too_large])]
    return Hazard(f"{what} overflows {kind.name} in channels {bracketed(found)}", tuple(found), later)
