"""Calibration data as a stream of batches: what a path names (`io.data_sources`), or any iterable.

Of each of them one batch is in memory at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from normexport.errors import UsageError
from normexport.io.data_sources import source_at
from normexport.io.preprocess import Preprocess
from normexport.onnx_export import InputSpec
from normexport.precision.config import Int8
from normexport.proof.inputs.batches import check_shape, fitting, fixed_batches_in, names_in, slice_batches
from normexport.proof.inputs.by_number import samples_at
from normexport.proof.inputs.folders import FolderRead, samples_for
from normexport.proof.inputs.mixed import of_one_size
from normexport.proof.inputs.npz_stream import count_in, slices_of
from normexport.runtime import Array, Feeds


@dataclass(frozen=True)
class Batches:
    """Makes a fresh stream of batches at each call.

    Attributes:
        count: how many samples that will be, where it is known.
        read: what they are, where they come from a folder.
    """

    make: Callable[[], Iterator[Feeds]]
    count: int | None = None
    read: FolderRead | None = field(default=None, compare=False)

    def __call__(self) -> Iterator[Feeds]:
        return self.make()


def batches_of(
    source: str | Path | Iterable[Any],
    specs: Sequence[InputSpec],
    batch: int = Int8.batch,
    prepared: Preprocess | None = None,
) -> Batches:
    """Batches of at most `batch` samples, arrays by input name.

    Args:
        source: .npz (arrays by input name; others, as labels, are ignored) or .npy file; a folder with one sample
            per .npy file or image, in the order of their names, for a model of one input, also in subfolders; tar
            shards or Parquet files; a pattern of any of these; or an iterable of samples (arrays, or dicts by input
            name), which must give the same samples again at each iteration. Samples of open sizes may differ in them:
            a batch holds one size.
        specs: the model's inputs. One without a free batch dimension is fed one sample at a time, of images as many as
            its batch has.
        prepared: what is done to images; None: as `Preprocess` does by default.

    Raises:
        UsageError: unreadable, or nothing of the model's shape and type in it; of a single sample, when the stream
            reaches it.
    """
    size = batch if all(spec.batched for spec in specs) else 1
    if not isinstance(source, (str, Path)):
        count = len(source) if isinstance(source, Sized) else None
        return Batches(lambda: _group((as_feeds(sample, specs) for sample in source), specs, size), count)
    found = source_at(source)
    if found.is_one_file_of_arrays:
        return Batches(lambda: slices_of(found.files[0], specs, size), count_in(found.files[0], specs))
    if found.by_file:
        files = samples_for(found, specs, prepared)
        return Batches(lambda: files.batches(size), files.count(), files.read())
    rows = samples_at(source, specs, prepared)
    is_open = any(spec.batched for spec in specs)

    def stream() -> Iterator[Feeds]:
        singles = (feeds for number in range(rows.count) for feeds in rows.read(number))
        if not is_open:
            return iter(singles)
        alone = ({s.name: feeds[s.name][0] if s.batched else feeds[s.name] for s in specs} for feeds in singles)
        return _group(alone, specs, size)

    return Batches(stream, rows.count)


def batches_in(arrays: Mapping[str, Array], specs: Sequence[InputSpec], batch: int = Int8.batch) -> Batches:
    """Batches of arrays that are in memory, by input name, checked already.

    A model of a fixed batch is fed that many at a time, and a sample is what it is fed.
    """
    counts = [len(arrays[spec.name]) for spec in specs if spec.batched]
    if not counts:
        return Batches(lambda: slice_batches(specs, arrays, batch), fixed_batches_in(specs, arrays))
    count = min(counts)

    def stream() -> Iterator[Feeds]:
        for start in range(0, count, batch):
            yield from of_one_size(
                {s.name: arrays[s.name][start : start + batch] if s.batched else arrays[s.name] for s in specs}
            )

    return Batches(stream, count)


def digest_of(batches: Batches) -> str:
    """What `calibrate` records as the digest of the data, without running the model."""
    digest = hashlib.sha256()
    for feeds in batches():
        for array in feeds.values():
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _group(samples: Iterable[Feeds], specs: Sequence[InputSpec], size: int) -> Iterator[Feeds]:
    """Batches of samples of one size that follow each other."""
    group: list[Feeds] = []
    for sample in samples:
        if group and any(sample[spec.name].shape != group[0][spec.name].shape for spec in specs if spec.batched):
            yield _stack(group, specs)
            group = []
        group.append(sample)
        if len(group) == size:
            yield _stack(group, specs)
            group = []
    if group:
        yield _stack(group, specs)


def _stack(group: Sequence[Feeds], specs: Sequence[InputSpec]) -> Feeds:
    return {
        spec.name: np.stack([each[spec.name] for each in group]) if spec.batched else group[0][spec.name]
        for spec in specs
    }


def as_feeds(sample: Any, specs: Sequence[InputSpec]) -> Feeds:
    """A sample, an array or a dict of them by input name, checked; without a batch axis.

    Raises:
        UsageError: it lacks an input, or does not fit the model.
    """
    named = sample if isinstance(sample, dict) else {specs[0].name: sample}
    names = names_in(named, specs)
    missing = [spec.name for spec in specs if spec.name not in names]
    if missing:
        raise UsageError("calibration sample", f"lacks {', '.join(missing)}", "give an array for each input")
    return {spec.name: _one_sample("calibration sample", spec, np.asarray(named[names[spec.name]])) for spec in specs}


def _one_sample(place: str, spec: InputSpec, array: Array) -> Array:
    """One sample, checked as a batch of one is."""
    if not spec.batched:
        return fitting(place, spec, array)
    check_shape(place, replace(spec, batched=False), array.shape)
    one: Array = fitting(place, spec, array[None])[0]
    return one
