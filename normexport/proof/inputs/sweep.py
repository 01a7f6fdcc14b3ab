"""Every row of the tables that inputs index, and every value of a byte: one that is wrong is not left to chance.

Where the tables of both files are spelled alike the rows that differ are known (`compared`). Spelled otherwise, turned
over, in half precision, behind another table, as a product with OneHot, they can't be held against each other; so each
number is fed once, as far as that takes no longer than the rest of a proof does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import numpy as np
import onnx_ir as ir

from normexport.onnx_export import InputSpec
from normexport.proof.inputs.batches import Batch
from normexport.proof.inputs.integer_bounds import Bounds
from normexport.proof.inputs.random import LOWEST, Range, random_array
from normexport.runtime import Array

_BYTE = 256
_MOST_AT_ONCE = 256  # samples
_MOST_BATCHES = 16
_MOST_NUMBERS = 1 << 14  # of one input in one batch: as embeddings they are a thousand times as many
_MOST_WORK = 1 << 30  # numbers of weights, times samples: a second or two in float64


def sweeps(
    batches: Sequence[Batch],
    specs: Sequence[InputSpec],
    bounds: Mapping[str, Bounds],
    ranges: Mapping[str, Sequence[Range]],
    graph: ir.Model,
    seed: int,
    most: int = _MOST_AT_ONCE,
) -> tuple[list[Batch], list[str]]:
    """Batches with the numbers of each bounded input that `batches` lack, and a word for each that has too many.

    Args:
        batches: what is fed anyway.
        bounds: what the graph allows on integer inputs.
        ranges: of integer inputs, for those that are not swept.
        graph: the reference; its weights say what a sample takes.
        most: samples in a batch, where sizes are asked for.
    """
    weights = sum(
        value.const_value.size for value in graph.graph.initializers.values() if value.const_value is not None
    )
    found: list[Batch] = []
    words: list[str] = []
    for spec in specs:
        span = _span(spec, bounds.get(spec.name))
        if span is None:
            continue
        count = span[1] - span[0] + 1
        every = np.concatenate([batch.feeds[spec.name].reshape(-1) for batch in batches])
        fed = np.unique(every[(every >= span[0]) & (every <= span[1])])
        samples = (count - len(fed)) // max(1, math.prod(spec.shape))
        made: list[Batch] = []
        if samples * weights <= _MOST_WORK and count - len(fed) <= _MOST_BATCHES * _MOST_NUMBERS:
            lacking = np.setdiff1d(np.arange(span[0], span[1] + 1), fed)
            made = list(islice(_each_once(spec, lacking, specs, ranges, seed, most), _MOST_BATCHES + 1))
        if (made and len(made) <= _MOST_BATCHES) or len(fed) == count:
            found += made
        else:
            words.append(f"{spec.name}: {len(fed):,} of the {count:,} numbers that it may be were fed")
    return found, words


def _span(spec: InputSpec, bound: Bounds | None) -> Range | None:
    """The numbers that an input may be, where something binds both ends and they are no sizes."""
    if not spec.integer or (bound is not None and bound.is_size):
        return None
    low, high = (None, None) if bound is None else (bound.low, bound.high)
    if low is None or high is None:
        limits = np.iinfo(spec.dtype)
        if limits.max - limits.min >= _BYTE:
            return None
        low, high = int(limits.min) if low is None else low, int(limits.max) if high is None else high
    if spec.bounds is not None:
        low, high = max(low, math.ceil(spec.bounds[0])), min(high, math.floor(spec.bounds[1]))
    return (low, high) if low <= high else None


def _each_once(
    spec: InputSpec,
    numbers: Array,
    specs: Sequence[InputSpec],
    ranges: Mapping[str, Sequence[Range]],
    seed: int,
    most: int,
) -> Iterator[Batch]:
    """Batches that hold each number once, at random places, and the other inputs as ever."""
    rng = np.random.default_rng(seed)
    per_sample = max(1, math.prod(spec.shape))
    size = _size(spec, specs, min(most, _MOST_NUMBERS // per_sample, math.ceil(len(numbers) / per_sample)))
    step = math.prod(spec.sized(size))
    for start in range(0, len(numbers), step):
        part = numbers[start : start + step]
        feeds = {
            each.name: random_array(rng, each, size, 1.0, (ranges.get(each.name) or (LOWEST,))[0]) for each in specs
        }
        array = feeds[spec.name]
        places = rng.permutation(array.size)
        array.flat[places] = np.resize(part, array.size)
        yield Batch(f"{spec.name} from {part[0]} to {part[-1]}, batch {size}", size, feeds)


def _size(spec: InputSpec, specs: Sequence[InputSpec], wanted: int) -> int:
    """The batch size next to `wanted` that all inputs take."""
    ranges = [each.batch for each in specs if each.batched]
    if not spec.batched:
        return max((each.least for each in ranges), default=1)
    least = max(each.least for each in ranges)
    most = min((each.most for each in ranges if each.most is not None), default=wanted)
    return max(least, min(wanted, most))
