"""Numbers that are no rows of a table, and that a file keeps from it: a candidate that does not is found."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from normexport import parity
from normexport.verdicts import Verdict
from tests.proof.inputs.test_compared import constant, model, verdict

TABLE = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
SIGNATURE = "int64[N,4] i) => (float[N,4,3] y"


def read(*nodes: str, table: np.ndarray = TABLE) -> onnx.ModelProto:
    """Rows k of the table, that the nodes make of i."""
    return model(SIGNATURE, *nodes, "y = Gather(w, k)", w=table)


ZERO, LAST = constant("zero", "int64", "0"), constant("last", "int64", "49")
PLAIN = read("k = Identity(i)")
GUARDED = {
    "one that stands for nothing": (
        ZERO, constant("none", "int64", "-100"), "q = Equal(i, none)", "k = Where(q, zero, i)"
    ),
    "too large": (LAST, "q = Greater(i, last)", "k = Where(q, last, i)"),
    "below zero": (ZERO, "q = Less(i, zero)", "k = Where(q, zero, i)"),
    "both": (ZERO, LAST, "q = Less(i, zero)", "j = Where(q, zero, i)", "p = Greater(j, last)", "k = Where(p, last, j)"),
}  # fmt: skip


@pytest.mark.parametrize("nodes", GUARDED.values(), ids=GUARDED)
def test_a_candidate_that_lacks_the_guard_does_not_pass(nodes: tuple[str, ...]) -> None:
    assert verdict(read(*nodes), PLAIN) is Verdict.FAILED
    assert verdict(read(*nodes), read(*nodes)) is Verdict.PASSED


@pytest.mark.parametrize("nodes", GUARDED.values(), ids=GUARDED)
def test_every_row_behind_a_guard_is_fed(nodes: tuple[str, ...]) -> None:
    wrong = TABLE.copy()
    wrong[31, 1] += 0.1
    turned = model(
        SIGNATURE, *nodes, "u = Gather <axis = 1> (w, k)", "y = Transpose <perm = [1, 2, 0]> (u)",
        w=np.ascontiguousarray(wrong.T),
    )  # fmt: skip
    assert verdict(read(*nodes), turned) is Verdict.FAILED


ONE = constant("one", "int64", "1")
OTHERWISE = {
    "positive": (ZERO, "q = Greater(i, zero)", "k = Cast <to = 7> (q)"),
    "within": (ZERO, ONE, "k = Clip(i, zero, one)"),
    "not seven": (
        ZERO, constant("seven", "int64", "7"), "e = Equal(i, seven)", "v = Where(e, zero, i)", "q = Cast <to = 9> (v)",
        "k = Cast <to = 7> (q)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("nodes", OTHERWISE.values(), ids=OTHERWISE)
def test_a_number_that_is_taken_for_a_truth_value_may_be_any(nodes: tuple[str, ...]) -> None:
    asked = read("q = Cast <to = 9> (i)", "k = Cast <to = 7> (q)", table=TABLE[:2])
    assert verdict(asked, read(*nodes, table=TABLE[:2])) is Verdict.FAILED
    assert verdict(asked, asked) is Verdict.PASSED


def test_each_number_that_is_asked_for_is_tried_alone_where_its_neighbours_break() -> None:
    asking = read(*GUARDED["one that stands for nothing"])
    report = parity(asking, asking)
    assert any(batch.name.endswith("i with -100") for batch in report.batches)
    assert sum("left out" in note and ("-101" in note or "-99" in note) for note in report.notes) == 2


def test_a_table_that_is_a_row_short_fails() -> None:
    report = parity(PLAIN, read("k = Identity(i)", table=TABLE[:-1]))
    assert report.judgement.verdict is Verdict.FAILED
    assert "does not run on" in report.judgement.reasons[0]
