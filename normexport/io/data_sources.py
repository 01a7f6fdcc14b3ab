"""What a path of data names: a file of arrays, a folder of samples, shards, tables, or many of them by a pattern.

    images/           a sample a file
    test.npz          arrays by input name; *.npz: one after the other
    shards/           a folder of .tar shards (WebDataset), of .parquet files or of .npz files
    "shards/*.tar"    the same by a pattern, as a shell has them

Of many files the samples are numbered through, in the order of their names.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from normexport.errors import UsageError
from normexport.io.images import SUFFIXES
from normexport.io.parquet_tables import is_parquet
from normexport.io.tar_archives import is_tar

#: What the array or the column of labels may be called.
LABELS = ("labels", "label", "y", "targets")
#: Labels of a folder without classes: an entry a sample, in the order of names.
LABELS_FILE = "labels.npy"
_MOST_FILES = 1 << 20


class Kind(Enum):
    """How the samples lie in files."""

    ARRAYS = "files of arrays"
    SAMPLES = "samples, one a file"
    SHARDS = "tar shards"
    TABLES = "Parquet files"


_KINDS = {".npz": Kind.ARRAYS, ".tar": Kind.SHARDS, ".parquet": Kind.TABLES, ".npy": Kind.SAMPLES}
_KINDS |= dict.fromkeys(SUFFIXES, Kind.SAMPLES)


@dataclass(frozen=True)
class Source:
    """Files of one kind.

    Attributes:
        path: what was given.
        files: those of it; of a folder of samples the folder itself.
        is_pattern: whether a pattern named them.
    """

    path: Path
    kind: Kind
    files: tuple[Path, ...]
    is_pattern: bool = False

    @property
    def is_one_file_of_arrays(self) -> bool:
        """Whether it is an .npz or .npy file."""
        return self.kind is Kind.ARRAYS and len(self.files) == 1

    @property
    def by_file(self) -> bool:
        """Whether each sample is a file, of its own or in a shard."""
        return self.kind in (Kind.SAMPLES, Kind.SHARDS)


def source_at(path: str | Path) -> Source:
    """What lies there; no sample is read.

    Raises:
        UsageError: nothing does, or files of several kinds.
    """
    given = Path(path)
    if given.is_dir():
        files = _in_folder(given)
        return Source(given, _kind_of(given, files), files) if files else Source(given, Kind.SAMPLES, (given,))
    if is_pattern(path):
        files = _matching(str(path))
        return Source(given, _kind_of(given, files), files, is_pattern=True)
    if is_parquet(given):
        return Source(given, Kind.TABLES, (given,))
    if given.suffix.lower() == ".tar" or is_tar(given):
        return Source(given, Kind.SHARDS, (given,))
    return Source(given, Kind.ARRAYS, (given,))


def is_pattern(path: str | Path) -> bool:
    """Whether a path is a pattern of others, and not one itself."""
    return glob.has_magic(str(path)) and not Path(path).exists()


def _in_folder(folder: Path) -> tuple[Path, ...]:
    """Its shards, tables or files of arrays; none where it is a folder of samples, or of classes."""
    try:
        with os.scandir(folder) as found:
            entries = sorted((entry.name, entry.is_dir()) for entry in found if not entry.name.startswith("."))
    except OSError as error:
        raise UsageError(str(folder), f"can't be read ({error.strerror or error})", "check its permissions") from error
    kinds = [_KINDS.get(Path(name).suffix.lower()) for name, _ in entries]
    if Kind.SAMPLES in kinds or any(is_folder for _, is_folder in entries):
        return ()
    return tuple(folder / name for (name, _), kind in zip(entries, kinds, strict=True) if kind is not None)


def _matching(pattern: str) -> tuple[Path, ...]:
    found = (name for name in glob.iglob(pattern, recursive=True) if os.path.isfile(name))
    files = sorted(name for name in found if os.path.basename(name) != LABELS_FILE)
    if not files:
        raise UsageError(pattern, "is a pattern that no file has", "check it, and quote it")
    if len(files) > _MOST_FILES:
        raise UsageError(pattern, f"names {len(files)} files", "write samples into shards: WebDataset, Parquet")
    return tuple(map(Path, files))


def _kind_of(path: Path, files: Sequence[Path]) -> Kind:
    first = _KINDS.get(files[0].suffix.lower())
    if first is None:
        raise UsageError(str(files[0]), "is no sample", "give .npz, .npy, images, .tar shards or .parquet")
    for file in files:
        if _KINDS.get(file.suffix.lower()) is not first:
            cause = f"names files of several kinds ({files[0].name}, {file.name})"
            raise UsageError(str(path), cause, "give those of one")
    return first
