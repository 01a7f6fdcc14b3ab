"""What of a graph the inputs exercise: limits that numbers reach, conditions that are both true and false.

Where no number reaches a limit, another limit would have given the same, and so would none: as code that no test runs,
it is not compared. The same goes for steps that round all numbers to one, for bends beyond which all numbers lie, for
what is added and is nothing, for a factor that is one number throughout; in the bodies of Loop, Scan and If too. Some
limits are there never to be reached: where both files have one, that is told, and no doubt about what was compared.
What only one of two files has is a difference between them which no input shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from normexport.errors import NormExportError
from normexport.graphs.inline import in_one_graph
from normexport.graphs.shapes import Shapes
from normexport.proof.doubts.branches import numbers_in
from normexport.proof.exercised.measures import Measure
from normexport.proof.exercised.questions import Question, Span, Unexercised, questions_of
from normexport.proof.exercised.sorts import ADDEND, FACTOR, LIMIT, Sort, sorts_of
from normexport.proof.inputs.batches import Batch
from normexport.runtime import Array, OnnxRuntime, Runtime, release_memory
from normexport.runtime.elsewhere import run_each

__all__ = ["Sort", "Unexercised", "doubts_of_one_side", "note_on", "unexercised"]

_TOLD = 5
_TRIES = 32  # to measure what can be


def unexercised(
    model: ir.Model, batches: Sequence[Batch], on: Callable[[ir.Model], Runtime] = OnnxRuntime
) -> tuple[Unexercised, ...]:
    """What of the graph, and of the functions that it calls, no input exercises.

    Args:
        on: what runs a model that measures itself.
    """
    return tuple(_of_one(in_one_graph(model), batches, on))


def note_on(found: Sequence[Unexercised]) -> tuple[str, ...]:
    """One note on all of them; none where there are none."""
    words = list(dict.fromkeys(each.words for each in found if not each.nearly))
    return (f"not compared, as no input reaches it: {_listed(words)}",) if words else ()


def doubts_of_one_side(
    first: ir.Model,
    second: ir.Model,
    of_first: Sequence[Unexercised],
    of_second: Sequence[Unexercised],
    *,
    quantised: bool = False,
) -> tuple[str, ...]:
    """What only one of two graphs, or one of them more often, asks of numbers, and no input exercises.

    That the second lacks a condition or a rectifier is none: optimisers take out what can't make a difference.

    Args:
        quantised: the second is; see `normexport.proof.not_compared`.
    """
    if quantised:
        of_second = [each for each in of_second if each.sort.name not in (ADDEND, FACTOR)]
    ours, theirs = (
        _counted(model, found) for model, found in ((first, of_first), (second, [x for x in of_second if not x.nearly]))
    )
    counts = {
        sort: (_count(sort, ours), _count(sort, theirs)) for sort in {each.sort for each in (*of_first, *of_second)}
    }
    added = [each.words for each in of_second if not each.nearly and counts[each.sort][1] > counts[each.sort][0]]
    gone = [each.words for each in of_first if each.sort.name == LIMIT and each.sort.limit and not counts[each.sort][1]]
    sides = (("second", added), ("first", [] if quantised else gone))
    return tuple(
        f"only the {side} has what no input reaches: {_listed(list(dict.fromkeys(words)))}"
        for side, words in sides
        if words
    )


def _counted(model: ir.Model, found: Sequence[Unexercised]) -> Counter[Sort]:
    """How often a graph asks what; of addends and factors those that no input exercises."""
    graph = in_one_graph(model).graph
    numbers = numbers_in(graph)
    asked = Counter(sort for node in graph.all_nodes() for sort in sorts_of(node, numbers))
    return asked + Counter(each.sort for each in found if each.sort.name in (ADDEND, FACTOR))


def _count(sort: Sort, sorts: Counter[Sort]) -> int:
    return sum(count for each, count in sorts.items() if sort.is_like(each))


def _listed(words: Sequence[str]) -> str:
    more = f"; and {len(words) - _TOLD} more" if len(words) > _TOLD else ""
    return f"{'; '.join(words[:_TOLD])}{more}"


def _of_one(model: ir.Model, batches: Sequence[Batch], on: Callable[[ir.Model], Runtime]) -> list[Unexercised]:
    """Of all nodes; where a graph that measures itself does not run, of those of its halves that do."""
    found: list[Unexercised] = []
    pending = [range(model.graph.num_nodes())]
    for tries in range(_TRIES):
        if not pending:
            break
        places = pending.pop()
        known = _of_places(model, batches, on, places)
        if known is not None:
            found += known
        elif not tries and _run(on, model, batches[:1]) is None:  # such is told where it is judged
            break
        elif len(places) > 1:
            middle = len(places) // 2
            pending += [places[middle:], places[:middle]]
    return found


def _of_places(
    model: ir.Model, batches: Sequence[Batch], on: Callable[[ir.Model], Runtime], places: range
) -> list[Unexercised] | None:
    """Of the nodes at some places of the main graph; None where it does not run with what measures them."""
    copy = model.clone()
    measure = Measure(copy.graph)
    questions = list(questions_of(model.graph, numbers_in(model.graph), Shapes(model), measure, places=places))
    if not questions:
        return []
    copy.graph.outputs[:] = measure.outputs
    seen = _run(on, copy, batches)
    return None if seen is None else [each for question in questions for each in _answers(question, seen)]


def _run(
    on: Callable[[ir.Model], Runtime], model: ir.Model, batches: Sequence[Batch]
) -> Mapping[str, Sequence[Array]] | None:
    """What a model gives, of each batch; None where it does not run."""
    seen: dict[str, list[Array]] = {str(value.name): [] for value in model.graph.outputs}
    release_memory()
    try:
        for outputs in run_each(on(model), [batch.feeds for batch in batches]):
            for name, value in outputs.items():
                seen[name].append(value)
    except NormExportError:
        return None
    return seen


def _answers(question: Question, seen: Mapping[str, Sequence[Array]]) -> list[Unexercised]:
    spans: list[Span] = [
        (
            np.fmin.reduce(np.asarray(seen[ends.least], np.float64)),
            np.fmax.reduce(np.asarray(seen[ends.largest], np.float64)),
        )
        for ends in question.ends
    ]
    if any(np.isinf(least).all() and np.isinf(largest).all() and (least > largest).all() for least, largest in spans):
        return []  # a body that no input runs, which `untaken_branches` tells where numbers decide it
    return list(question.answer(spans))
