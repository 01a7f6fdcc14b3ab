"""Arrays of an .npz or .npy file read a few samples at a time, packed or not: memory holds one slice of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from normexport.errors import UsageError
from normexport.io.numpy_files import StoredArray, opened_arrays
from normexport.onnx_export import InputSpec
from normexport.proof.inputs.batches import arrays_of, check_shape, fitting
from normexport.runtime import Feeds


def count_in(path: Path, specs: Sequence[InputSpec]) -> int:
    """How many samples the file holds for these inputs; reads headers alone.

    Raises:
        UsageError: see `slices_of`.
    """
    with opened_arrays(path) as stored:
        return _count(path, specs, arrays_of(str(path), stored, specs))


def slices_of(path: Path, specs: Sequence[InputSpec], size: int) -> Iterator[Feeds]:
    """Batches of at most `size` samples, arrays by input name; other arrays of the file are not read.

    A file of one array serves a model of one input, whatever the array's name. Arrays in column order are read whole.

    Raises:
        UsageError: unreadable or broken, missing names, wrong shape or dtype, different numbers of samples, NaN.
    """
    with opened_arrays(path) as stored:
        arrays = arrays_of(str(path), stored, specs)
        total = _count(path, specs, arrays)
        fixed = {spec.name: fitting(str(path), spec, arrays[spec.name].read()) for spec in specs if not spec.batched}
        for first in range(0, total, size):
            feeds = dict(fixed)
            for spec in specs:
                if spec.batched:
                    feeds[spec.name] = fitting(str(path), spec, arrays[spec.name].take(min(size, total - first)), first)
            yield {spec.name: feeds[spec.name] for spec in specs}


def _count(path: Path, specs: Sequence[InputSpec], arrays: Mapping[str, StoredArray]) -> int:
    for spec in specs:
        check_shape(str(path), spec, arrays[spec.name].shape)
    counts = {arrays[spec.name].shape[0] for spec in specs if spec.batched} or {1}
    if len(counts) > 1:
        raise UsageError(str(path), f"its arrays hold {sorted(counts)} samples", "save as many of each input")
    return counts.pop()
