"""How much of each module boundary goes into a capsule: all of the small ones, a sample of the elements of others.

Room is shared out evenly: what small boundaries leave of their part goes to the larger ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

SEED = 11  # of the samples; stated in docs/capsule.md

_WHOLE = 8  # bytes of an element: its value in float64
_SAMPLED = 16  # and its place


def shares(sizes: Mapping[str, int], room: int) -> dict[str, int]:
    """How many elements of each tensor to keep, by name.

    Args:
        sizes: elements of each tensor.
        room: bytes for all of them.
    """
    kept: dict[str, int] = {}
    ascending: Sequence[str] = sorted(sizes, key=lambda name: sizes[name])
    for index, name in enumerate(ascending):
        part = max(room, 0) // (len(ascending) - index)
        whole = sizes[name] * _WHOLE <= part
        kept[name] = sizes[name] if whole else min(sizes[name], part // _SAMPLED)
        room -= kept[name] * (_WHOLE if whole else _SAMPLED)
    return kept


def places(size: int, count: int) -> npt.NDArray[np.int64] | None:
    """`count` places of a flattened tensor of `size` elements, in rising order; None: all of them.

    The same two numbers give the same places.
    """
    if count >= size:
        return None
    return np.sort(np.random.default_rng(SEED).choice(size, count, replace=False, shuffle=False))
