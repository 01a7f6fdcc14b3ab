"""Arrays of an .npz or .npy file read a few samples at a time, packed or not: memory holds one slice of each."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path

from normexport.errors import UsageError
from normexport.io.numpy_files import StoredArray, opened_arrays
from normexport.onnx_export import InputSpec
from normexport.proof.inputs.batches import arrays_of, check_shape, fitting, repeats
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
    A model of a fixed batch gets that many at a time, from arrays that hold several of them.

    Raises:
        UsageError: unreadable or broken, missing names, wrong shape or dtype, different numbers of samples, NaN.
    """
    with opened_arrays(path) as stored:
        arrays = arrays_of(str(path), stored, specs)
        total = _count(path, specs, arrays)
        is_open = any(spec.batched for spec in specs)
        size = size if is_open else 1
        taken = {spec.name: 1 if spec.batched else spec.shape[0] for spec in specs if _varies(spec, arrays, is_open)}
        fixed = {
            spec.name: fitting(str(path), spec, arrays[spec.name].read()) for spec in specs if spec.name not in taken
        }
        for first in range(0, total, size):
            feeds = dict(fixed)
            for spec in specs:
                if spec.name in taken:
                    rows = taken[spec.name] * min(size, total - first)
                    feeds[spec.name] = fitting(str(path), spec, arrays[spec.name].take(rows), first)
            yield {spec.name: feeds[spec.name] for spec in specs}


def picked_from(path: Path, specs: Sequence[InputSpec]) -> Generator[Feeds | UsageError, int, None]:
    """Single samples by number, in ascending order: sent a number, it gives that sample, or what is wrong with it.

    Samples between those that are asked for are passed over unseen. A model of a fixed batch gets that.

    Raises:
        UsageError: of `slices_of`, what is not of one sample alone.
    """
    with opened_arrays(path) as stored:
        arrays = arrays_of(str(path), stored, specs)
        total = _count(path, specs, arrays)
        is_open = any(spec.batched for spec in specs)
        taken = {spec.name: 1 if spec.batched else spec.shape[0] for spec in specs if _varies(spec, arrays, is_open)}
        fixed = {
            spec.name: fitting(str(path), spec, arrays[spec.name].read()) for spec in specs if spec.name not in taken
        }
        at = 0
        number = yield {}
        while number < total:
            for name, rows in taken.items():
                arrays[name].skip((number - at) * rows)
            rows_of = {name: arrays[name].take(rows) for name, rows in taken.items()}
            at = number + 1
            number = yield _fitted(path, specs, rows_of, fixed, number)


def _fitted(path: Path, specs: Sequence[InputSpec], rows: Feeds, fixed: Feeds, number: int) -> Feeds | UsageError:
    try:
        return {
            spec.name: fitting(str(path), spec, rows[spec.name], number) if spec.name in rows else fixed[spec.name]
            for spec in specs
        }
    except UsageError as error:
        return error


def _varies(spec: InputSpec, arrays: Mapping[str, StoredArray], is_open: bool) -> bool:
    """Whether the input is fed other numbers at each batch; `is_open`: some input's batch is."""
    return spec.batched or (not is_open and repeats(spec, arrays[spec.name].shape) > 1)


def _count(path: Path, specs: Sequence[InputSpec], arrays: Mapping[str, StoredArray]) -> int:
    is_open = any(spec.batched for spec in specs)
    for spec in specs:
        check_shape(str(path), spec, arrays[spec.name].shape, repeated=not is_open)
    counts = {arrays[spec.name].shape[0] for spec in specs if spec.batched}
    if not is_open:
        counts = {repeats(spec, arrays[spec.name].shape) for spec in specs} - {1} or {1}
    if len(counts) > 1:
        raise UsageError(str(path), f"its arrays hold {sorted(counts)} samples", "save as many of each input")
    return counts.pop()
