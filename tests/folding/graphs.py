"""What the tests of single rules ask: fold a small graph, check everything that must hold, and look at one norm."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from normexport import norms
from normexport.folding import NormOutcome
from tests.folding.build import GraphBuilder
from tests.folding.claims import Folded, check_fold
from tests.folding.random_graphs import random_feeds

MEAN = np.array([0.3, -0.7, 1.1, 0.2, -0.4, 0.9])
INV_SCALE = np.array([0.5, 2.0, 1.25, 0.8, 1.5, 0.6])
GAMMA = np.array([1.5, -0.5, 0.75, 2.0, -1.25, 0.4])
BETA = np.array([-0.2, 0.6, 0.1, -1.0, 0.5, 0.3])
A = GAMMA * INV_SCALE
B = BETA - MEAN * A


def running(b: GraphBuilder, x: str, channels: int, positive: bool = False) -> str:
    """A RunningNorm whose map is A*x + B of the first `channels` channels (|A| where `positive`, B with it)."""
    gamma = np.abs(GAMMA) if positive else GAMMA
    constants = [b.const(value[:channels]) for value in (MEAN, INV_SCALE, gamma, BETA)]
    return b.node("RunningNorm", [x, *constants], domain=norms.DOMAIN, kind="l1")


def scaling(b: GraphBuilder, x: str, channels: int, rank: int = 4) -> str:
    """A pure scale: one Mul by A."""
    return b.node("Mul", [x, b.const(A[:channels].reshape(-1, *[1] * (rank - 2)))])


def array(*shape: int) -> np.ndarray:
    """Random normal numbers, the same for the same shape."""
    return np.random.default_rng(sum(shape)).standard_normal(shape)


def folded(b: GraphBuilder, *outputs: str, infer: bool = True) -> Folded:
    """Fold the graph with these outputs; values before and after agree, the result is valid and folds no further."""
    norms.register_schemas()  # the builder's shape inference then knows the project's operators
    b.output(*outputs)
    model = b.model(infer=infer)
    return check_fold(model, random_feeds(model))


def only(result: Folded) -> NormOutcome:
    """The one norm of the graph."""
    (outcome,) = result.result.norms
    return outcome


def refusal(b: GraphBuilder, *outputs: str) -> str:
    """Why the one norm of the graph was not folded."""
    outcome = only(folded(b, *outputs))
    assert outcome.fate != "folded", outcome
    return outcome.reason


def operand(result: Folded, op: str, index: int) -> np.ndarray:
    """The constant at input `index` of the only node of an operator, after folding."""
    (node,) = [node for node in result.after.graph.node if node.op_type == op]
    return initializers(result.after)[node.input[index]]


def initializers(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """All initializers by name."""
    return {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}


def operators(result: Folded) -> list[str]:
    """Operators after folding, in order, Constants left out."""
    return [node.op_type for node in result.after.graph.node if node.op_type != "Constant"]


def int64(b: GraphBuilder, *values: int) -> str:
    """A constant list of whole numbers."""
    return b.const(np.array(values, np.int64), keep_type=True)


def value_names(model: onnx.ModelProto) -> set[str]:
    """Names of everything nodes make."""
    return {name for node in model.graph.node for name in node.output}
