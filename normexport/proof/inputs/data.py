"""The user's own inputs, whole in memory: from whatever a path names (`io.data_sources`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from normexport.errors import UsageError
from normexport.io.data_sources import Kind, source_at
from normexport.io.numpy_files import StoredArray, opened_arrays
from normexport.io.opening import File
from normexport.io.preprocess import UNSAID, Preprocess
from normexport.onnx_export import InputSpec, smallest_batch
from normexport.proof.inputs.batches import arrays_of, check_shape, fitting_dtype, refuse_nan, repeats, samples_in
from normexport.proof.inputs.by_number import samples_at
from normexport.proof.inputs.folders import FolderSamples, open_folder, samples_for
from normexport.proof.inputs.mixed import joined_rows, rows_of
from normexport.runtime import Array, Feeds
from normexport.runtime.memory import available_memory

T = TypeVar("T")

_LOAD_AT_A_TIME = 16  # images
_SHARE = 2  # what is left of the memory that is free must hold the model and its results


def load_data(path: str | Path, specs: Sequence[InputSpec], prepared: Preprocess = UNSAID) -> dict[str, Array]:
    """Real inputs from whatever a path names: (samples, *shape) by input name.

    Samples of their own may be of several sizes (`normexport.proof.inputs.mixed`), where the model leaves them open.

    Args:
        prepared: what is done to images.

    Raises:
        UsageError: see `load_arrays`; there is what is no sample, or more than fits into memory.
    """
    source = source_at(path)
    if source.by_file:
        return _load_folder(samples_for(source, specs, prepared))
    if source.is_one_file_of_arrays:
        return load_arrays(source.files[0], specs)
    return _load_rows(str(path), specs, prepared)


def load_arrays(path: str | Path, specs: Sequence[InputSpec]) -> dict[str, Array]:
    """Real inputs from an .npz (or, for a model of one input, .npy) file: arrays (samples, *shape) by input name.

    A file with one array serves a model with one input, whatever the array's name.

    Raises:
        UsageError: unreadable file, missing or unknown names, wrong shape or dtype, different numbers of samples.
    """
    with opened_arrays(Path(path)) as stored:
        chosen = arrays_of(str(path), stored, specs)
        rows = max((array.shape[0] for array in chosen.values() if array.shape), default=1)
        size = sum(array.nbytes for array in chosen.values())
        _require_room(str(path), rows, size / max(rows, 1), available_memory())
        checked = {spec.name: _whole(str(path), spec, chosen[spec.name]) for spec in specs}
    counts = {samples_in(spec, checked[spec.name].shape) for spec in specs if spec.batched}
    counts |= {repeats(spec, checked[spec.name].shape) for spec in specs if not spec.batched} - {1}
    if len(counts) > 1:
        raise UsageError(str(path), f"its arrays hold {sorted(counts)} samples", "save as many of each input")
    least = smallest_batch(specs)
    if counts and any(spec.batched for spec in specs) and min(counts) < least:
        cause = f"its arrays hold {min(counts)} samples, and the model takes {least} at least"
        raise UsageError(str(path), cause, "save more of them")
    return checked


def shapes_in(path: str | Path, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Whole shapes of the arrays of a file that are called so, or of its single one for a single name; headers alone.

    A folder of arrays tells by them, with their number in front; one of images, or of several shapes, tells nothing,
    and neither do tables. Of several files of arrays the first tells.

    Raises:
        UsageError: unreadable file; see `told_by`.
    """
    source = source_at(path)
    if source.kind is Kind.TABLES:
        return {}
    if source.by_file:
        folder = open_folder(path)
        arrays = folder.arrays if len(names) == 1 else ()
        shapes = {shape for each in told_by(arrays, lambda file: _shapes_in(file, names)) for shape in each.values()}
        if len(shapes) != 1:
            return {}
        return {names[0]: (len(folder.files), *shapes.pop())}
    return _shapes_in(source.files[0], names)


def told_by(files: Iterable[File], look: Callable[[File], T]) -> list[T]:
    """What each of the files tells that can be read: of samples a file, others have their turn yet, or are left out.

    Raises:
        UsageError: of the first, where none can be read.
    """
    found: list[T] = []
    failed: list[UsageError] = []
    for file in files:
        try:
            found.append(look(file))
        except UsageError as error:
            failed.append(error)
    if failed and not found:
        raise failed[0]
    return found


def _shapes_in(file: File, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    with opened_arrays(file) as stored:
        if len(stored) == len(names) == 1:
            return {names[0]: next(iter(stored.values())).shape}
        return {name: stored[name].shape for name in names if name in stored}


def _whole(path: str, spec: InputSpec, stored: StoredArray) -> Array:
    check_shape(path, spec, stored.shape, repeated=True)
    array = stored.read(fitting_dtype(path, spec, stored.dtype))
    refuse_nan(path, spec, array, 0)
    return array


def _load_folder(samples: FolderSamples) -> dict[str, Array]:
    """All samples of a folder, each read into the place that it will lie in; of several sizes, each into its own."""
    name, folder, free = samples.spec.name, str(samples.folder.path), available_memory()
    whole, rows, read, size = np.empty(0), list[Array](), 0, 0
    for feeds in samples.batches(_LOAD_AT_A_TIME):
        part = feeds[name]
        size += part.nbytes
        _require_room(folder, samples.most_rows, size / (read + len(part)), free)
        if not read:
            whole = np.empty((samples.most_rows, *part.shape[1:]), part.dtype)
        if not rows and part.shape[1:] != whole.shape[1:]:
            rows = [*whole[:read]]
        if rows:
            rows += [*part]
        else:
            whole[read : read + len(part)] = part
        read += len(part)
    if not read:
        raise UsageError(folder, "holds no whole batch of the model", "give more samples")
    return {name: rows_of(rows) if rows else whole[:read]}


def _load_rows(path: str, specs: Sequence[InputSpec], prepared: Preprocess) -> dict[str, Array]:
    """All samples of several files of arrays, or of tables."""
    samples, free = samples_at(path, specs, prepared), available_memory()
    rows: list[Feeds] = []
    size = 0
    for number in range(samples.count):
        for feeds in samples.read(number):
            rows.append(feeds)
            size += sum(array.nbytes for array in feeds.values())
        _require_room(path, samples.count, size / len(rows), free)
    if not rows:
        raise UsageError(path, "holds no samples", "give at least one")
    varying = [spec.name for spec in specs if spec.batched] or [spec.name for spec in specs]
    return {
        spec.name: joined_rows([row[spec.name] for row in rows]) if spec.name in varying else rows[0][spec.name]
        for spec in specs
    }


def _require_room(place: str, count: int, each: float, free: int | None) -> None:
    """Refuse more samples than fit into memory, by what one takes (bytes), or those read so far.

    Raises:
        UsageError: it is more than half of what is free.
    """
    if free is not None and _SHARE * count * each > free:
        cause = f"holds {count} samples, {count * each / 1e9:.1f} GB in memory, and {free / 1e9:.1f} GB are free"
        remedy = "give fewer, or a model of an open batch, for which they are read as their turn comes"
        raise UsageError(place, cause, remedy)
