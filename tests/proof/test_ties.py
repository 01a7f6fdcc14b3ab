"""Numbers at the half of a quantiser's step go either way: told from errors, and never taken for proof."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from normexport.onnx_export import Layer
from normexport.proof import Batch, check, compare
from normexport.proof.ties import has_quantisers
from normexport.proof.verdict import ParityReport
from normexport.verdicts import Verdict
from tests.proof.test_check import Written

BATCHES = (Batch("two", 2, {"x": np.zeros((2, 2))}),)
STEP = 0.25
GRID = STEP * np.arange(16.0).reshape(2, 8)
LAYERS = (Layer("grid", 0, "Quantiser", "t"),)


def moved(*places: tuple[int, int, float]) -> np.ndarray:
    """The grid in float32 with some numbers moved by so many steps."""
    array = GRID.astype(np.float32)
    for row, column, steps in places:
        array[row, column] += np.float32(steps * STEP)
    return array


def judged(boundary: np.ndarray, baselines: Sequence[np.ndarray], output: np.ndarray | None = None) -> ParityReport:
    """A candidate with this boundary and output, beside more baselines with theirs; the baseline itself is exact."""
    exact = {"t": GRID}

    def written(name: str, value: np.ndarray, y: np.ndarray | None = None) -> Written:
        return Written(name, {"t": value}, y=GRID.astype(np.float32) if y is None else y)

    return check(
        lambda: Written("exact", exact, y=GRID),
        lambda: written("torch", moved()),
        lambda: written("candidate", boundary, output),
        BATCHES,
        LAYERS,
        others=[partial(written, "other", value, value) for value in baselines],
        ties=True,
    )


TIE = moved((1, 2, 1.0))


def test_a_boundary_that_goes_the_other_way_at_a_tie_is_within_its_budget_and_told() -> None:
    report = judged(TIE, [moved(), TIE, moved()])
    assert report.judgement.verdict is Verdict.PASSED
    assert report.notes == (
        "grid: differs by steps of a quantiser alone, at halves, where rounding itself goes either way",
    )
    assert report.first_divergence is None


def test_an_output_that_goes_the_other_way_at_a_tie_is_in_doubt() -> None:
    report = judged(moved(), [moved(), TIE], TIE)
    assert report.judgement.verdict is Verdict.INCONCLUSIVE
    assert "1 of 16 numbers go either way" in report.judgement.reasons[0]


@pytest.mark.parametrize(
    "boundary",
    [
        moved((0, 1, 1.0)),  # where no baseline moves
        moved((1, 2, 1.0), (0, 1, 1e-3)),  # the tie, and a small error elsewhere
        moved((1, 2, 7.0)),  # the tie, much further than a step
        moved((1, 2, np.nan)),
    ],
)
def test_what_no_tie_explains_fails(boundary: np.ndarray) -> None:
    assert judged(boundary, [moved(), TIE]).judgement.verdict is Verdict.FAILED


def test_without_more_baselines_or_where_none_of_them_moves_a_difference_fails() -> None:
    assert judged(TIE, []).judgement.verdict is Verdict.FAILED
    assert judged(TIE, [moved()] * 8).judgement.verdict is Verdict.FAILED


def test_another_number_at_a_tie_than_any_baseline_has_is_in_doubt() -> None:
    report = judged(moved((1, 2, 2.0)), [moved(), TIE])
    assert report.judgement.verdict is Verdict.INCONCLUSIVE
    assert report.judgement.reasons[0].startswith("grid: 1 of 16 numbers")


def quantised(weights: np.ndarray, step: float, bias: float = 0.0) -> ir.Model:
    """y = the grid of x * weights + bias, times 3."""
    node = helper.make_node
    nodes = [
        node("Mul", ["x", "w"], ["product"]),
        node("Add", ["product", "b"], ["before"]),
        node("QuantizeLinear", ["before", "step", "zero"], ["q"]),
        node("DequantizeLinear", ["q", "step", "zero"], ["grid"]),
        node("Mul", ["grid", "three"], ["y"]),
    ]
    arrays = {"w": weights, "b": bias, "step": step, "three": 3.0}
    stored = [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in arrays.items()]
    stored.append(numpy_helper.from_array(np.array(0, np.int8), "zero"))
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 64]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return ir.from_proto(model)


WEIGHTS = np.random.default_rng(5).uniform(0.5, 2, 64)


@pytest.mark.parametrize(
    "candidate",
    [
        quantised(WEIGHTS, 0.0501),
        quantised(WEIGHTS, 0.05, 1e-3),
        quantised(WEIGHTS * 1.001, 0.05),
        quantised(np.where(np.arange(64) == 7, WEIGHTS * 1.01, WEIGHTS), 0.05),
        quantised(WEIGHTS, 0.05, 0.025),
    ],
    ids=["step", "bias", "weights", "a weight", "rounded up"],
)
def test_a_wrong_quantised_file_fails(candidate: ir.Model) -> None:
    exact = quantised(WEIGHTS, 0.05)
    assert has_quantisers(exact)
    assert compare(exact, exact).judgement.verdict is Verdict.PASSED
    assert compare(exact, candidate).judgement.verdict is Verdict.FAILED
