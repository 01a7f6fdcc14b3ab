"""Numbers beyond a half type's range that only say "not this one", and what can stand for them there.

Masks of -1e9 or of the smallest float32 become -inf in a half type: a row of scores that is masked whole gives NaN
then. Let L be the largest number of the type, p the largest score measured. C with |C| > L is replaced

1. in `Where(mask, C, scores)` that only Softmax, ArgMax and ArgMin read (moved about, or masked again by the same C),
   by C' = +-L/2 where p <= L/4. Masked entries are equal among themselves before and after, so rows masked whole give
   1/n both times; beside a score, exp(C - score) is 0, and exp(C' - score) <= exp(-L/4) is 0 too.
2. in `Softmax(scores + M)` with a constant M, by C' = +-L/4 where p and the other entries of M are <= L/16, and each
   row of M has an entry that is left in. Sums stay finite, masked ones below it by L/8 at least: exp gives 0. A mask
   that is computed may fill a row. Then -1e9 + score is rounded to steps of 64 in float32, of 16 in float16 at -L/4,
   and with the smallest float32 all scores are the same: three different results. Such sums stay in float32.
3. as the bound of Clip, Max and Min that nothing in range crosses, by C' = +-L.
4. in comparisons with values <= L/2, by C' = +-L.

The scores may grow to twice what was measured (to L/2 in 1) before anything changes, like all else that is in half.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from normexport.graphs.initializers import add_initializer
from normexport.graphs.names import Names
from normexport.graphs.nodes import op
from normexport.io.onnx_domain import opset_in

_MOVES = frozenset(["Cast", "Expand", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"])
_CHOOSES = frozenset(["Softmax", "ArgMax", "ArgMin"])
_COMPARES = frozenset(["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"])
_MOST_STEPS = 64  # followed from a constant to what reads it

Peaks = Mapping[str, float]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Masks:
    """What became of a model's numbers out of range.

    Attributes:
        model: with the stand-ins, still float32.
        stand_ins: names of the values that differ for it from those of the model as it was.
        notes: what stands for what, in words.
    """

    model: ir.Model
    stand_ins: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


@dataclass
class _Trail:
    """What was met on the way from a constant: values that hold it, the nodes that end it, the share of L to give."""

    share: float
    held: list[str] = field(default_factory=list)
    ends: list[ir.Node] = field(default_factory=list)


def out_of_range(model: ir.Model, largest: float) -> bool:
    """Whether a constant holds a finite number that the half type does not."""
    return any(_beyond(array, largest).any() for _, array in _constants(model))


def with_stand_ins(model: ir.Model, largest: float, peaks: Peaks) -> Masks:
    """Replace numbers beyond `largest` where that changes nothing; `model` stays.

    Args:
        peaks: largest magnitude of each floating value on the inputs that were looked at; one that is missing is taken
            to be infinite.
    """
    copy = model.clone()
    search = _Search(copy, largest, peaks)
    edits = search.edits()
    notes, held = [], set[str]()
    for (value, share), uses in edits.items():
        array = search.constants[value]
        stand_in = _stand_in(value, array, largest, share, copy.graph)
        for node, index, trail in uses:
            node.replace_input_with(index, stand_in)
            held |= {str(value.name), *trail.held}
        beyond = array[_beyond(array, largest)]
        told = np.float32(beyond.flat[0])
        notes.append(f"{told:.3g} of '{value.name}' is stored as {np.sign(told) * largest * share:.6g}: same result")
    for value in {value for value, _ in edits}:
        _drop_unread(value, copy.graph)
    return Masks(copy, frozenset(held), tuple(notes))


_Use = tuple[ir.Node, int, _Trail]


class _Search:
    """Finds the uses of constants out of range that a stand-in serves as well."""

    def __init__(self, model: ir.Model, largest: float, peaks: Peaks) -> None:
        self._largest, self._peaks = largest, peaks
        self.constants = dict(_constants(model))

    def edits(self) -> dict[tuple[ir.Value, float], list[_Use]]:
        """By constant and share of the largest number: the nodes that are to read the stand-in, and at which input."""
        found: list[tuple[ir.Value, _Use]] = []
        refused: set[ir.Node] = set()
        seen: dict[ir.Node, float] = {}
        for value, array in self.constants.items():
            numbers = set(array[_beyond(array, self._largest)].tolist())
            if not numbers:
                continue
            for use in value.uses():
                trail = self._fate(value, array, use.node, use.idx)
                if trail is None:
                    continue
                found.append((value, (use.node, use.idx, trail)))
                for end in trail.ends:  # of two different numbers in one row the larger one wins
                    if len(numbers) > 1 or seen.setdefault(end, next(iter(numbers))) not in numbers:
                        refused.add(end)
        edits: dict[tuple[ir.Value, float], list[_Use]] = {}
        for value, edit in found:
            if not refused.intersection(edit[2].ends):
                edits.setdefault((value, edit[2].share), []).append(edit)
        return edits

    def _fate(self, value: ir.Value, array: Floats, node: ir.Node, index: int) -> _Trail | None:
        """Where the constant goes by this use, None where a stand-in could be told from it."""
        beyond = array[_beyond(array, self._largest)]
        bound = {("Clip", 1): -1, ("Clip", 2): 1, ("Max", index): -1, ("Min", index): 1}.get((op(node), index))
        if bound is not None:
            return _Trail(1.0) if (np.sign(beyond) == bound).all() else None
        if op(node) in _COMPARES:
            return _Trail(1.0) if self._score(_other(node, index)) <= self._largest / 2 else None
        if op(node) == "Add":
            return self._trail_of_added(array, node, index)
        trail = _Trail(0.5)
        if op(node) in _MOVES and index == 0:
            return trail if self._follow(node.outputs[0], trail) else None
        if op(node) == "Where" and index > 0 and self._is_small_beside(value):
            return trail if self._is_masked(node, index, trail) else None
        return None

    def _trail_of_added(self, array: Floats, node: ir.Node, index: int) -> _Trail | None:
        """Rule 2: a constant added to scores, each of its rows with an entry in range, and Softmax over the rows."""
        open_entries = np.abs(array) <= self._largest / 16
        fits = (open_entries | _beyond(array, self._largest) | ~np.isfinite(array)).all()
        if array.ndim == 0 or array.shape[-1] < 2 or not fits or not open_entries.any(axis=-1).all():
            return None
        if self._score(_other(node, index)) > self._largest / 16:
            return None
        reader = _only_reader(node.outputs[0])
        held = [str(node.outputs[0].name)]
        while reader is not None and op(reader) in ("Cast", "Identity"):
            held.append(str(reader.outputs[0].name))
            reader = _only_reader(reader.outputs[0])
        if reader is None or op(reader) != "Softmax" or not _over_last_axis(reader):
            return None
        return _Trail(0.25, held, [reader])

    def _is_masked(self, node: ir.Node, index: int, trail: _Trail) -> bool:
        """Rule 1, from a Where that takes the constant."""
        if self._score(node.inputs[3 - index]) > self._largest / 4:
            return False
        return self._follow(node.outputs[0], trail)

    def _follow(self, value: ir.Value, trail: _Trail) -> bool:
        """Whether all that reads a value which holds the constant only chooses."""
        if value.is_graph_output() or len(trail.held) > _MOST_STEPS:
            return False
        trail.held.append(str(value.name))
        for node, index in value.uses():
            if op(node) in _CHOOSES and index == 0:
                trail.ends.append(node)
            elif op(node) in _MOVES and index == 0:
                if _casts_away(node) or not self._follow(node.outputs[0], trail):
                    return False
            elif op(node) != "Where" or index == 0 or not self._is_masked(node, index, trail):
                return False
        return bool(value.uses())

    def _is_small_beside(self, value: ir.Value) -> bool:
        """Whether what a constant holds beside its numbers out of range is as small as scores have to be."""
        array = self.constants[value]
        rest = array[~_beyond(array, self._largest) & np.isfinite(array)]
        return float(np.abs(rest).max(initial=0.0)) <= self._largest / 4

    def _score(self, value: ir.Value | None, depth: int = 0) -> float:
        """The largest magnitude of a value, apart from numbers out of range and infinities that masks put into it."""
        if value is None or depth > _MOST_STEPS:
            return float("inf")
        if value in self.constants:
            array = self.constants[value]
            kept = array[~_beyond(array, self._largest) & ~np.isinf(array)]
            return float(np.abs(kept).max(initial=0.0))
        node = value.producer()
        if node is not None and op(node) == "Where":
            return max(self._score(each, depth + 1) for each in node.inputs[1:])
        if node is not None and op(node) in _MOVES and not _casts_away(node):
            return self._score(node.inputs[0], depth + 1)
        return self._peaks.get(str(value.name), float("inf"))


def _constants(model: ir.Model) -> Iterator[tuple[ir.Value, Floats]]:
    """Float32 constants of the main graph that no caller can replace, and what they hold."""
    for value in model.graph.initializers.values():
        tensor = None if value.is_graph_input() else value.const_value
        if tensor is not None and tensor.dtype == ir.DataType.FLOAT:
            yield value, tensor.numpy()
    for node in model.graph:
        tensor = ir.convenience.get_const_tensor(node.outputs[0]) if op(node) == "Constant" else None
        if tensor is not None and tensor.dtype == ir.DataType.FLOAT:
            yield node.outputs[0], tensor.numpy()


def _beyond(array: Floats, largest: float) -> npt.NDArray[np.bool_]:
    return (np.abs(array) > largest) & np.isfinite(array)


def _stand_in(value: ir.Value, array: Floats, largest: float, share: float, graph: ir.Graph) -> ir.Value:
    stored = np.where(_beyond(array, largest), np.sign(array) * np.float32(largest * share), array).astype(np.float32)
    return add_initializer(graph, Names(graph).fresh(f"{value.name}_in_range"), stored)


def _drop_unread(value: ir.Value, graph: ir.Graph) -> None:
    if value.uses() or value.is_graph_output():
        return
    maker = value.producer()
    if maker is None:
        del graph.initializers[str(value.name)]
    else:
        graph.remove(maker, safe=True)


def _only_reader(value: ir.Value) -> ir.Node | None:
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def _other(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[1 - index]


def _casts_away(node: ir.Node) -> bool:
    """A Cast to what is no floating type of float32's range."""
    if op(node) != "Cast":
        return False
    return node.attributes["to"].as_int() not in (int(ir.DataType.FLOAT), int(ir.DataType.DOUBLE))


def _over_last_axis(node: ir.Node) -> bool:
    """Whether the rows of a Softmax hold whole rows of its input's last axis."""
    opset = opset_in(node.graph.opset_imports) if node.graph is not None else 0
    if opset < 13:
        return True  # one row of all axes from `axis` on
    axis = node.attributes.get("axis")
    if axis is None or axis.as_int() == -1:
        return True
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    return shape is not None and axis.as_int() == len(shape) - 1
