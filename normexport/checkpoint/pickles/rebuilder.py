"""The walk over a pickle's records that makes each object once, within limits, by builders that it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from normexport.checkpoint.names import DEEPEST_PATH
from normexport.checkpoint.pickles.inert import DEEPEST, BadPickle, Call, Dict, Name, Persistent, Set, whole
from normexport.checkpoint.pickles.storages import Storages
from normexport.checkpoint.pickles.unread import Unread

Builder = Callable[["Rebuilder", Call], Any]

_LEAVES = frozenset({str, int, float, bool, bytes, type(None)})
_KEYS = (str, float, bool, bytes, type(None), torch.dtype, torch.device, np.generic)
#: Paths to modules; one that stands in two places, in one that stands in two places, ... has 2^n.
_MOST_PATHS = 100_000


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
    """Makes the objects of one pickle.

    Args:
        storages: the data of its tensors.
        room: bounds the size of its tensors.
        builders: what the pickle may call, by name, and the code of ours that does it.
        values: what the pickle may name without calling it.
    """

    def __init__(
        self, storages: Storages, room: Room, builders: Mapping[str, Builder], values: Mapping[str, Any]
    ) -> None:
        self.storages, self.room, self.tree = storages, room, Tree()
        self._builders, self._values = builders, values
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
            if not isinstance(record.what, Name) or record.what.dotted not in self._builders:
                raise BadPickle("it calls something that is no function")
            return self._builders[record.what.dotted](self, record)
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
            return self._values.get(record.dotted, record.dotted)
        if isinstance(record, bytearray):
            return bytearray(record)
        if isinstance(record, Unread):
            return record
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


class Tree:
    """How deep the modules of a file are nested, and how many paths lead to them: PyTorch walks every path."""

    def __init__(self) -> None:
        self._sizes: dict[int, tuple[int, int]] = {}
        self._modules: list[nn.Module] = []  # keeps them, so that their ids stay theirs

    def add(self, module: nn.Module, label: str) -> None:
        """Take in a module whose children are in. Raises BadPickle: too deep, or too many paths."""
        inner = [self._sizes[id(child)] for child in module._modules.values() if child is not None]
        deep = 1 + max((depth for depth, _ in inner), default=0)
        paths = 1 + sum(count for _, count in inner)
        if deep > DEEPEST_PATH or paths > _MOST_PATHS:
            raise BadPickle(f"{label} has modules nested {deep} deep, and {paths} paths to them")
        self._sizes[id(module)] = deep, paths
        self._modules.append(module)
