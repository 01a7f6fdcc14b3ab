"""What of a graph the inputs exercise: limits that numbers reach, conditions that are both true and false.

Where no number reaches a limit, another limit would have given the same, and so would none: as code that no test runs,
it is not compared. Some limits are there never to be reached: where both files have one, that is told, and no doubt
about what was compared. What only one of two files has is a difference between them which no input shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from normexport.errors import NormExportError
from normexport.graphs.inline import in_one_graph
from normexport.graphs.node_metadata import module_path
from normexport.graphs.nodes import op
from normexport.graphs.probe import Probe
from normexport.io.onnx_domain import is_onnx_domain
from normexport.proof.doubts.branches import follows_from_numbers
from normexport.proof.inputs.batches import Batch
from normexport.proof.inputs.following import constant_numbers
from normexport.proof.known_ends import known_ends
from normexport.runtime import OnnxRuntime, Runtime, release_memory
from normexport.runtime.elsewhere import run_each

#: Another function below 0 than above.
_AT_ZERO = ("Relu", "LeakyRelu", "PRelu", "Elu", "Celu", "Selu", "Abs", "Sign")
_COMPARISONS = ("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal", "IsNaN", "IsInf")
_GIVE_BOOLS = (*_COMPARISONS, "And", "Or", "Xor", "Not")
_EPSILON = 1e-4  # smaller limits keep a divisor from 0
_LARGE = 1e6  # larger ones are those of a type
_SAME = 1e-2  # of two limits
_STEPS = 8  # back from a limit
_TOLD = 5


#: Sorts of what a node asks of numbers; a limit is of its number's.
_CONDITION, _OVERLAP, _LIMIT = "condition", "overlap", "limit"


@dataclass(frozen=True)
class Sort:
    """What nodes of two graphs have in common that ask the same of numbers.

    `before` is the limit of what was there before single numbers were added or multiplied, as many ways to write one
    function differ in these: HardSwish is x * Clip(x + 3, 0, 6) / 6.
    """

    name: str
    limit: float = 0.0
    before: float = 0.0

    def is_like(self, other: Sort) -> bool:
        """Whether they are one, as far as a limit keeps its number when it is rounded to a half."""
        ours, theirs = (self.limit, self.before), (other.limit, other.before)
        return self.name == other.name and any(abs(a - b) <= _SAME * abs(a) for a in ours for b in theirs)


@dataclass(frozen=True)
class Unexercised:
    """What a node asks of numbers, that is answered in one way by all inputs; `words` say where and what."""

    sort: Sort
    words: str


@dataclass(frozen=True)
class _Question:
    """Whether numbers lie on both sides of each limit, by the sort of it, and what to say where they don't.

    `least` and `largest` name outputs of one number; None: some numbers always lie below.
    """

    limits: tuple[tuple[float, Sort], ...]
    least: str | None
    largest: str
    words: str


def unexercised(
    model: ir.Model, batches: Sequence[Batch], on: Callable[[ir.Model], Runtime] = OnnxRuntime
) -> tuple[Unexercised, ...]:
    """The limits and conditions of the main graph, and of the functions that it calls, that no input exercises.

    Args:
        on: what runs a model that measures itself.
    """
    return tuple({each.words: each for each in _of_one(in_one_graph(model), batches, on)}.values())


def note_on(found: Sequence[Unexercised]) -> tuple[str, ...]:
    """One note on all of them; none where there are none."""
    words = list(dict.fromkeys(each.words for each in found))
    return (f"not compared, as no input reaches it: {_listed(words)}",) if words else ()


def doubts_of_one_side(
    first: ir.Model, second: ir.Model, of_first: Sequence[Unexercised], of_second: Sequence[Unexercised]
) -> tuple[str, ...]:
    """What only one of two graphs, or one of them more often, asks of numbers, and no input exercises.

    That the second lacks a condition or a rectifier is none: optimisers take out what can't make a difference.
    """
    ours, theirs = (Counter(_sorts(in_one_graph(model).graph)) for model in (first, second))
    counts = {
        sort: (_count(sort, ours), _count(sort, theirs)) for sort in {each.sort for each in (*of_first, *of_second)}
    }
    added = [each.words for each in of_second if counts[each.sort][1] > counts[each.sort][0]]
    lost = [each.words for each in of_first if each.sort.limit and not counts[each.sort][1]]
    sides = (("second", added), ("first", lost))
    return tuple(f"only the {side} has what no input reaches: {_listed(words)}" for side, words in sides if words)


def _count(sort: Sort, sorts: Counter[Sort]) -> int:
    return sum(count for each, count in sorts.items() if sort.is_like(each))


def _listed(words: Sequence[str]) -> str:
    more = f"; and {len(words) - _TOLD} more" if len(words) > _TOLD else ""
    return f"{'; '.join(words[:_TOLD])}{more}"


def _sorts(graph: ir.Graph) -> Iterator[Sort]:
    """What the nodes of a graph ask of numbers, each once a node."""
    for node in graph:
        if not is_onnx_domain(node.domain):
            continue
        if _is_condition(node):
            yield Sort(_CONDITION)
        elif _is_overlap(node):
            yield Sort(_OVERLAP)
        yield from (Sort(_LIMIT, limit, _before(_limited(node), limit)) for limit in _limits(node))


def _of_one(model: ir.Model, batches: Sequence[Batch], on: Callable[[ir.Model], Runtime]) -> Iterator[Unexercised]:
    copy = model.clone()
    probe = Probe(copy.graph)
    questions = list(_questions(model.graph, probe))
    if not questions:
        return
    copy.graph.outputs[:] = probe.outputs
    ends: dict[str, list[float]] = {str(value.name): [] for value in probe.outputs}
    release_memory()
    try:
        for outputs in run_each(on(copy), [batch.feeds for batch in batches]):
            for name, value in outputs.items():
                ends[name] += value.reshape(-1)[:1].tolist()
    except NormExportError:  # such is told where it is judged
        return
    for question in questions:
        least = -np.inf if question.least is None else np.fmin.reduce(ends[question.least], initial=np.inf)
        largest = np.fmax.reduce(ends[question.largest], initial=-np.inf)
        for limit, sort in question.limits:
            if not least < limit < largest:
                words = question.words.format(limit=f"{limit:g}", least=f"{least:.3g}", largest=f"{largest:.3g}")
                yield Unexercised(sort, words)


def _questions(graph: ir.Graph, probe: Probe) -> Iterator[_Question]:
    """What there is to ask of each node of `graph`, of which `probe` has a copy."""
    for node, ours in zip(list(graph), list(probe.graph), strict=True):
        if not is_onnx_domain(node.domain):
            continue
        place = (module_path(node) or node.name or node.op_type).replace("{", "{{").replace("}", "}}")
        if _is_condition(node):
            words = f"{place}: its condition is the same throughout"
            yield _Question(((0.5, Sort(_CONDITION)),), *_ends(probe, ours.inputs[0]), words)
        elif _is_overlap(node):
            _, largest = _ends(probe, _fewer(probe, ours))
            words = f"{place}: no box goes for another that it overlaps"
            yield _Question(((0.5, Sort(_OVERLAP)),), None, largest, words)
        elif limits := _limits(node):
            words = f"{place}: the limit {{limit}} (its numbers are {{least}} to {{largest}})"
            asked = tuple((limit, Sort(_LIMIT, limit, _before(_limited(node), limit))) for limit in limits)
            yield _Question(asked, *_ends(probe, _limited(ours)), words)


def _is_condition(node: ir.Node) -> bool:
    """Whether a node chooses by numbers: a Where, or a bool that is made a number, as for a product with it."""
    chooses = node.op_type == "Where" or (node.op_type == "Cast" and _is_bool(node.inputs[0]))
    return chooses and follows_from_numbers(node.inputs[0])


def _is_bool(value: ir.Value | None) -> bool:
    producer = None if value is None else value.producer()
    made = producer is not None and is_onnx_domain(producer.domain) and producer.op_type in _GIVE_BOOLS
    return made or (value is not None and value.dtype == ir.DataType.BOOL)


def _is_overlap(node: ir.Node) -> bool:
    return node.op_type == "NonMaxSuppression" and len(node.inputs) > 3 and node.inputs[3] is not None


def _ends(probe: Probe, value: ir.Value | None) -> tuple[str, str]:
    """The names of outputs for the least and the largest number of a value."""
    single = probe.node("Cast", [value], [ir.AttrInt64("to", int(ir.DataType.FLOAT))])
    ends = [probe.reduced(kind, single, None) for kind in ("ReduceMin", "ReduceMax")]
    for end in ends:
        end.shape = ir.Shape([])
    probe.outputs += ends
    return str(ends[0].name), str(ends[1].name)


def _fewer(probe: Probe, node: ir.Node) -> ir.Value:
    """Whether fewer boxes remain of a NonMaxSuppression than if they might overlap."""
    inputs, attributes = list(node.inputs), list(node.attributes.values())
    inputs[3] = probe.constant(np.array([1], np.float32))
    apart = probe.node(node.op_type, inputs, attributes, ir.DataType.INT64)
    sizes = [probe.node("Size", [each], dtype=ir.DataType.INT64) for each in (node.outputs[0], apart)]
    return probe.node("Less", sizes, dtype=ir.DataType.BOOL)


def _limits(node: ir.Node) -> tuple[float, ...]:
    """Where a function of one value changes its slope, but for limits that are there never to be reached."""
    found = [0.0] if node.op_type in _AT_ZERO else []
    if node.op_type == "HardSwish":
        found = [-3.0, 3.0]
    if node.op_type == "HardSigmoid":
        slope, at_zero = (_float(node.attributes, *each) for each in (("alpha", 0.2), ("beta", 0.5)))
        found = [-at_zero / slope, (1 - at_zero) / slope] if slope else []
    if node.op_type == "ThresholdedRelu":
        found = [_float(node.attributes, "alpha", 1.0)]
    if node.op_type in ("Clip", "Min", "Max"):
        limited = _limited(node)
        numbers = [constant_numbers(value) for value in node.inputs if value is not None and value is not limited]
        found = [float(each.reshape(-1)[0]) for each in numbers if each is not None and each.size == 1]
        found += [node.attributes[end].as_float() for end in ("min", "max") if end in node.attributes]
    low, high = known_ends(_limited(node))
    return tuple(each for each in found if low < each < high and (each == 0 or _EPSILON <= abs(each) <= _LARGE))


def _before(value: ir.Value | None, limit: float) -> float:
    """What a value's limit is of the value from which it was made by adding or multiplying single numbers."""
    for _ in range(_STEPS):
        node = None if value is None else value.producer()
        kind = "" if node is None else op(node)
        if node is None or kind not in ("Add", "Sub", "Mul", "Div"):
            break
        numbers = [_single(each) for each in node.inputs]
        position = 0 if numbers[1] is not None else 1
        number, value = numbers[1 - position], node.inputs[position]
        if number is None or (kind in ("Mul", "Div") and not number) or (kind == "Div" and position):
            break
        if kind == "Add":
            limit -= number
        elif kind == "Sub":
            limit = number - limit if position else limit + number
        else:
            limit = limit / number if kind == "Mul" else limit * number
    return limit


def _single(value: ir.Value | None) -> float | None:
    numbers = constant_numbers(value)
    return float(numbers.reshape(-1)[0]) if numbers is not None and numbers.size == 1 else None


def _limited(node: ir.Node) -> ir.Value | None:
    """What the limits of a node limit: the first of its inputs that is no constant."""
    return next((value for value in node.inputs if value is not None and constant_numbers(value) is None), None)


def _float(attributes: Mapping[str, ir.Attr], name: str, otherwise: float) -> float:
    return attributes[name].as_float() if name in attributes else otherwise
