"""The fake quantisation that a graph brings along, taken out of it: float numbers, and the grids they were rounded to.

    x -> QuantizeLinear(s, z) [-> Clip] -> DequantizeLinear(s, z) -> reader        x -> reader, and the grid of x
    weight -> QuantizeLinear ... DequantizeLinear, or integers -> DequantizeLinear  the rounded weight, and its grid

A tensor of which some readers read the pair, others the number itself or another pair, becomes a tensor of its own for
each (an Identity): what was rounded stays so, and nothing else. A pair between Sub and Add of one constant is a grid
that does not go through zero: of that the range is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from normexport.errors import FoldError
from normexport.graphs.constant_nodes import store_constants
from normexport.graphs.initializers import add_initializer, fixed_tensor
from normexport.graphs.names import Names
from normexport.graphs.nodes import drop_unread_initializers, label, op, optional, readers
from normexport.precision.int8.clips import clip_ends
from normexport.precision.int8.grids import Grid, WeightGrid
from normexport.precision.int8.ranges import Range

Array = npt.NDArray[Any]

_QUANTISE, _DEQUANTISE = "QuantizeLinear", "DequantizeLinear"
_OTHERS = ("DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")
_BY_CHANNEL = "trained with a scale for each channel, which activations in int8 do not have"
_REMEDY = "give the float32 model, or one in which QuantizeLinear and DequantizeLinear stand in pairs of one scale"


@dataclass(frozen=True)
class Given:
    """A graph without the pairs that it brought along.

    Attributes:
        grids: of activations, by the name of the value.
        ranges: of those whose grid does not go through zero.
        refused: values whose grid int8 does not have, each with the reason.
    """

    model: ir.Model
    grids: Mapping[str, Grid] = field(default_factory=dict)
    ranges: Mapping[str, Range] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Pair:
    """One pair: what it rounds, where that is read, what it gives, and what of the graph it is."""

    source: ir.Value
    entry: ir.Node
    results: tuple[ir.Value, ...]
    grid: Grid | Range | str


def take_weights(model: ir.Model) -> tuple[ir.Model, dict[str, WeightGrid]]:
    """A copy whose constants are the float numbers that their pairs give, and the grids by the name of each weight."""
    copy = store_constants(model).clone()
    names, found = Names(copy.graph), dict[str, WeightGrid]()
    for node in [node for node in copy.graph if op(node) == _DEQUANTISE]:
        weight = _weight(node)
        if weight is None or node.outputs[0].is_graph_output():
            continue
        source, grid = weight
        numbers = grid.numbers()
        value = add_initializer(copy.graph, names.fresh(f"{source.name}_rounded"), numbers)
        node.outputs[0].replace_all_uses_with(value)
        _remove_unread(copy.graph, node)
        if grid.whole.ndim:
            found[str(value.name)] = grid
    drop_unread_initializers(copy.graph)
    return copy, found


def take_pairs(model: ir.Model) -> Given:
    """A copy without the pairs of its activations, and their grids.

    Raises:
        FoldError: quantisation that is no such pair is left.
    """
    copy = store_constants(model).clone()
    pairs = [pair for node in copy.graph if op(node) == _QUANTISE if (pair := _pair(node)) is not None]
    names = Names(copy.graph)
    grids, ranges, refused = dict[str, Grid](), dict[str, Range](), dict[str, str]()
    entries = {pair.entry for pair in pairs}
    for pair in pairs:
        alone = all(use.node is pair.entry for use in readers(pair.source))
        base = pair.source if alone and not isinstance(pair.grid, str) else None
        base = base or (pair.source if isinstance(pair.grid, str) else _own(copy, pair, names))
        for result in pair.results:
            _replace(copy, result, base, names)
        name = str(base.name)
        if isinstance(pair.grid, Grid):
            grids[name] = pair.grid
        elif isinstance(pair.grid, str):
            refused[name] = pair.grid
        else:
            ranges[name] = pair.grid
    for entry in entries:
        _remove_behind(copy.graph, entry)
    drop_unread_initializers(copy.graph)
    for node in ir.traversal.RecursiveGraphIterator(copy.graph):
        if op(node) in (_QUANTISE, _DEQUANTISE, *_OTHERS):
            raise FoldError(label(node), "is quantisation that is no pair of one scale around a number", _REMEDY)
    return Given(copy, grids, ranges, refused)


def has_integer_grids(model: ir.Model) -> bool:
    """Whether a graph rounds something to integers with a zero point: fake quantisation that int8 can take over."""
    copy = store_constants(model)
    pairs = (_pair(node) for node in copy.graph if op(node) == _QUANTISE)
    return any(pair is not None and not isinstance(pair.grid, tuple) for pair in pairs) or any(
        op(node) == _DEQUANTISE and _weight(node) is not None for node in copy.graph
    )


# ---- weights


def _weight(node: ir.Node) -> tuple[ir.Value, WeightGrid] | None:
    """The constant that a DequantizeLinear reads, and its grid; None where it reads no constant."""
    parameters = _parameters(node)
    if parameters is None:
        return None
    scale, zero, axis = parameters
    found = _integers(optional(node, 0), scale, zero)
    if found is None or (zero.size > 1 and len(np.unique(zero)) > 1):
        return None
    source, whole, ends = found
    if scale.size > 1 and (whole.ndim <= axis or whole.shape[axis] != scale.size):
        return None
    place = int(zero.reshape(-1)[0]) if zero.size else 0
    single = scale.size == 1
    steps = scale.reshape(()) if single else scale.reshape(-1)
    along = None if single else axis % max(whole.ndim, 1)
    least, most = (each - place for each in ends)
    return source, WeightGrid(steps.astype(np.float32), whole.astype(np.int32) - place, place, along, (least, most))


def _integers(value: ir.Value | None, scale: Array, zero: Array) -> tuple[ir.Value, Array, tuple[int, int]] | None:
    """The integers of a constant and the ends that they have: stored, or what QuantizeLinear and a Clip make of it."""
    stored = _constant(value)
    if value is None:
        return None
    if stored is not None:
        whole = np.iinfo(stored.dtype) if stored.dtype.kind in "iu" else None
        return None if whole is None else (value, stored, (int(whole.min), int(whole.max)))
    node = value.producer()
    if node is None:
        return None
    if op(node) == "Clip":
        inner, ends = _integers(optional(node, 0), scale, zero), clip_ends(node)
        if inner is None or ends is None:
            return None
        low, high = int(max(inner[2][0], ends[0])), int(min(inner[2][1], ends[1]))
        return inner[0], np.clip(inner[1], low, high), (low, high)
    floats = _constant(optional(node, 0)) if op(node) == _QUANTISE else None
    parameters = _parameters(node) if floats is not None else None
    if floats is None or parameters is None or not _same(parameters[:2], (scale, zero)):
        return None
    source = node.inputs[0]
    assert source is not None
    axis = parameters[2]
    along = [-1 if each == axis % floats.ndim else 1 for each in range(floats.ndim)] if scale.size > 1 else []
    steps = scale.astype(np.float32).reshape(along)
    levels = np.rint(floats.astype(np.float32) / steps) + zero.astype(np.float32).reshape(
        along if zero.size > 1 else []
    )
    limits = np.iinfo(zero.dtype)
    whole_levels = np.clip(levels, limits.min, limits.max).astype(np.int32)
    return source, whole_levels, (int(limits.min), int(limits.max))


# ---- activations


def _pair(node: ir.Node) -> _Pair | None:
    """The pair that begins with a QuantizeLinear of a computed value; None where it is none."""
    parameters = _parameters(node)
    source = optional(node, 0)
    if parameters is None or source is None or _constant(source) is not None or node.outputs[0].is_graph_output():
        return None
    scale, zero, _ = parameters
    limits = np.iinfo(zero.dtype)
    low, high = int(limits.min), int(limits.max)
    ends: list[ir.Value] = []
    for use in node.outputs[0].uses():
        last = use.node
        if op(last) == "Clip":
            clip = clip_ends(last)
            uses = list(last.outputs[0].uses())
            if clip is None or len(uses) != 1 or last.outputs[0].is_graph_output():
                return None
            low, high, last = int(max(low, clip[0])), int(min(high, clip[1])), uses[0].node
        theirs = _parameters(last) if op(last) == _DEQUANTISE else None
        if theirs is None or not _same(theirs[:2], (scale, zero)):
            return None
        ends.append(last.outputs[0])
    if not ends:
        return None
    centred = _centred(node, source, ends, scale, zero, (low, high))
    if centred is not None:
        return centred
    if scale.size > 1:
        return _Pair(source, node, tuple(ends), _BY_CHANNEL)
    return _Pair(source, node, tuple(ends), Grid(float(scale.reshape(-1)[0]), int(zero.reshape(-1)[0]), low, high))


def _centred(
    node: ir.Node, source: ir.Value, ends: list[ir.Value], scale: Array, zero: Array, whole: tuple[int, int]
) -> _Pair | None:
    """A pair of which a constant is taken off before, and added again behind."""
    before = source.producer()
    centre = _constant(optional(before, 1)) if before is not None and op(before) == "Sub" else None
    if before is None or centre is None or centre.size != 1 or scale.size != 1 or len(source.uses()) != 1:
        return None
    results: list[ir.Value] = []
    span = [(each - float(zero.reshape(-1)[0])) * float(scale.reshape(-1)[0]) for each in whole]
    for end in ends:
        for use in end.uses():
            last = use.node
            if op(last) == "Clip" and (clip := clip_ends(last)) is not None and len(list(last.outputs[0].uses())) == 1:
                span = [max(span[0], clip[0]), min(span[1], clip[1])]
                last = next(iter(last.outputs[0].uses())).node
            added = [_constant(each) for each in last.inputs] if op(last) == "Add" else []
            if not any(each is not None and each.size == 1 and each == centre for each in added):
                return None
            results.append(last.outputs[0])
    original = before.inputs[0]
    if original is None or not results:
        return None
    low, high = (float(each + centre.reshape(-1)[0]) for each in span)
    return _Pair(original, before, tuple(results), (low, high))


def _own(model: ir.Model, pair: _Pair, names: Names) -> ir.Value:
    """A value for the readers of one pair alone."""
    stem = f"{pair.results[0].name}_rounded"
    node = ir.Node("", "Identity", [pair.source], name=names.fresh(stem))
    value, source = node.outputs[0], pair.source
    value.name, value.shape, value.type = names.fresh(stem), source.shape, source.type
    node.metadata_props.update(pair.entry.metadata_props)
    model.graph.insert_before(pair.entry, node)
    return value


def _replace(model: ir.Model, result: ir.Value, base: ir.Value, names: Names) -> None:
    """Let readers of what a pair gives read what it rounds; a graph output keeps its name, behind an Identity."""
    if result.is_graph_output():
        made = result.producer()
        assert made is not None
        node = ir.Node("", "Identity", [base], name=names.fresh(f"{result.name}_Identity"))
        model.graph.insert_after(made, node)
        value, name = node.outputs[0], result.name
        value.shape, value.type = result.shape, result.type
        for index, each in enumerate(model.graph.outputs):
            if each is result:
                model.graph.outputs[index] = value
        result.name = names.fresh(f"{name}_before")
        value.name = name
    result.replace_all_uses_with(base)


# ---- small questions


def _parameters(node: ir.Node) -> tuple[Array, Array, int] | None:
    """Scale, zero point (in its type) and axis of one of the two operators; None where they are no constants."""
    scale = _constant(optional(node, 1))
    given = optional(node, 2)
    zero = _constant(given)
    kind = node.outputs[0].dtype if op(node) == _QUANTISE else (node.inputs[0].dtype if node.inputs[0] else None)
    if scale is None or (given is not None and zero is None) or node.attributes.get_int("block_size", 0) > 0:
        return None
    if zero is None and kind is not None and not kind.is_integer():
        return None
    if zero is None:
        stored = _constant(optional(node, 0))
        default = kind.numpy() if kind is not None else np.dtype(np.uint8)
        zero = np.zeros(scale.shape, stored.dtype if stored is not None and stored.dtype.kind in "iu" else default)
    if zero.dtype.kind not in "iu" or not np.isfinite(scale).all() or not (scale > 0).all():
        return None
    return scale.astype(np.float32), zero, node.attributes.get_int("axis", 1)


def _same(one: tuple[Array, Array], other: tuple[Array, Array]) -> bool:
    return all(np.array_equal(a.reshape(-1), b.reshape(-1)) for a, b in zip(one, other, strict=True))


def _constant(value: ir.Value | None) -> Array | None:
    """The numbers of an initializer that no caller can override."""
    tensor = fixed_tensor(value)
    return None if tensor is None else tensor.numpy()


def _remove_unread(graph: ir.Graph, node: ir.Node) -> None:
    """Take out a node that nothing reads, and what only it has read of QuantizeLinear and Clip."""
    while any(each.uses() or each.is_graph_output() for each in node.outputs) is False:
        before = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
        graph.remove(node, safe=True)
        if before is None or op(before) not in (_QUANTISE, "Clip"):
            return
        node = before


def _remove_behind(graph: ir.Graph, entry: ir.Node) -> None:
    """Take out a pair from its entry on: nothing reads its results any more."""
    doomed, waiting = list[ir.Node](), [entry]
    while waiting:
        node = waiting.pop()
        if node in doomed:
            continue
        doomed.append(node)
        waiting += [use.node for value in node.outputs for use in value.uses()]
    graph.remove(doomed, safe=True)
