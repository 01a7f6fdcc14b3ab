"""Samples of mixed sizes: an array whose entries are arrays, one a sample, of which batches of one size are made.

Only networks with open sizes are given such; whatever picks samples by their number (parts, labels, slices) takes
them as it takes others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from normexport.runtime import Array, Feeds


def rows_of(samples: Sequence[Array]) -> Array:
    """Samples as one array (samples, *shape); where their shapes differ, as one (samples,) of arrays."""
    if len({sample.shape for sample in samples}) <= 1:
        return np.stack(samples)
    rows = np.empty(len(samples), object)
    rows[:] = [*samples]
    return rows


def is_mixed(array: Array) -> bool:
    """Whether the entries are arrays."""
    return array.dtype == object


def joined_rows(parts: Sequence[Array]) -> Array:
    """Arrays of samples one behind the other, whatever the sizes of their samples."""
    if len({part.shape[1:] for part in parts}) == 1 and not any(map(is_mixed, parts)):
        return np.concatenate(parts)
    return rows_of([row for part in parts for row in part])


def of_one_size(feeds: Feeds) -> Iterator[dict[str, Array]]:
    """A batch as one or several in which all samples have one size, in their order."""
    mixed = [name for name, array in feeds.items() if is_mixed(array)]
    if not mixed:
        yield dict(feeds)
        return
    count = len(feeds[mixed[0]])
    shapes = [tuple(feeds[name][index].shape for name in mixed) for index in range(count)]
    ends = [*(index for index in range(1, count) if shapes[index] != shapes[index - 1]), count]
    start = 0
    for end in ends:
        part = {name: array[start:end] if _is_by_sample(array, count) else array for name, array in feeds.items()}
        yield {name: np.stack([*array]) if name in mixed else array for name, array in part.items()}
        start = end


def _is_by_sample(array: Array, count: int) -> bool:
    return array.ndim > 0 and len(array) == count


def numbers_in(arrays: Mapping[str, Array]) -> int:
    """How many numbers they hold."""
    return sum(sum(row.size for row in array) if is_mixed(array) else array.size for array in arrays.values())
