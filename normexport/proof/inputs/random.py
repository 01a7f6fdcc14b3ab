"""Random arrays for one input: floats of a scale, whole numbers of a range, or what the user's bounds say."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np

from normexport.dtypes import HALVES
from normexport.errors import UsageError
from normexport.onnx_export import InputSpec
from normexport.onnx_export.inputs import type_range
from normexport.runtime import Array

Range: TypeAlias = tuple[int, int]  # least and largest, both included

LOWEST: Range = (0, 1)
#: What integer inputs are tried at, one after the other: flags, bytes, samples of sound, what float32 still counts by
#: ones, times and sums of money, and all that the type holds.
RUNGS: tuple[Range, ...] = tuple((0, (1 << bits) - 1) for bits in (1, 8, 15, 24, 31, 64))
_MOST_NUMBERS = 1 << 27  # in a random batch, 1 GB in float64: a declared shape is no reason to fill the memory


def require_affordable(spec: InputSpec, size: int) -> None:
    """Refuse shapes that would fill the memory.

    Raises:
        UsageError: more than 2**27 numbers.
    """
    shape = spec.sized(size)
    if math.prod(shape) > _MOST_NUMBERS:
        cause = f"has the shape {shape}, and {_MOST_NUMBERS >> 20} million numbers are the most for a random batch"
        raise UsageError(f"input {spec.name}", cause, "give the shape of one sample with --input")


def random_array(rng: np.random.Generator, spec: InputSpec, size: int, scale: float, within: Range) -> Array:
    """An array of the whole shape at batch `size`.

    Args:
        scale: standard deviation of floats without bounds; bounded ones are spread evenly over their bounds.
        within: of whole numbers; one of them is its largest, another of several its least.

    Raises:
        UsageError: too many numbers.
    """
    require_affordable(spec, size)
    shape = spec.sized(size)
    if spec.floating:
        floats = rng.standard_normal(shape) * scale if spec.bounds is None else rng.uniform(*spec.bounds, shape)
        return as_read(floats, spec)
    if spec.dtype == "bool":
        return np.asarray(rng.integers(0, 2, shape)).astype(bool)
    low, high = within
    numbers = np.asarray(rng.integers(low, high, shape, dtype=spec.dtype, endpoint=True))
    # Not always at the same places: a candidate that takes the first token for a constant would pass.
    for place, end in zip(rng.choice(numbers.size, min(2, numbers.size), replace=False), (high, low), strict=False):
        numbers.flat[place] = end
    return numbers


def rungs_of(spec: InputSpec) -> tuple[Range, ...]:
    """The ladder for one integer input: its own bounds alone, or `RUNGS` as far as its type holds them."""
    least, most = type_range(spec.dtype)
    if spec.bounds is not None:
        return ((int(spec.bounds[0]), int(spec.bounds[1])),)
    rungs = [(low, min(high, most)) for low, high in RUNGS]
    if least < 0:
        rungs.append((least, most))
    return tuple(dict.fromkeys(rungs))


def clip_range(spec: InputSpec, low: int | None, high: int | None) -> Range | None:
    """A range as far as the type holds it; None where nothing is left."""
    least, most = type_range(spec.dtype)
    ends = (least if low is None else max(low, least), most if high is None else min(high, most))
    return ends if ends[0] <= ends[1] else None


def is_half(spec: InputSpec) -> bool:
    """Whether the input itself is in half precision."""
    return spec.dtype in HALVES


def as_read(array: Array, spec: InputSpec) -> Array:
    """Rounded to a half-precision input's own type: a float32 baseline would otherwise see more of it."""
    if not is_half(spec):
        return array
    return array.astype(HALVES[spec.dtype].numpy).astype(np.float64)
