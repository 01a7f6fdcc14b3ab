"""How much a file may make its reader do: limits that follow from the size of the file."""

from __future__ import annotations

_FACTOR = 2  # a checkpoint holds its tensors once; a copy in another type is as much again
_ROOM = 256 << 20  # bytes: what a small file may expand to (masks and position tables of a few numbers, expanded)


def memory_allowance(file_size: int) -> int:
    """Bytes of data that a file of `file_size` bytes may declare or unpack to: 2 * file_size + 256 MiB.

    Data that claims more is a bomb, or damaged: it is refused before it is allocated.
    """
    return _FACTOR * file_size + _ROOM
