"""What a pickle says, as records that do nothing: names, calls that were not made, references to tensors' data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

#: Nesting of containers that is followed: what torch.save can write is limited by Python's recursion in the same way.
DEEPEST = 100


class BadPickle(ValueError):
    """The pickle is damaged, too large, or says something that torch.save never writes; the message says what.

    `remedy`: what to do where the file is whole and honest all the same.
    """

    def __init__(self, words: str, remedy: str = "") -> None:
        super().__init__(words)
        self.remedy = remedy


class Name:
    """A class or function that the pickle names; nothing is imported. `dotted` is "package.module.name"."""

    __slots__ = ("dotted",)

    def __init__(self, dotted: str) -> None:
        self.dotted = dotted


class Call:
    """`what(*args)` as the pickle wants it, not made.

    Attributes:
        what: the name, or whatever else the pickle would call.
        args: its arguments.
        states: what would be set on the result (BUILD), in order.
        items: what would be appended to the result; `pairs`: keys and values that would be set in it.
    """

    __slots__ = ("args", "items", "pairs", "states", "what")

    def __init__(self, what: Any, args: tuple[Any, ...]) -> None:
        self.what, self.args = what, args
        self.states: list[Any] = []
        self.items: list[Any] = []
        self.pairs: list[Any] = []


class Dict:
    """A dict as its keys and values in turn, which are not hashed: keys of a pickle can be anything."""

    __slots__ = ("pairs",)

    def __init__(self, pairs: list[Any]) -> None:
        self.pairs = pairs

    def entries(self) -> Iterator[tuple[Any, Any]]:
        return zip(self.pairs[::2], self.pairs[1::2], strict=True)


class Set:
    """A set or frozenset as its elements, not hashed."""

    __slots__ = ("frozen", "items")

    def __init__(self, items: list[Any], frozen: bool) -> None:
        self.items, self.frozen = items, frozen


class Persistent:
    """A reference to something outside the pickle: the data of a tensor. `key` is what the pickle says of it."""

    __slots__ = ("key",)

    def __init__(self, key: Any) -> None:
        self.key = key


def text_of(value: Any) -> str | None:
    """`value` as text, None if it is none; Python 2 wrote names as bytes."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return None
    return value if isinstance(value, str) else None


def whole(value: Any) -> bool:
    """Whether `value` is an int and no bool, within 63 bits."""
    return type(value) is int and -(1 << 63) <= value < 1 << 63
