"""What must hold of every fold, whatever the graph: one function that checks it all.

Values are compared in float64, by name, between the graph before and after. The tolerance of a fold: the
rewrite replaces a chain of at most a few dozen roundings of 1.1e-16 relative to the largest intermediate by
another. Generated gammas, spreads and weights keep intermediates within 1e4 of a tensor's largest value, which
makes 1e-11; 1e-9 leaves two digits, and any wrong rule is off by far more than that. The few float32 cases are small
and benign: a few dozen roundings of 6e-8.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from normexport import norms
from normexport.folding import FoldResult, fold
from tests.folding.case import Case
from tests.folding.corrected_ops import CORRECTED
from tests.folding.random_graphs import random_feeds

RELATIVE = {"float64": 1e-9, "float32": 5e-6}
FATES = {"folded", "lowered", "live"}

Values = dict[str, np.ndarray]
Evaluator = Callable[[onnx.ModelProto, Mapping[str, np.ndarray]], Values]


@dataclass(frozen=True)
class Folded:
    """A fold with its models before and after as protos."""

    before: onnx.ModelProto
    after: onnx.ModelProto
    result: FoldResult


def by_reference(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> Values:
    """Every value of the main graph by name, as onnx.reference computes it in the model's own types."""
    values: Any = ReferenceEvaluator(model, new_ops=CORRECTED).run(None, dict(feeds), intermediate=True)
    return {name: np.asarray(value) for name, value in values.items() if name and value is not None}


def fold_proto(model: onnx.ModelProto) -> Folded:
    """Fold a proto; the input of the fold must come out of it unchanged."""
    graph = ir.from_proto(model)
    before = ir.to_proto(graph)
    result = fold(graph)
    assert same_proto(ir.to_proto(graph), before), "fold changed its input"
    return Folded(before, ir.to_proto(result.model), result)


def same_proto(a: onnx.ModelProto, b: onnx.ModelProto) -> bool:
    """Equal to the byte in deterministic serialisation."""
    return a.SerializeToString(deterministic=True) == b.SerializeToString(deterministic=True)


def check_fold(
    model: onnx.ModelProto, feeds: Mapping[str, np.ndarray], evaluators: tuple[Evaluator, ...] = (by_reference,)
) -> Folded:
    """Assert every claim about the fold of `model`; returns the fold."""
    folded = fold_proto(model)
    if not folded.result.changed:
        assert same_proto(folded.after, folded.before), "changed is False, yet the model differs"
    else:
        check_meaning(folded, feeds, evaluators)
        check_form(folded)
        check_idempotent(folded)
    check_outcomes(folded)
    return folded


def check_meaning(folded: Folded, feeds: Mapping[str, np.ndarray], evaluators: tuple[Evaluator, ...]) -> None:
    """Every name that survives holds the same tensor; all outputs survive."""
    outputs = {value.name for value in folded.before.graph.output}
    for evaluate in evaluators:
        expected, got = evaluate(folded.before, feeds), evaluate(folded.after, feeds)
        assert outputs <= set(got), f"outputs lost: {outputs - set(got)}"
        for name in expected.keys() & got.keys():
            assert_close(name, got[name], expected[name])


def assert_close(name: str, got: np.ndarray, expected: np.ndarray) -> None:
    """Same type and shape, finite, and within RELATIVE of the tensor's largest magnitude."""
    assert got.dtype == expected.dtype, f"{name}: {got.dtype} instead of {expected.dtype}"
    assert got.shape == expected.shape, f"{name}: {got.shape} instead of {expected.shape}"
    if got.size == 0 or got.dtype.kind != "f":
        assert np.array_equal(got, expected), name
        return
    assert np.isfinite(expected).all(), f"{name}: the test's own values are not finite"
    error = float(np.abs(got - expected).max())
    bound = RELATIVE[got.dtype.name] * float(np.abs(expected).max())
    assert error <= bound, f"{name}: error {error:.3g} exceeds {bound:.3g}"


def check_form(folded: Folded) -> None:
    """A valid model with the same interface and no more work than before."""
    norms.register_schemas()
    onnx.checker.check_model(folded.after, full_check=True)
    before, after = folded.before.graph, folded.after.graph
    assert [v.SerializeToString() for v in after.input] == [v.SerializeToString() for v in before.input]
    assert [v.name for v in after.output] == [v.name for v in before.output]
    assert [v.type for v in after.output] == [v.type for v in before.output]
    assert work(folded.after) <= work(folded.before), "more operators than before"
    used = {node.op_type for node in after.node if node.domain == norms.DOMAIN}
    bodies = {body.name for body in folded.after.functions if body.domain == norms.DOMAIN}
    assert used == bodies, f"operators {used} with bodies {bodies}"
    read = {name for node in after.node for name in node.input} | {value.name for value in after.output}
    unread = {value.name for value in after.initializer} - read
    assert unread <= {value.name for value in before.initializer} - _read(before), f"left over: {unread}"


