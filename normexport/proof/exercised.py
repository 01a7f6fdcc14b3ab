"""What of a graph the inputs exercise: limits that numbers reach, conditions that are both true and false.

Where no number reaches a limit, another limit would have given the same, and so would none: as code that no test runs,
it is not compared. That is no doubt about what was compared, as some limits are there never to be reached; it is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from normexport.errors import NormExportError
from normexport.graphs.node_metadata import module_path
from normexport.graphs.probe import Probe
from normexport.io.onnx_domain import is_onnx_domain
from normexport.proof.doubts.branches import follows_from_numbers
from normexport.proof.inputs.batches import Batch
from normexport.proof.inputs.following import constant_numbers
from normexport.runtime import OnnxRuntime, Runtime, release_memory
from normexport.runtime.elsewhere import run_each

_AT_ZERO = ("Relu", "LeakyRelu", "PRelu", "Elu", "Celu", "Selu")  # another function below 0 than above
_EPSILON = 1e-4  # smaller limits keep a divisor from 0
_LARGE = 1e6  # larger ones are those of a type
_TOLD = 5


@dataclass(frozen=True)
class _Question:
    """Whether numbers lie on both sides of each limit, and what to say where they don't.

    `least` and `largest` name outputs of one number; None: some numbers always lie below.
    """

    limits: tuple[float, ...]
    least: str | None
    largest: str
    words: str


def unexercised(
    models: Sequence[ir.Model], batches: Sequence[Batch], on: Callable[[ir.Model], Runtime] = OnnxRuntime
) -> tuple[str, ...]:
    """A note on the limits and conditions of the main graphs that no input exercises; none where all are.

    Args:
        on: what runs a model that measures itself.
    """
    found = list(dict.fromkeys(words for model in models for words in _of_one(model, batches, on)))
    if not found:
        return ()
    more = f"; and {len(found) - _TOLD} more" if len(found) > _TOLD else ""
    return (f"not compared, as no input reaches it: {'; '.join(found[:_TOLD])}{more}",)


def _of_one(model: ir.Model, batches: Sequence[Batch], on: Callable[[ir.Model], Runtime]) -> Iterator[str]:
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
        for limit in question.limits:
            if not least <= limit <= largest or least == largest:
                yield question.words.format(limit=f"{limit:g}", least=f"{least:.3g}", largest=f"{largest:.3g}")


def _questions(graph: ir.Graph, probe: Probe) -> Iterator[_Question]:
    """What there is to ask of each node of `graph`, of which `probe` has a copy."""
    for node, ours in zip(list(graph), list(probe.graph), strict=True):
        if not is_onnx_domain(node.domain):
            continue
        place = (module_path(node) or node.name or node.op_type).replace("{", "{{").replace("}", "}}")
        if node.op_type == "Where" and follows_from_numbers(node.inputs[0]):
            yield _Question((0.5,), *_ends(probe, ours.inputs[0]), f"{place}: its condition is the same throughout")
        elif node.op_type == "NonMaxSuppression" and len(node.inputs) > 3 and node.inputs[3] is not None:
            _, largest = _ends(probe, _fewer(probe, ours))
            yield _Question((0.5,), None, largest, f"{place}: no box goes for another that it overlaps")
        elif limits := _limits(node):
            words = f"{place}: the limit {{limit}} (its numbers are {{least}} to {{largest}})"
            yield _Question(limits, *_ends(probe, _limited(ours)), words)


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
    return tuple(limit for limit in found if limit == 0 or _EPSILON <= abs(limit) <= _LARGE)


def _limited(node: ir.Node) -> ir.Value | None:
    """What the limits of a node limit: the first of its inputs that is no constant."""
    return next((value for value in node.inputs if value is not None and constant_numbers(value) is None), None)


def _float(attributes: Mapping[str, ir.Attr], name: str, otherwise: float) -> float:
    return attributes[name].as_float() if name in attributes else otherwise
