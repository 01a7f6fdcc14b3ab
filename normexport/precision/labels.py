"""What is right for each sample: a class, a map of classes, or numbers; from a file of arrays or a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from normexport.errors import UsageError
from normexport.io.data_sources import LABELS, Kind, source_at
from normexport.io.numpy_files import StoredArray, opened_arrays
from normexport.proof.inputs.folders import samples_of
from normexport.proof.inputs.tables import labels_in_tables
from normexport.runtime import Array


@dataclass(frozen=True)
class Labelled:
    """Labels (samples, ...), and the output that they belong to; None: the only one that can be meant.

    Attributes:
        metric: one of `METRICS`, or a function(output, labels) -> number; None: top1 of classes, iou of maps of them.
        classes: the names of a folder's classes; () where labels are numbers of a file.
    """

    labels: Array
    output: str | None = None
    metric: str | Callable[..., Any] | None = None
    classes: tuple[str, ...] = ()


def labels_in(path: str | Path) -> Array | None:
    """The labels of files of arrays, of a folder with classes or a file `labels.npy`, of shards or of tables.

    Whole numbers and truth values come as int64, (samples,) or (samples, ...); others as float64; None: there are none.

    Raises:
        UsageError: unreadable, not numbers, one for all samples, NaN; files of which some have labels.
    """
    source = source_at(path)
    if source.by_file:
        folder = samples_of(source)
        if folder.labels:
            return np.array(folder.labels, np.int64)
        if folder.labels_file is None:
            return None
        with opened_arrays(folder.labels_file) as stored:
            return _read(str(folder.labels_file), next(iter(stored.values())))
    if source.kind is Kind.TABLES:
        found = labels_in_tables(source.files)
        return None if found is None else _plain(str(path), found)
    parts = [_labels_of(file) for file in source.files]
    known = [part for part in parts if part is not None]
    if known and len(known) < len(parts):
        lacking = source.files[next(at for at, part in enumerate(parts) if part is None)]
        raise UsageError(str(lacking), "holds no array labels, and others beside it do", "save labels in each")
    if len({part.shape[1:] for part in known}) > 1:
        raise UsageError(str(path), "holds labels of several shapes", "save labels of one in all of its files")
    return np.concatenate(known) if known else None


def _labels_of(path: Path) -> Array | None:
    with opened_arrays(path) as stored:
        name = next((name for name in LABELS if name in stored), None)
        return None if name is None else _read(f"{path}: array {name}", stored[name])


def _read(place: str, array: StoredArray) -> Array:
    if not array.shape or array.dtype.kind not in "iubf" or 0 in array.shape[1:]:
        cause = f"is of shape {array.shape} and type {array.dtype}"
        raise UsageError(place, cause, "labels are numbers, one entry per sample: classes, maps of classes, values")
    return _plain(place, array.read(np.dtype(np.float64 if array.dtype.kind == "f" else np.int64)))


def _plain(place: str, array: Array) -> Array:
    if array.dtype.kind == "f":
        values = array.astype(np.float64, copy=False)
        wrong = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1)) if values.size else values
        if wrong.size:
            raise UsageError(place, f"is not finite, first in sample {wrong[0]}", "leave such samples out")
        return values
    whole: Array = array.astype(np.int64, copy=False)
    return whole.reshape(-1) if array.shape[1:] == (1,) else whole
