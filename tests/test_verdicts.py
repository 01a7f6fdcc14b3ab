"""One failure decides, then one open question; nothing at all proves nothing."""

from __future__ import annotations

import itertools

import pytest

from normexport.verdicts import Judgement, Verdict, failed, inconclusive, passed, together


def test_a_whole_is_failed_by_one_part_and_left_open_by_one_that_proves_nothing() -> None:
    parts = {"good": passed(), "bad": failed("b"), "open": inconclusive("o")}
    for names in itertools.chain.from_iterable(itertools.product(parts, repeat=n) for n in (1, 2, 3)):
        expected = Verdict.FAILED if "bad" in names else Verdict.INCONCLUSIVE if "open" in names else Verdict.PASSED
        assert together(parts[name] for name in names).verdict is expected


def test_reasons_are_those_of_the_parts_that_decide_each_once() -> None:
    whole = together([inconclusive("open"), failed("second"), passed(), failed("first"), failed("second")])
    assert whole == Judgement(Verdict.FAILED, ("second", "first"))
    assert together([passed(), passed()]) == passed()


def test_nothing_compared_proves_nothing() -> None:
    assert together([]) == inconclusive("nothing was compared")
    assert together([], "no outputs").reasons == ("no outputs",)


@pytest.mark.parametrize(("verdict", "code"), [("passed", 0), ("failed", 1), ("inconclusive", 7)])
def test_each_verdict_has_an_exit_code_of_its_own(verdict: str, code: int) -> None:
    assert Verdict(verdict).exit_code == code