def _read(graph: onnx.GraphProto) -> set[str]:
    return {name for node in graph.node for name in node.input} | {value.name for value in graph.output}


def work(model: onnx.ModelProto) -> int:
    """Operators that a runtime executes: constants are free, RunningNorm is Sub, Mul, Mul, Add."""
    counts = operators(model)
    return sum(counts.values()) + 3 * counts["RunningNorm"]


def operators(model: onnx.ModelProto) -> Counter[str]:
    """How many nodes there are of each operator, constants left out."""
    return Counter(node.op_type for node in model.graph.node if node.op_type != "Constant")


def check_idempotent(folded: Folded) -> None:
    """A second fold finds nothing to do."""
    again = fold(ir.from_proto(folded.after))
    assert not again.changed, f"a second fold still changes: {[n for n in again.norms if n.fate != 'live']}"
    assert same_proto(ir.to_proto(again.model), ir.to_proto(ir.from_proto(folded.after)))


def _inner_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """The nodes of functions, and of graphs in attributes."""
    waiting = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    yield from (node for function in model.functions for node in function.node)
    while waiting:
        for attribute in waiting.pop().attribute:
            yield from attribute.g.node
            waiting.extend(attribute.g.node)


def check_outcomes(folded: Folded) -> None:
    """Every norm node has exactly one outcome, and outcomes are told in words about real nodes."""
    outcomes = folded.result.norms
    named = Counter(outcome.node for outcome in outcomes)
    called = Counter(node_name(node) for node in (*folded.before.graph.node, *_inner_nodes(folded.before)))
    assert all(count <= max(1, called[name]) for name, count in named.items()), f"told twice: {named}"
    kinds = {node_name(node): node.op_type for node in folded.before.graph.node}
    inner = {node_name(node): node.op_type for node in _inner_nodes(folded.before)}
    assert set(named) <= set(kinds) | set(inner), f"no such node: {set(named) - set(kinds) - set(inner)}"
    live = set(norms.live_ops())
    must = {name for name, op in kinds.items() if op in live | {"RunningNorm", "BatchNormalization"}}
    must -= _of_constants(folded.before.graph)
    assert must <= set(named), f"norms without an outcome: {must - set(named)}"
    after = {node_name(node) for node in folded.after.graph.node}
    for outcome in outcomes:
        assert outcome.fate in FATES
        assert outcome.reason.strip(), f"{outcome.node}: no reason given"
        if outcome.fate == "folded":
            assert outcome.rule, f"{outcome.node}: no rule named"
            assert (kinds | inner)[outcome.node] not in live, f"{outcome.node}: live statistics were folded"
        if kinds.get(outcome.node) in live:
            assert outcome.fate == "live"
            assert outcome.node in after, f"{outcome.node} vanished"


def _of_constants(graph: onnx.GraphProto) -> set[str]:
    """Names of nodes that depend on no input: a norm among them standardises a weight."""
    varying, found = {value.name for value in graph.input}, set()
    for node in graph.node:
        if varying & set(node.input):
            varying |= set(node.output)
        else:
            found.add(node_name(node))
    return found


def node_name(node: onnx.NodeProto) -> str:
    """What outcomes call a node: its name, or its first output's where it has none."""
    return node.name or node.output[0]


def check_case(case: Case, evaluators: tuple[Evaluator, ...] = (by_reference,)) -> None:
    """Assert every claim about the fold of a case, and its verdict."""
    model = case.model()
    folded = check_fold(model, random_feeds(model), evaluators)
    outcomes = [outcome for outcome in folded.result.norms if outcome.kind != "weight"]
    if case.verdict == "folds":
        told = [(outcome.node, outcome.fate, outcome.reason) for outcome in outcomes]
        assert operators(folded.after) == case.after, told
        assert outcomes
        assert all(outcome.fate == "folded" for outcome in outcomes), told
    if case.verdict == "refuses":
        taken = [(outcome.node, outcome.rule) for outcome in outcomes if outcome.fate == "folded"]
        assert not taken, f"must not fold: {taken}"
        assert all(case.says in outcome.reason for outcome in outcomes), [o.reason for o in outcomes]
    if case.untouched:
        assert not folded.result.changed
