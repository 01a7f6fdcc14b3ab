"""A budget that was small by luck: more baselines decide, and nothing that is wrong gets by."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from normexport.onnx_export import Layer
from normexport.proof import Batch, check
from normexport.proof.check import Factory
from normexport.proof.luck import is_near_miss, settle_luck
from normexport.proof.metrics import Deviation
from normexport.proof.tolerance import Budget
from normexport.proof.verdict import ParityReport, Row
from normexport.verdicts import Verdict
from tests.proof.test_check import Written

EXACT = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [1.0, 0.0]])
BATCHES = (Batch("four", 4, {"x": np.zeros((4, 2))}), Batch("two", 2, {"x": np.zeros((2, 2))}))


def off(error: float, exact: np.ndarray = EXACT) -> np.ndarray:
    """Off in the one score that is not sure of itself."""
    moved = exact.copy()
    moved[1] += [error, -error]
    return moved.astype(np.float32)


def judged(candidate: np.ndarray, *baselines: np.ndarray, opened: list[int] | None = None, **more: Any) -> ParityReport:
    def other(index: int, value: np.ndarray) -> Written:
        if opened is not None:
            opened.append(index)
        return Written(y=value, **more)

    others: list[Factory] = [partial(other, index, value) for index, value in enumerate(baselines)]
    return check(lambda: Written(y=EXACT), others[0], lambda: Written(y=candidate), BATCHES, others=others[1:])


def test_what_another_baseline_errs_by_is_no_fault() -> None:
    report = judged(off(6e-6), off(0), off(1e-7), off(1.5e-6))
    assert report.passed
    assert any("within the budget of 3 baselines" in note for note in report.notes)


def test_no_more_baselines_run_than_it_takes() -> None:
    opened: list[int] = []
    judged(off(6e-6), off(0), off(1.5e-6), off(0), opened=opened)
    assert set(opened) == {0, 1}
    opened.clear()
    assert judged(off(1e-7), off(0), off(1.5e-6), opened=opened).passed
    assert set(opened) == {0}


def test_what_no_baseline_errs_by_fails_as_it_did() -> None:
    alone, more = judged(off(6e-6), off(0)), judged(off(6e-6), off(0), *(off(1e-7) for _ in range(8)))
    assert not more.passed
    assert more == alone


@pytest.mark.parametrize("wrong", [off(1e-3), np.zeros((4, 2), np.float32), EXACT.astype(np.float32)[:, :1]])
def test_what_is_far_out_or_of_another_shape_is_not_asked_again(wrong: np.ndarray) -> None:
    opened: list[int] = []
    assert not judged(wrong, off(0), off(1e-3), opened=opened).passed
    assert set(opened) == {0}


def test_each_row_has_its_own_kindest_baseline() -> None:
    """An output and a boundary, each with luck in another baseline."""
    layers = [Layer("inner", 0, "Linear", "h")]

    def side(y: float, h: float) -> Factory:
        return lambda: Written(y=off(y), captured={"h": off(h)})

    exact = lambda: Written(y=EXACT, captured={"h": EXACT})  # noqa: E731 - a function like those beside it
    others = [side(1.5e-6, 0), side(0, 1.5e-6)]
    assert check(exact, side(0, 0), side(6e-6, 6e-6), BATCHES, layers, others=others).passed
    assert not check(exact, side(0, 0), side(6e-6, 6e-6), BATCHES, layers, others=others[:1]).passed


# By rows alone.


def row(tensor: str, excess: float, batch: str = "one", doubt: str | None = None, path: str = "") -> Row:
    small = Deviation(64, 1.0, 1.0, 0.0, 0.0, 1.0)
    return Row(tensor, path, "", batch, None, small, small, Budget(1.0, 1.0), excess, doubt)


def report(*outputs: Row, layers: tuple[Row, ...] = ()) -> ParityReport:
    return ParityReport("exact", "torch", "candidate", "float32", outputs, layers)


def verdict(*reports: ParityReport) -> Verdict:
    return settle_luck(reports[0], reports[1:]).judgement.verdict


def test_two_wrong_channels_do_not_excuse_each_other() -> None:
    """A report names the channel that is furthest out, and that is another one by another baseline."""
    first = report(row("y", 0.5), row("y", 3.0, "all inputs, 3 of axis 1"))
    other = report(row("y", 0.5), row("y", 3.0, "all inputs, 5 of axis 1"))
    assert verdict(first, other) is Verdict.FAILED
    assert verdict(first, other, report(row("y", 0.5))) is Verdict.PASSED


def test_a_channel_that_is_out_once_the_whole_is_within_counts() -> None:
    """Channels are judged where the whole output is within its budget, and not before."""
    first, other = report(row("y", 3.0)), report(row("y", 0.5), row("y", 3.0, "all inputs, 5 of axis 1"))
    assert verdict(first, other) is Verdict.FAILED


def test_all_batches_of_an_output_are_judged_by_one_baseline() -> None:
    first = report(row("y", 3.0, "one"), row("y", 3.0, "two"))
    others = [report(row("y", 0.5, "one"), row("y", 3.0, "two")), report(row("y", 3.0, "one"), row("y", 0.5, "two"))]
    assert verdict(first, *others) is Verdict.FAILED


def test_what_another_baseline_did_not_judge_is_not_excused_by_it() -> None:
    assert verdict(report(row("y", 3.0), row("z", 0.5)), report(row("z", 0.5))) is Verdict.FAILED


def test_an_output_and_a_boundary_of_one_name_are_two() -> None:
    first = report(row("y", 0.5), layers=(row("y", 0.5, path="head"), row("y", 3.0, path="other")))
    lacks, has = (
        report(row("y", 0.5), layers=tuple(row("y", 0.5, path=path) for path in paths))
        for paths in (["head"], ["head", "other"])
    )
    assert verdict(first, lacks) is Verdict.FAILED
    assert verdict(first, has) is Verdict.PASSED


def test_where_one_output_is_left_out_none_is_excused() -> None:
    first = report(row("y", 3.0), row("z", 3.0))
    assert settle_luck(first, [report(row("y", 0.5), row("z", 3.0))]) is first


@pytest.mark.parametrize(("excess", "near"), [(0.5, False), (1.5, True), (32.0, True), (32.5, False)])
def test_a_miss_is_near_up_to_a_known_share_of_the_budget_and_without_a_fault(excess: float, near: bool) -> None:
    assert is_near_miss(report(row("y", excess), row("z", 0.5))) is near
    assert is_near_miss(report(row("z", 0.5), layers=(row("y", excess, path="head"),))) is near
    assert not is_near_miss(report(row("y", 1.5), replace(row("z", 0.5), fault="is missing")))


def test_the_note_names_what_was_out_and_nothing_else() -> None:
    first = report(row("y", 3.0), row("z", 0.5), layers=(row("w", 3.0, path="head"),))
    settled = settle_luck(first, [report(row("y", 0.5), layers=(row("w", 0.5, path="head"),))])
    assert settled.notes == ("y, head: within the budget of 2 baselines; that of the first alone was small by luck",)


def test_doubts_of_what_was_within_stay() -> None:
    first = report(row("y", 3.0), row("z", 0.5, doubt="it is the same for every input"))
    assert verdict(first, report(row("y", 0.5), row("z", 0.1))) is Verdict.INCONCLUSIVE
    assert (
        verdict(first, report(row("y", 0.5, doubt="such a budget lets wrong results through"))) is Verdict.INCONCLUSIVE
    )


def test_boundaries_may_have_luck_in_different_baselines() -> None:
    first = report(row("y", 0.5), layers=(row("a", 2.0, path="a"), row("b", 2.0, path="b")))
    others = [
        report(row("y", 0.5), layers=(row("a", 0.5, path="a"), row("b", 2.0, path="b"))),
        report(row("y", 0.5), layers=(row("a", 2.0, path="a"), row("b", 0.5, path="b"))),
    ]
    assert verdict(first, *others) is Verdict.PASSED
    assert verdict(first, *others[:1]) is Verdict.FAILED
