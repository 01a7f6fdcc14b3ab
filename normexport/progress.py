"""How far a long stage is, said to whoever watches; nobody does until `watched` is entered.

    with watched(lambda words, done, total: print(words, done, total)):
        for module in counted("ranking modules", modules):
            ...

A loop that takes long runs over `counted(...)` instead of its items. What is counted inside another counted loop is not
said, so the count that a reader sees is that of the outermost loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeAlias, TypeVar

T = TypeVar("T")

#: Called with what is done, how many of it are through, and how many there are; None where that is not known.
Watch: TypeAlias = Callable[[str, int | None, int | None], None]

_WATCH: ContextVar[Watch | None] = ContextVar("normexport_watch", default=None)


@contextmanager
def watched(by: Watch | None) -> Iterator[None]:
    """Say what is done in here to `by`, in this thread; None: to nobody."""
    before = _WATCH.get()
    _WATCH.set(by)
    try:
        yield
    finally:
        _WATCH.set(before)


def watcher() -> Watch | None:
    """Who watches this thread; None: nobody."""
    return _WATCH.get()


def say(words: str, done: int | None = None, total: int | None = None) -> None:
    """What is done now; inside a counted loop nothing is said."""
    watch = _WATCH.get()
    if watch is not None:
        watch(words, done, total)


@contextmanager
def doing(words: str) -> Iterator[None]:
    """Work that is called so: what is counted in here is counted under these words."""
    watch = _WATCH.get()
    if watch is None:
        yield
        return
    watch(words, None, None)
    with watched(lambda _, done, total: watch(words, done, total)):
        yield


def counted(words: str, items: Iterable[T], total: int | None = None) -> Iterator[T]:
    """The items; as each is through, `words` and the count are said. `total` is their number where they have no len."""
    watch = _WATCH.get()
    if watch is None:
        yield from items
        return
    known = len(items) if total is None and isinstance(items, Sized) else total
    watch(words, 0, known)
    with watched(None):
        for done, item in enumerate(items, 1):
            yield item
            watch(words, done, known)
