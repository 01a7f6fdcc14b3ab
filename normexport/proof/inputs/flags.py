"""Flags, modes and masks: numbers of which few values matter are tried at each of them, not left to chance.

Three random batches leave one flag in four at the value that it had first, and a candidate that takes it for a
constant passes. So a truth value is turned over from batch to batch, and of inputs that are one number, every two are
tried at all four pairs of the ends of their ranges.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from normexport.onnx_export import InputSpec
from normexport.proof.inputs.random import LOWEST, Range
from normexport.runtime import Array

_PAIRED = 7  # switches whose pairs 8 turns show; further ones go along with one of these
_FEW = 5  # values of a range that are all tried
_LARGEST = 2**63 - 1


def turned(seed: int, turn: int, shape: Sequence[int]) -> Array:
    """0 and 1: at turn 0 at random, each of them turned over at turn 1, at turn 2, or at both.

    In turns 0 to 2 every element has both values, and in turns 0 to 3 as often the one as the other.

    Returns:
        uint8 of `shape`.
    """
    rng = np.random.default_rng(seed)
    first, kind = (rng.integers(*ends, tuple(shape), dtype=np.uint8) for ends in ((0, 2), (1, 4)))
    return np.asarray(first ^ _parity(np.asarray(kind), turn))


def switches(specs: Sequence[InputSpec]) -> list[InputSpec]:
    """Inputs that are one truth value or one whole number, whatever the batch."""
    return [spec for spec in specs if not (spec.floating or spec.batched) and math.prod(spec.shape) == 1]


def settings(specs: Sequence[InputSpec], ranges: Mapping[str, Sequence[Range]], seed: int) -> list[dict[str, int]]:
    """Values of the switches by name: all pairs of ends of every two of seven, then what lies between; some come twice.

    Args:
        ranges: of integer inputs, from the lowest on. Ends are the least of the lowest and the most of the widest.
    """
    known = {spec.name: ranges.get(spec.name) or (LOWEST,) for spec in switches(specs)}
    if not known:
        return []
    ends = {name: (each[0][0], each[-1][1]) for name, each in known.items()}
    kinds = {name: 1 + number % _PAIRED for number, name in enumerate(known)}
    turns = range(1 << min(len(ends), _PAIRED).bit_length())
    paired = [
        {name: ends[name][1 - int(_parity(np.asarray(kind), turn))] for name, kind in kinds.items()} for turn in turns
    ]
    rng = np.random.default_rng(seed)
    inner = {name: _inner(rng, *each[-1]) for name, each in known.items()}
    between = [
        {name: values[turn % len(values)] for name, values in inner.items()}
        for turn in range(max(map(len, inner.values())))
    ]
    return [*paired, *between]


def _inner(rng: np.random.Generator, low: int, high: int) -> list[int]:
    """All numbers of a range where they are few, else its least and some at random."""
    count = high - low + 1
    if count <= _FEW:
        return list(range(low, high + 1))
    return [low, *(low + int(number) for number in rng.integers(0, min(count, _LARGEST), _FEW - 2))]


def _parity(kind: Array, turn: int) -> Array:
    """1 where an odd number of the bits of `turn`, of three, are bits of `kind`."""
    both = kind & (turn & 7)
    return np.asarray((both ^ (both >> 1) ^ (both >> 2)) & 1)
