"""Objects from inert records: tensors, numpy arrays, plain data and layers of torch.nn and normexport.nn.

Only what the tables of this package name is rebuilt, each by code of ours that checks its arguments. An object that
stands in several places of the file stands in several places of the result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from normexport.checkpoint.inert import DEEPEST, BadPickle, Call, Dict, Name, Persistent, Set, whole
from normexport.checkpoint.rebuild_modules import MODULE_BUILDERS, Tree
from normexport.checkpoint.rebuild_numpy import NUMPY_BUILDERS
from normexport.checkpoint.rebuild_plain import BARE_NAMES, PLAIN_BUILDERS
from normexport.checkpoint.rebuild_tensors import DTYPES, QUANTISING, TENSOR_BUILDERS, layout_named
from normexport.checkpoint.storages import STORAGE_TYPES, UNTYPED, Storages

Builder = Callable[["Rebuilder", Call], Any]

#: What a pickle may call, and what it means.
BUILDERS: dict[str, Builder] = {
    **PLAIN_BUILDERS,
    **NUMPY_BUILDERS,
    **TENSOR_BUILDERS,
    **MODULE_BUILDERS,
    "torch.serialization._get_layout": layout_named,
}
#: What a pickle may name without calling it.
VALUES: dict[str, Any] = {**DTYPES, **QUANTISING, **BARE_NAMES}
_KNOWN = frozenset({*BUILDERS, *VALUES, *STORAGE_TYPES, UNTYPED})
_LEAVES = frozenset({str, int, float, bool, bytes, type(None)})
_KEYS = (str, float, bool, bytes, type(None), torch.dtype, torch.device, np.generic)


def unknown_names(names: frozenset[str]) -> list[str]:
    """Names that are not on the list of what is rebuilt, sorted."""
    return sorted(names - _KNOWN)


class Room:
    """How many bytes the tensors of a file may have in all, views of the same data counted each."""

    def __init__(self, most: int) -> None:
        self._most = self._left = most

    def take(self, size: int) -> None:
        """Raises BadPickle: no room is left for `size` bytes."""
        self._left -= size
        if self._left < 0:
            raise BadPickle(f"its tensors have more than the {self._most >> 20} MiB that a file of its size can hold")


class Rebuilder:
    """Makes the objects of one pickle; `storages` has the data of its tensors, `room` bounds their size."""

    def __init__(self, storages: Storages, room: Room) -> None:
        self.storages, self.room, self.tree = storages, room, Tree()
        self._made: dict[int, Any] = {}  # by the identity of the record, which the pickle's root keeps alive
        self._open: set[int] = set()

    def value(self, record: Any) -> Any:
        """The object that `record` stands for.

        Raises:
            BadPickle: something in it is malformed, holds itself, is nested too deeply or is too large.
        """
        if type(record) in _LEAVES:
            return record
        place = id(record)
        if place in self._made:
            return self._made[place]
        if place in self._open:
            raise BadPickle("an object in it holds itself")
        if len(self._open) >= DEEPEST:
            raise BadPickle(f"objects in it are nested more than {DEEPEST} deep")
        self._open.add(place)
        made = self._made[place] = self._new(record)
        self._open.discard(place)
        return made

    def _new(self, record: Any) -> Any:
        if isinstance(record, Call):
            if not isinstance(record.what, Name) or record.what.dotted not in BUILDERS:
                raise BadPickle("it calls something that is no function")
            return BUILDERS[record.what.dotted](self, record)
        if isinstance(record, tuple):
            return tuple([self.value(each) for each in record])
        if isinstance(record, list):
            return [self.value(each) for each in record]
        if isinstance(record, Dict):
            return self.mapping(record.pairs, {})
        if isinstance(record, Set):
            made = {self.key(each) for each in record.items}
            return frozenset(made) if record.frozen else made
        if isinstance(record, Name):
            return VALUES.get(record.dotted, record.dotted)
        if isinstance(record, bytearray):
            return bytearray(record)
        if isinstance(record, Persistent):
            raise BadPickle("it holds the data of a tensor without the tensor")
        raise BadPickle("it holds something of an unknown kind")

    def mapping(self, pairs: list[Any], into: Any) -> Any:
        """Fill the dict `into` with `pairs`, keys and values in turn."""
        for index in range(0, len(pairs), 2):
            into[self.key(pairs[index])] = self.value(pairs[index + 1])
        return into

    def key(self, record: Any) -> Any:
        """A key of a dict or element of a set: text, a number, or a tuple of them (hashing others runs long)."""
        made = self.value(record)
        if isinstance(made, tuple):
            if len(made) > 16 or any(isinstance(each, tuple) or not _is_key(each) for each in made):
                raise BadPickle("a key in it is no text and no number")
        elif not _is_key(made):
            raise BadPickle("a key in it is no text and no number")
        return made


def _is_key(made: Any) -> bool:
    return isinstance(made, _KEYS) or whole(made)
