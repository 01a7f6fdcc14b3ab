"""What there is to ask of each node of a graph, of numbers that are measured beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from normexport.graphs.node_metadata import module_path
from normexport.graphs.shapes import Shapes
from normexport.io.onnx_domain import is_onnx_domain
from normexport.proof.exercised.measures import Ends, Measure
from normexport.proof.exercised.sorts import (
    ADDEND,
    BEND,
    BENDS,
    CHOICE,
    CONDITION,
    FACTOR,
    LIMITS,
    OVERLAP,
    STEP,
    Sort,
    chosen,
    is_condition,
    is_overlap,
    is_step,
    limited,
    limits,
    limits_of_channels,
    parts_of_least,
    sort_of_limit,
)

#: The least and the largest numbers: of all of a value, or arrays, of each of its channels.
Span: TypeAlias = tuple[np.ndarray[tuple[int, ...], np.dtype[np.float64]], ...]

_NOTHING = 1e-5  # beside another number
_MOST_LOOKED_AT = 200  # nodes that make an addend
_TINY = float(np.finfo(np.float32).tiny)
_NEARLY = 10  # times as much may be nothing in another file
#: What is nothing for all inputs, and linear in them, is nothing for others too.
_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization")
_MEANS = ("ReduceMean", "ReduceSum", "AveragePool", "GlobalAveragePool", "Neg", "Add", "Sub", "Mul", "Div")
_SHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity", "Expand", "Slice", "Concat", "Tile")
_LINEAR = frozenset((*_LAYERS, *_MEANS, *_SHAPES, "Split", "Pad", "Cast"))


@dataclass(frozen=True)
class Unexercised:
    """What a node asks of numbers, that is answered in one way by all inputs; `words` say where and what.

    `nearly`: only nearly so; it may be in another file, that rounds otherwise.
    """

    sort: Sort
    words: str
    nearly: bool = False


@dataclass(frozen=True)
class Question:
    """What to ask of the ends of values once they are known."""

    ends: tuple[Ends, ...]
    answer: Callable[[Sequence[Span]], Iterable[Unexercised]]

    def renamed(self, names: dict[str, str]) -> Question:
        """With the values by the names that they have outside of a body."""
        return replace(self, ends=tuple(Ends(names[each.least], names[each.largest]) for each in self.ends))


def questions_of(
    graph: ir.Graph, numbers: Set[ir.Value], shapes: Shapes | None, measure: Measure, places: range | None = None
) -> Iterator[Question]:
    """What there is to ask of each node of `graph`, of which `measure` has a copy.

    Args:
        numbers: values that follow from the numbers of an input.
        shapes: of the main graph; None in a body.
        places: of the nodes that are looked at; None: all.
    """
    for place, (node, ours) in enumerate(zip(list(graph), list(measure.graph), strict=True)):
        if not is_onnx_domain(node.domain) or (places is not None and place not in places):
            continue
        yield from _of_node(node, ours, numbers, shapes, measure)
        bodies = {name: each.value for name, each in node.attributes.items() if isinstance(each.value, ir.Graph)}
        inside = {name: Measure(ours.attributes[name].as_graph(), measure) for name in bodies}
        asked = {
            name: list(questions_of(bodies[name], numbers, None, inside[name])) for name in bodies
        }  # of all of them, before any gets more outputs
        for name, found in asked.items():
            names = measure.lifted(ours, inside[name])
            yield from (each.renamed(names) for each in found)


def _of_node(
    node: ir.Node, ours: ir.Node, numbers: Set[ir.Value], shapes: Shapes | None, measure: Measure
) -> Iterator[Question]:
    place = (module_path(node) or node.name or node.op_type).replace("{", "{{").replace("}", "}}")
    if is_condition(node, numbers) and (node.op_type != "If" or shapes is None):  # else `untaken_branches` tells it
        words = f"{place}: its condition is the same throughout"
        yield Question((measure.ends(ours.inputs[0]),), partial(_crossed, [(0.5, Sort(CONDITION))], words))
    elif is_overlap(node):
        words = f"{place}: no box goes for another that it overlaps"
        yield Question((measure.ends(_fewer(measure, ours)),), partial(_ever, Sort(OVERLAP), words))
    if is_step(node, numbers):
        yield Question((measure.ends(_steps(measure, ours)),), partial(_differs, f"{place}: it rounds to one number"))
    if node.op_type in BENDS and node.inputs[0] in numbers:
        words = f"{place}: it does not bend (its numbers are {{least}} to {{largest}})"
        yield Question((measure.ends(ours.inputs[0]),), partial(_bent, BENDS[node.op_type], words))
    if found := limits(node):
        words = f"{place}: the limit {{limit}} (its numbers are {{least}} to {{largest}})"
        asked = [(limit, sort_of_limit(node, limit)) for limit in found]
        yield Question((measure.ends(limited(ours)),), partial(_crossed, asked, words))
    yield from _of_several(node, ours, numbers, shapes, measure, place)


def _of_several(
    node: ir.Node, ours: ir.Node, numbers: Set[ir.Value], shapes: Shapes | None, measure: Measure, place: str
) -> Iterator[Question]:
    """What is asked of the values that a node takes together."""
    places = {id(value): index for index, value in enumerate(node.inputs)}
    for value in chosen(node, numbers):
        apart = measure.node("Sub", [ours.outputs[0], ours.inputs[places[id(value)]]])
        words = f"{place}: one of its values is never the one"
        yield Question((measure.ends(apart),), partial(_met, words))
    for index, _ in enumerate(parts_of_least(node, numbers)):
        joined = ours.inputs[0].producer() if ours.inputs[0] is not None else None
        assert joined is not None
        alone = measure.node(node.op_type, [joined.inputs[index], *ours.inputs[1:]], list(ours.attributes.values()))
        words = f"{place}: one of its values is never the one"
        yield Question((measure.ends(measure.node("Sub", [ours.outputs[0], alone])),), partial(_met, words))
    each, limit = limits_of_channels(node), limited(node)
    if each is not None and limit is not None:
        index = places[id(limit)]
        apart = measure.node("Sub", [ours.inputs[index], ours.inputs[1 - index]])
        ends = measure.ends(apart, _axes(None if shapes is None else shapes.rank(limit), each))
        yield Question((ends,), partial(_all_crossed, each, f"{place}: limits of its channels, as {{limit}}"))
    if node.op_type in ("Add", "Sub", "Mul", "Div"):
        yield from _of_pair(node, ours, numbers, measure, place)


def _of_pair(node: ir.Node, ours: ir.Node, numbers: Set[ir.Value], measure: Measure, place: str) -> Iterator[Question]:
    """Of a sum whether what is added is ever more than nothing, of a product whether a factor is ever another."""
    if node.op_type in ("Mul", "Div"):
        for value in ours.inputs if all(value in numbers for value in node.inputs) else ():
            words = f"{place}: one of its factors is {{least}} throughout"
            yield Question((measure.ends(value),), partial(_varies, words))
        return
    for index in (0, 1):
        if node.inputs[index] in numbers and _is_bent(node.inputs[index]):
            both = measure.ends(ours.inputs[index]), measure.ends(ours.inputs[1 - index])
            words = f"{place}: one of its addends is nothing beside the other (at most {{largest}})"
            yield Question(both, partial(_is_something, words))


def _is_bent(value: ir.Value | None) -> bool:
    """Whether a value is made from others in a way that may be nothing for these, and much for larger ones."""
    seen: set[ir.Node] = set()
    pending = [value]
    while pending and len(seen) < _MOST_LOOKED_AT:
        current = pending.pop()
        node = None if current is None else current.producer()
        if node is None or node in seen:
            continue
        seen.add(node)
        varying = [each for each in node.inputs if each is not None and ir.convenience.get_const_tensor(each) is None]
        if node.op_type not in _LINEAR or not is_onnx_domain(node.domain):
            return bool(varying)
        if node.op_type in ("Mul", "Div", "MatMul") and len(varying) > 1:
            return True
        pending += varying
    return bool(pending)


def _axes(rank: int | None, limits: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> list[int] | None:
    """The axes over which each limit is one; None: not known."""
    if rank is None or rank < limits.ndim:
        return None
    sizes = (1,) * (rank - limits.ndim) + limits.shape
    return [axis for axis, size in enumerate(sizes) if size == 1]


def _steps(measure: Measure, node: ir.Node) -> ir.Value:
    """What a step makes; of a remainder what it takes off."""
    return measure.node("Sub", [node.inputs[0], node.outputs[0]]) if node.op_type == "Mod" else node.outputs[0]


def _fewer(measure: Measure, node: ir.Node) -> ir.Value:
    """Whether fewer boxes remain of a NonMaxSuppression than if they might overlap."""
    inputs, attributes = list(node.inputs), list(node.attributes.values())
    inputs[3] = measure.constant(np.array([1], np.float32))
    apart = measure.node(node.op_type, inputs, attributes, ir.DataType.INT64)
    sizes = [measure.node("Size", [each], dtype=ir.DataType.INT64) for each in (node.outputs[0], apart)]
    return measure.node("Less", sizes, dtype=ir.DataType.BOOL)


def _worded(words: str, least: float, largest: float, limit: float = 0.0) -> str:
    return words.format(limit=f"{limit:g}", least=f"{least:.3g}", largest=f"{largest:.3g}")


def _crossed(asked: Sequence[tuple[float, Sort]], words: str, spans: Sequence[Span]) -> Iterator[Unexercised]:
    least, largest = map(float, spans[0])
    for limit, sort in asked:
        if not least < limit < largest:
            yield Unexercised(sort, _worded(words, least, largest, limit))


def _ever(sort: Sort, words: str, spans: Sequence[Span]) -> Iterator[Unexercised]:
    if not float(spans[0][1]) > 0:
        yield Unexercised(sort, words)


def _differs(words: str, spans: Sequence[Span]) -> Iterator[Unexercised]:
    least, largest = map(float, spans[0])
    if not least < largest:
        yield Unexercised(Sort(STEP), words)


def _bent(bend: tuple[float, float, float], words: str, spans: Sequence[Span]) -> Iterator[Unexercised]:
    least, largest = map(float, spans[0])
    straight, low, high = bend
    if not (largest > low and least < high and max(abs(least), abs(largest)) > straight):
        yield Unexercised(Sort(BEND), _worded(words, least, largest))


def _met(words: str, spans: Sequence[Span]) -> Iterator[Unexercised]:
    least, largest = map(float, spans[0])
    if not least <= 0 <= largest:
        yield Unexercised(Sort(CHOICE), words)


def _all_crossed(
    limits: np.ndarray[tuple[int, ...], np.dtype[np.float64]], words: str, spans: Sequence[Span]
) -> Iterator[Unexercised]:
    least, largest = spans[0]
    missed = np.broadcast_to(~((least < 0) & (largest > 0)), np.broadcast_shapes(np.shape(least), limits.shape))
    found = np.broadcast_to(limits, missed.shape)[missed]
    found = found[~np.isnan(found)]
    if found.size:
        yield Unexercised(Sort(LIMITS), _worded(words, 0, 0, float(found[0])))


def _varies(words: str, spans: Sequence[Span]) -> Iterator[Unexercised]:
    least, largest = map(float, spans[0])
    share = (largest - least) / max(abs(least), abs(largest), _TINY)
    if share <= _NEARLY * _NOTHING:
        yield Unexercised(Sort(FACTOR), _worded(words, least, largest), nearly=share > _NOTHING)


def _is_something(words: str, spans: Sequence[Span]) -> Iterator[Unexercised]:
    added, other = (max(abs(float(least)), abs(float(largest))) for least, largest in spans)
    if added <= _NEARLY * _NOTHING * other:
        yield Unexercised(Sort(ADDEND), _worded(words, 0, added), nearly=added > _NOTHING * other)
