"""What agrees and proves nothing is INCONCLUSIVE: a yardstick that is far off, outputs that say nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from normexport.onnx_export import InputSpec
from normexport.proof import Batch, check, check_torch, compare
from normexport.proof.judge import fixed_outputs
from normexport.proof.signal import ChannelMeter, SignalMeter
from normexport.proof.verdict import ParityReport
from normexport.verdicts import Verdict
from tests.proof.test_check import EXACT, Written, judged

F = TensorProto.FLOAT


def verdict_and_reason(report: ParityReport) -> tuple[Verdict, str]:
    return report.judgement.verdict, "; ".join(report.judgement.reasons)


def test_a_yardstick_that_is_far_off_lets_nothing_pass() -> None:
    wrong = (EXACT * 1.05).astype(np.float32)
    assert verdict_and_reason(judged(wrong, baseline=wrong)) == (
        Verdict.INCONCLUSIVE,
        "output y: torch itself is 5% off exact: such a budget lets wrong results through",
    )
    near = (EXACT * 1.005).astype(np.float32)
    assert judged(near, baseline=near).passed


def test_a_candidate_that_is_close_needs_no_yardstick() -> None:
    far = (EXACT * 1.05).astype(np.float32)
    assert judged((EXACT * (1 + 9e-5)).astype(np.float32), baseline=far).passed
    assert not judged((EXACT * (1 + 1.1e-4)).astype(np.float32), baseline=far).passed


def test_what_is_out_of_budget_fails_whatever_the_yardstick() -> None:
    report = judged((EXACT * 3).astype(np.float32), baseline=(EXACT * 1.05).astype(np.float32))
    assert report.judgement.verdict is Verdict.FAILED


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nothing_finite_on_both_sides_is_no_proof(value: float) -> None:
    exact = np.full((2, 4), value)
    verdict, reason = verdict_and_reason(judged(exact.astype(np.float32), exact))
    assert verdict is Verdict.INCONCLUSIVE
    assert reason == "output y: it is NaN or infinite everywhere, on both sides"


def test_a_few_numbers_that_are_not_finite_are_noted() -> None:
    exact = EXACT.copy()
    exact[0, 0] = np.nan
    report = judged(exact.astype(np.float32), exact)
    assert report.passed
    assert "y: 2 of 12 elements are NaN or infinite on both sides" in report.notes


def test_an_empty_output_is_no_proof() -> None:
    exact = np.zeros((2, 0, 4))
    verdict, reason = verdict_and_reason(judged(exact.astype(np.float32), exact))
    assert (verdict, reason) == (Verdict.INCONCLUSIVE, "output y: it is empty for every input that was tried")


@pytest.mark.parametrize("exact", [np.zeros((2, 4)), np.tile([[1.0, 2.0]], (2, 1)), np.full((2, 3), 7)])
def test_an_output_that_never_changes_is_no_proof(exact: np.ndarray) -> None:
    value = exact.astype(np.float32) if exact.dtype.kind == "f" else exact
    verdict, reason = verdict_and_reason(judged(value, exact, baseline=value))
    assert verdict is Verdict.INCONCLUSIVE
    assert "is the same for every input that was tried" in reason


def test_an_output_that_changes_less_than_the_budget_is_no_proof() -> None:
    exact = 100 + EXACT * 1e-5  # float32 holds 7e-6 there
    baseline = exact.astype(np.float32)
    verdict, reason = verdict_and_reason(judged(baseline, exact, baseline=baseline))
    assert verdict is Verdict.INCONCLUSIVE
    assert "nearly the same for every input" in reason


def test_one_output_without_proof_leaves_the_whole_open() -> None:
    constant = np.ones((2, 3), np.float32)
    report = check(
        lambda: Written("exact", y=EXACT, z=constant.astype(np.float64)),
        lambda: Written("torch", y=EXACT.astype(np.float32), z=constant),
        lambda: Written("candidate", y=EXACT.astype(np.float32), z=constant),
        (Batch("one", 1, {"x": np.zeros((1, 2))}), Batch("two", 2, {"x": np.zeros((2, 2))})),
    )
    verdict, reason = verdict_and_reason(report)
    assert verdict is Verdict.INCONCLUSIVE
    assert reason.startswith("output z: ")
    assert [row.passed for row in report.outputs if row.tensor == "y"] == [True, True]


def test_what_the_check_can_not_see_is_said_by_its_caller() -> None:
    report = judged(EXACT.astype(np.float32), unproven=["a part was left out"])
    assert verdict_and_reason(report) == (Verdict.INCONCLUSIVE, "a part was left out")


def graph(
    nodes: list[onnx.NodeProto],
    outputs: Sequence[tuple[str, int, Sequence[int | str]]],
    constants: Any = (),
) -> ir.Model:
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in dict(constants).items()]
    inputs = [helper.make_tensor_value_info("x", F, ["N", 4])]
    values = [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in outputs]
    proto = helper.make_model(
        helper.make_graph(nodes, "g", inputs, values, tensors),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    onnx.checker.check_model(proto)
    return ir.from_proto(proto)


def test_an_output_that_follows_from_constants_is_proven_by_equality() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Neg", ["anchors"], ["a"])]
    outputs: list[tuple[str, int, list[int | str]]] = [("y", F, ["N", 4]), ("a", F, [3])]
    right = graph(nodes, outputs, {"anchors": np.arange(3, dtype=np.float32)})
    wrong = graph(nodes, outputs, {"anchors": np.arange(3, dtype=np.float32) + 1e-3})
    assert fixed_outputs(right) == {"a"}
    assert compare(right, right).passed
    assert compare(right, wrong).judgement.verdict is Verdict.FAILED


def test_outputs_of_branches_and_of_random_numbers_are_not_fixed() -> None:
    then = helper.make_graph(
        [helper.make_node("Abs", ["x"], ["t"])], "t", [], [helper.make_tensor_value_info("t", F, ["N", 4])]
    )
    other = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["o"])], "o", [], [helper.make_tensor_value_info("o", F, ["N", 4])]
    )
    nodes = [
        helper.make_node("If", ["yes"], ["y"], then_branch=then, else_branch=other),
        helper.make_node("RandomNormal", [], ["r"], shape=[2]),
    ]
    model = graph(nodes, [("y", F, ["N", 4]), ("r", F, [2])], {"yes": np.asarray(True)})
    assert fixed_outputs(model) == frozenset()


def test_random_numbers_in_a_model_are_no_yardstick() -> None:
    class Noisy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.randn_like(x)

    verdict, _ = verdict_and_reason(check_torch(Noisy(), Noisy(), [InputSpec("x", (8,))]))
    assert verdict is not Verdict.PASSED


@pytest.mark.parametrize("value", [float("nan"), 3.0])
def test_a_network_that_prints_one_thing_is_not_proven(value: float) -> None:
    class Prints(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 0 + value

    verdict, _ = verdict_and_reason(check_torch(Prints(), Prints(), [InputSpec("x", (8,))]))
    assert verdict is Verdict.INCONCLUSIVE


# Channels.


def boxes_and_scores(scores: np.ndarray) -> np.ndarray:
    """(7, 5): four boxes in pixels and a score."""
    rng = np.random.default_rng(0)
    return np.concatenate([rng.uniform(0, 640, (7, 4)), scores[:, None]], axis=1)


@pytest.mark.parametrize("error", [1e-4, 1e-2, 1.0])
def test_a_wrong_score_beside_boxes_in_pixels_is_seen(error: float) -> None:
    scores = np.random.default_rng(1).uniform(0, 1, 7)
    exact = boxes_and_scores(scores)
    baseline, wrong = exact.astype(np.float32), boxes_and_scores(scores * (1 + error)).astype(np.float32)
    batches = (Batch("all", 7, {"x": np.zeros((7, 2))}),)
    report = check(
        lambda: Written("exact", y=exact),
        lambda: Written("torch", y=baseline * np.float32(1 + 3e-7)),
        lambda: Written("candidate", y=wrong),
        batches,
    )
    assert report.judgement.verdict is Verdict.FAILED
    assert report.outputs[0].within == (error == 1e-4)
    assert report.outputs[-1].batch == ("all inputs, 4 of axis 1" if error == 1e-4 else "all")


def test_channels_of_few_elements_and_of_changing_shapes_are_not_judged() -> None:
    meter = ChannelMeter()
    meter.add(np.ones((3, 2)), np.ones((3, 2)), np.ones((3, 2)))
    assert meter.channels() == []
    meter.add(np.ones((3, 2)), np.ones((3, 2)), np.ones((3, 2)))
    assert [(each.axis, each.index, each.size) for each in meter.channels()] == [(1, 0, 6), (1, 1, 6)]
    meter.add(np.ones((3, 4)), np.ones((3, 4)), np.ones((3, 4)))
    assert meter.channels() == []


# Signals.


@pytest.mark.parametrize("sizes", [(1, 2, 7), (3,), (1, 1)])
def test_variation_is_the_rms_about_the_mean_over_samples(sizes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(2)
    arrays = [rng.normal(5.0, 2.0, (size, 3, 4)) for size in sizes]
    meter = SignalMeter()
    for array in arrays:
        meter.add(array, len(array))
    whole = np.concatenate(arrays)
    expected = np.sqrt(np.mean((whole - whole.mean(axis=0)) ** 2))
    assert meter.signal().samples == sum(sizes)
    assert meter.signal().variation == pytest.approx(expected)


def test_without_a_batch_axis_each_run_is_a_sample() -> None:
    meter = SignalMeter()
    for value in (1.0, 3.0):
        meter.add(np.full((2, 2), value), 7)
    assert meter.signal().samples == 2
    assert meter.signal().variation == pytest.approx(1.0)


def test_one_sample_varies_by_its_elements() -> None:
    meter = SignalMeter()
    meter.add(np.array([[0.0, 2.0]]), 1)
    assert meter.signal().variation == pytest.approx(1.0)
