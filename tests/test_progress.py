"""How far a stage is: counts of loops, nested ones, and what a copy of the process says."""

from __future__ import annotations

from typing import Any

import pytest

from normexport import progress
from normexport.errors import UsageError
from normexport.runtime.guarded import in_child

Said = list[tuple[Any, ...]]


def heard(said: Said) -> progress.Watch:
    def hear(words: str, done: int | None, total: int | None) -> None:
        said.append((words, done, total))

    return hear


def test_a_counted_loop_gives_its_items_and_says_how_many_are_through() -> None:
    said: Said = []
    with progress.watched(heard(said)):
        assert list(progress.counted("ranking", ["a", "b"])) == ["a", "b"]
        assert list(progress.counted("reading", iter("ab"), 2)) == ["a", "b"]
        assert list(progress.counted("streaming", iter("a"))) == ["a"]
    assert said[:3] == [("ranking", 0, 2), ("ranking", 1, 2), ("ranking", 2, 2)]
    assert said[3:] == [("reading", n, 2) for n in range(3)] + [("streaming", n, None) for n in range(2)]


def test_nobody_watching_costs_nothing_and_says_nothing() -> None:
    assert progress.watcher() is None
    assert list(progress.counted("ranking", "ab")) == ["a", "b"]
    progress.say("working")
    with progress.doing("working"):
        assert progress.watcher() is None


def test_of_loops_within_each_other_the_outer_one_is_counted() -> None:
    said: Said = []
    with progress.watched(heard(said)):
        for _ in progress.counted("outer", range(2)):
            progress.say("inside")
            assert sum(progress.counted("inner", range(3))) == 3
        progress.say("after")
    assert said == [("outer", n, 2) for n in range(3)] + [("after", None, None)]


def test_what_is_counted_within_a_work_is_counted_under_its_words() -> None:
    said: Said = []
    with progress.watched(heard(said)), progress.doing("correcting"):
        list(progress.counted("running", range(1)))
    assert said == [("correcting", None, None), ("correcting", 0, 1), ("correcting", 1, 1)]


def test_a_loop_that_is_left_early_lets_what_follows_be_heard() -> None:
    said: Said = []

    def leave() -> None:
        for _ in progress.counted("outer", range(9)):
            break

    def fail() -> None:
        for _ in progress.counted("failing", range(9)):
            raise ZeroDivisionError

    with progress.watched(heard(said)):
        leave()
        with pytest.raises(ZeroDivisionError):
            fail()
        progress.say("after")
    assert said[-1] == ("after", None, None)


def test_a_copy_of_the_process_is_heard_here() -> None:
    said: Said = []

    def work() -> int:
        return sum(progress.counted("in the copy", range(3)))

    with progress.watched(heard(said)):
        assert in_child(work, "x.onnx") == 3
        with progress.doing("within"):
            in_child(work, "x.onnx")
    assert said[:4] == [("in the copy", n, 3) for n in range(4)]
    assert said[4:] == [("within", None, None)] + [("within", n, 3) for n in range(4)]
    assert in_child(work, "x.onnx") == 3


def test_an_error_in_a_copy_comes_after_what_it_said() -> None:
    said: Said = []

    def work() -> None:
        for _ in progress.counted("in the copy", range(3)):
            raise UsageError("x.onnx", "is none", "give another")

    with progress.watched(heard(said)), pytest.raises(UsageError, match="is none"):
        in_child(work, "x.onnx")
    assert said == [("in the copy", 0, 3)]
