"""Which parts of a pickle name something that is not rebuilt, and the pickle without them: weights do without the rest.

A training checkpoint holds its hyper-parameters and callbacks as objects of whatever class; the weights beside them are
plain tensors.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from normexport.checkpoint.pickles.inert import Call, Dict, Name, Set

#: Dicts within dicts, to this depth, lose single entries; what lies deeper is left out whole.
_DEPTH = 3


class Unread:
    """Stands where a part of a file is that was not read, because `name` stands in it."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


def without_unknown(root: Any, unknown: Collection[str]) -> Any:
    """The record `root`, an `Unread` in the place of each entry of its dicts in which a name of `unknown` stands."""
    return _Pruning(_Marked(root, frozenset(unknown))).of(root, _DEPTH)


class _Marked:
    """For every record below a root, one name of a set that stands in it: each record is looked at once."""

    def __init__(self, root: Any, names: frozenset[str]) -> None:
        self._found: dict[int, str | None] = {}
        pending: list[tuple[Any, bool]] = [(root, False)]
        while pending:
            record, is_done = pending.pop()
            if is_done:
                inner = map(self.name_in, _parts(record))
                self._found[id(record)] = next((name for name in inner if name is not None), None)
            elif isinstance(record, Name):
                self._found[id(record)] = record.dotted if record.dotted in names else None
            elif id(record) not in self._found and (parts := list(_parts(record))):
                self._found[id(record)] = None  # until it is done: an object can hold itself
                pending.append((record, True))
                pending.extend((part, False) for part in parts)

    def name_in(self, record: Any) -> str | None:
        return self._found.get(id(record))


def _parts(record: Any) -> Iterator[Any]:
    if isinstance(record, (tuple, list)):
        yield from record
    elif isinstance(record, Dict):
        yield from record.pairs
    elif isinstance(record, Set):
        yield from record.items
    elif isinstance(record, Call):
        yield from (record.what, *record.args, *record.states, *record.items, *record.pairs)


class _Pruning:
    """Each record at each depth once: by references a small file can have a billion entries."""

    def __init__(self, marked: _Marked) -> None:
        self._marked = marked
        self._made: dict[tuple[int, int], Any] = {}

    def of(self, record: Any, depth: int) -> Any:
        name = self._marked.name_in(record)
        if name is None:
            return record
        place = id(record), depth
        if place not in self._made:
            self._made[place] = self._new(record, depth, name)
        return self._made[place]

    def _new(self, record: Any, depth: int, name: str) -> Any:
        if not isinstance(record, Dict) or depth == 0 or any(map(self._marked.name_in, record.pairs[::2])):
            return Unread(name)
        return Dict([part if at % 2 == 0 else self.of(part, depth - 1) for at, part in enumerate(record.pairs)])
