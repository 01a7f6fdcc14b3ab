"""What of a graph the inputs exercise: limits that numbers reach, conditions that are both true and false.

Where no number reaches a limit, another limit would have given the same, and so would none: as code that no test runs,
it is not compared. That is no doubt about what was compared, as some limits are there never to be reached; it is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from normexport.errors import NormExportError
from normexport.graphs.names import Names
from normexport.graphs.node_metadata import module_path
from normexport.io.onnx_domain import is_onnx_domain
from normexport.proof.doubts.branches import follows_from_numbers
from normexport.proof.inputs.batches import Batch
from normexport.proof.inputs.following import constant_numbers
from normexport.runtime import OnnxRuntime, release_memory

_AT_ZERO = ("Relu", "LeakyRelu", "PRelu", "Elu", "Celu", "Selu")  # another function below 0 than above
_EPSILON = 1e-4  # smaller limits keep a divisor from 0
_LARGE = 1e6  # larger ones are those of a type
_TOLD = 5


@dataclass(frozen=True)
class _Question:
    """Whether numbers lie on both sides of each limit, by two outputs of one number each; and what to say if not."""

    limits: tuple[float, ...]
    least: str
    largest: str
    words: str


def unexercised(models: Sequence[ir.Model], batches: Sequence[Batch]) -> tuple[str, ...]:
    """A note on the limits and conditions of the main graphs that no input exercises; none where all are."""
    found = list(dict.fromkeys(words for model in models for words in _of_one(model, batches)))
    if not found:
        return ()
    more = f"; and {len(found) - _TOLD} more" if len(found) > _TOLD else ""
    return (f"not compared, as no input reaches it: {'; '.join(found[:_TOLD])}{more}",)


def _of_one(model: ir.Model, batches: Sequence[Batch]) -> Iterator[str]:
    copy = model.clone()
    measures = _Measures(copy.graph)
    questions = list(measures.questions(model.graph))
    if not questions:
        return
    copy.graph.outputs[:] = measures.outputs
    ends: dict[str, list[float]] = {str(value.name): [] for value in measures.outputs}
    release_memory()
    try:
        runtime = OnnxRuntime(copy)
        for batch in batches:
            for name, value in runtime.run(batch.feeds).items():
                ends[name] += value.reshape(-1)[:1].tolist()
    except NormExportError:  # such is told where it is judged
        return
    for question in questions:
        least = np.fmin.reduce(ends[question.least], initial=np.inf)
        largest = np.fmax.reduce(ends[question.largest], initial=-np.inf)
        for limit in question.limits:
            if not least <= limit <= largest or least == largest:
                yield question.words.format(limit=f"{limit:g}", least=f"{least:.3g}", largest=f"{largest:.3g}")


class _Measures:
    """Adds to a graph what measures it.

    Attributes:
        outputs: of one number each.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self._graph, self._fresh = graph, Names(graph).fresh
        self.outputs: list[ir.Value] = []

    def questions(self, graph: ir.Graph) -> Iterator[_Question]:
        """What there is to ask of each node of `graph`, of which this one is a copy."""
        for node, ours in zip(list(graph), list(self._graph), strict=True):
            if not is_onnx_domain(node.domain):
                continue
            place = (module_path(node) or node.name or node.op_type).replace("{", "{{").replace("}", "}}")
            if node.op_type == "Where" and follows_from_numbers(node.inputs[0]):
                words = f"{place}: its condition is the same throughout"
                yield _Question((0.5,), *self._ends(ours.inputs[0]), words)
            elif node.op_type == "NonMaxSuppression" and len(node.inputs) > 3 and node.inputs[3] is not None:
                words = f"{place}: no box goes for another that it overlaps"
                yield _Question((0.5,), *self._ends(self._fewer(ours), often=True), words)
            elif limits := _limits(node):
                words = f"{place}: the limit {{limit}} (its numbers are {{least}} to {{largest}})"
                yield _Question(limits, *self._ends(_limited(ours)), words)

    def _ends(self, value: ir.Value | None, *, often: bool = False) -> tuple[str, str]:
        """The least and the largest number of a value; what is `often` 1 need not be 0 too, 0 stands for its least."""
        single = self._node("Cast", [value], ir.AttrInt64("to", int(ir.DataType.FLOAT)))
        none = self._node("Sub", [single, single]) if often else single
        ends = [
            self._node(kind, [each], ir.AttrInt64("keepdims", 0))
            for kind, each in (("ReduceMin", none), ("ReduceMax", single))
        ]
        for end in ends:
            end.dtype, end.shape = ir.DataType.FLOAT, ir.Shape([])
        self.outputs += ends
        return str(ends[0].name), str(ends[1].name)

    def _fewer(self, node: ir.Node) -> ir.Value:
        """Whether fewer boxes remain of a NonMaxSuppression than if they might overlap."""
        whole = self._node("Constant", [], ir.AttrTensor("value", ir.Tensor(np.array([1], np.float32))))
        apart = self._node(node.op_type, [*node.inputs[:3], whole, *node.inputs[4:]], *node.attributes.values())
        return self._node("Less", [self._node("Size", [each]) for each in (node.outputs[0], apart)])

    def _node(self, kind: str, inputs: Sequence[ir.Value | None], *attributes: ir.Attr) -> ir.Value:
        output = ir.Value(name=self._fresh("measured"))
        self._graph.append(ir.Node("", kind, inputs, attributes, outputs=[output], name=self._fresh("measure")))
        return output


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
