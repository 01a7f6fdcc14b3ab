"""`parity` judges a half-precision file by the rule of its precision: right ones pass, wrong ones do not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from normexport.checkpoint import Checkpoint
from normexport.onnx_export import InputSpec
from normexport.precision import Half, reduce_precision
from normexport.precision.half.file import halved_values
from normexport.precision.half.rounding import rounding_in_float32
from normexport.runtime import OnnxRuntime
from normexport.verbs.parity import check
from normexport.verdicts import Verdict
from tests.narrow import present
from tests.precision import nets
from tests.precision.judged_graphs import graph, weight

pytestmark = pytest.mark.slow

PASSED, FAILED, INCONCLUSIVE = Verdict.PASSED, Verdict.FAILED, Verdict.INCONCLUSIVE
SPEC = nets.SPEC


@pytest.fixture(scope="module", params=["float16", "bfloat16"])
def made(request: pytest.FixtureRequest) -> tuple[str, ir.Model, ir.Model]:
    """The float32 graph of a network with a channel that float16 does not hold, and the half file."""
    model, _ = nets.folded(nets.stressed)
    reduced = reduce_precision(model, Half(request.param), [SPEC], source=nets.stressed())
    assert reduced.precision.passed
    return request.param, model, reduced.model


def test_the_file_that_conversion_passed_passes(made: tuple[str, ir.Model, ir.Model]) -> None:
    dtype, model, half = made
    report = check(model, half, layers=True)
    assert report.precision == dtype
    assert report.judgement.verdict is PASSED, report.judgement
    assert report.layers


def test_a_torch_reference_passes_it_too(made: tuple[str, ir.Model, ir.Model], tmp_path: Path) -> None:
    _, _, half = made
    report = check(Checkpoint(tmp_path / "m.pt", "module", nets.stressed()), half, [SPEC])
    assert report.judgement.verdict is PASSED, report.judgement


def changed(half: ir.Model, name: str, how: Callable[..., Any]) -> ir.Model:
    copy = half.clone()
    (found,) = [each for each in copy.graph.initializers if each.startswith(name)]
    value = copy.graph.initializers[found]
    array = value.const_value.numpy()
    value.const_value = ir.Tensor(
        how(array.astype(np.float32)).astype(array.dtype), dtype=value.const_value.dtype, name=found
    )
    return copy


def one_channel(array: np.ndarray) -> np.ndarray:
    array[:1] *= 2
    return array


@pytest.mark.parametrize(
    "how", [one_channel, lambda array: array[::-1].copy(), np.zeros_like], ids=["scaled", "swapped", "zero"]
)
def test_wrong_weights_fail(how: Callable[..., Any], made: tuple[str, ir.Model, ir.Model]) -> None:
    _, model, half = made
    report = check(model, changed(half, "head.weight", how))
    assert report.judgement.verdict is FAILED


def test_what_the_file_keeps_in_float32_is_not_rounded_in_the_yardstick(made: tuple[str, ir.Model, ir.Model]) -> None:
    dtype, model, half = made
    names = halved_values(model, half, dtype)
    theirs = {str(value.name): value for node in half.graph for value in node.outputs}
    for node in model.graph:
        for value in node.outputs:
            found = theirs.get(present(value.name))
            if found is not None and found.dtype != ir.DataType.FLOAT:
                assert value.name in names
    assert SPEC.name not in names  # inputs stay float32


def test_a_float32_file_is_judged_as_float32(made: tuple[str, ir.Model, ir.Model]) -> None:
    _, model, _ = made
    assert check(model, model).precision == "float32"


def argmax(last: str, seed: int = 0) -> ir.Model:
    """Five classes of nearly equal scores, of which one is chosen."""
    weights = 1 + 1e-3 * weight(6, 5, seed=seed)
    return graph("(float[N,6] x) => (int64[N] y)", f"s = MatMul(x, w) {last}", {"w": weights.astype(np.float32)})


CHOSEN = "y = ArgMax<axis = 1, keepdims = 0>(s)"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_classes_that_are_nearly_equal_may_be_chosen_otherwise_in_half(dtype: str) -> None:
    spec = InputSpec("x", (6,))
    reduced = reduce_precision(argmax(CHOSEN), Half(dtype), [spec])
    assert reduced.precision.judgement.verdict is PASSED, reduced.precision.judgement
    assert reduced.precision.kept == ()
    x = {"x": np.random.default_rng(3).normal(size=(64, 6)).astype(np.float32)}
    exact, got = (OnnxRuntime(each).run(x)["y"] for each in (argmax(CHOSEN), rounding_in_float32(reduced.model)))
    assert (exact != got).any() or dtype == "float16"


def test_indices_that_are_not_of_the_best_scores_fail_in_half() -> None:
    spec = InputSpec("x", (6,))
    half = reduce_precision(argmax("y = ArgMin<axis = 1, keepdims = 0>(s)"), Half(), [spec]).model
    assert check(argmax(CHOSEN), half, [spec]).judgement.verdict is FAILED
    other = graph("(float[N,6] x) => (int64[N] y)", f"s = MatMul(x, w) {CHOSEN}", {"w": weight(6, 5)})
    wrong = reduce_precision(other, Half(), [spec]).model
    assert check(argmax(CHOSEN), wrong, [spec]).judgement.verdict is FAILED
