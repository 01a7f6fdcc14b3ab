"""Work in a process of its own: what it returns, raises and says, and what kills it."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from normexport.errors import FoldError, UsageError
from normexport.runtime.guarded import in_child, in_telling_child

pytestmark = pytest.mark.slow


def test_guarded_work_returns_and_raises_as_it_would_here() -> None:
    assert in_child(lambda: {"sum": 1 + 1}, "here") == {"sum": 2}
    with pytest.raises(UsageError, match=r"^a: b; c$"):
        in_child(lambda: _raise(UsageError("a", "b", "c")), "here")
    with pytest.raises(RuntimeError, match=r"^KeyError: 'k'$"):
        in_child(lambda: _raise(KeyError("k")), "here")
    with pytest.raises(FoldError, match=r"^here: the process that ran it was ended by SIGKILL"):
        in_child(lambda: os.kill(os.getpid(), 9), "here")


def test_what_guarded_work_says_is_heard_here_in_its_order() -> None:
    heard: list[tuple[object, ...]] = []

    def hear(*words: object) -> None:
        heard.append(words)

    def say_two_things(tell: Callable[..., None]) -> int:
        tell(1, None)
        tell("two", {"three": 3})
        return 4

    def end_after_one(tell: Callable[..., None]) -> None:
        tell(5)
        os.kill(os.getpid(), 9)

    assert in_telling_child(say_two_things, "here", hear) == 4
    assert heard == [(1, None), ("two", {"three": 3})]
    with pytest.raises(FoldError, match=r"^here: the process that ran it was ended by SIGKILL"):
        in_telling_child(end_after_one, "here", hear)
    assert heard[2:] == [(5,)]
    with pytest.raises(UsageError, match=r"^enough: "):
        in_telling_child(lambda tell: tell(6), "here", lambda *_: _raise(UsageError("enough", "is enough")))


def _raise(error: Exception) -> None:
    raise error
