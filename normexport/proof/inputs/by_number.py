"""Samples by number, from whatever a path names: what every process can read for itself, in any order.

A sample is read when it is asked for, and not kept. Numbers go through all files, in the order of their names; so a
batch is the same wherever it is read, and what travels to other processes is numbers.
"""

from __future__ import annotations

import bisect
import json
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

from normexport.errors import UsageError
from normexport.io.data_sources import Kind, source_at
from normexport.io.opening import File
from normexport.io.preprocess import Preprocess
from normexport.onnx_export import InputSpec
from normexport.proof.inputs.folders import FolderSamples, samples_for
from normexport.proof.inputs.npz_stream import count_in, picked_from
from normexport.proof.inputs.tables import TableSamples
from normexport.runtime import Feeds


class Samples(Protocol):
    """Samples that every process can read by their numbers, from 0 on; it travels there as a pickle.

    Attributes:
        specs: the model's inputs.
        count: how many samples; of a model of a fixed batch, how many batches of it.
    """

    @property
    def specs(self) -> Sequence[InputSpec]: ...
    @property
    def count(self) -> int: ...

    def read(self, number: int) -> Iterable[Feeds]:
        """A sample as a batch of one, or a fixed batch.

        Raises:
            UsageError: it can't be read, or does not fit the model.
        """
        ...

    def name(self, number: int) -> str:
        """What a message calls a sample."""
        ...

    def identity(self) -> str:
        """What tells these samples from others, without reading them: the same on every machine that has them."""
        ...


def samples_at(path: str | Path, specs: Sequence[InputSpec], prepared: Preprocess | None = None) -> Samples:
    """The samples that a path names (`io.data_sources`).

    Args:
        prepared: what is done to images.

    Raises:
        UsageError: unreadable, or of another shape or type than the model reads.
        MissingComponent: pyarrow is not installed, which Parquet files are read by.
    """
    source = source_at(path)
    if source.by_file:
        return ImageSamples(samples_for(source, specs, prepared))
    one = FileSamples if source.kind is Kind.ARRAYS else TableSamples.reading(prepared)
    parts = [one(file, tuple(specs)) for file in source.files]
    return parts[0] if len(parts) == 1 else ChainedSamples(tuple(parts))


@dataclass(frozen=True)
class ImageSamples:
    """The samples of a folder, images or arrays."""

    folder: FolderSamples

    @property
    def specs(self) -> Sequence[InputSpec]:
        return (self.folder.spec,)

    @property
    def count(self) -> int:
        return self.folder.count()

    def read(self, number: int) -> Iterable[Feeds]:
        only = replace(self.folder.folder, files=self._files(number))
        return list(FolderSamples(only, self.folder.spec, self.folder.asked).batches(1))

    def name(self, number: int) -> str:
        return self.folder.folder.name(number * self.folder.at_a_time)

    def identity(self) -> str:
        folder = self.folder.folder
        if folder.archives:
            files = [(archive.name, archive.stat().st_size) for archive in folder.archives]
        else:
            files = [(folder.name(number), file.stat().st_size) for number, file in _on_disk(folder.files)]
        return json.dumps([files, None if self.folder.steps is None else self.folder.steps.as_dict()])

    def _files(self, number: int) -> Sequence[File]:
        each = self.folder.at_a_time
        return self.folder.folder.files[number * each : (number + 1) * each]


@dataclass
class FileSamples:
    """The samples of an .npz or .npy file, which is read from its first to its last, and then from the first again."""

    path: Path
    specs: Sequence[InputSpec]
    _behind: int = field(default=0, repr=False)
    _rest: Generator[Feeds | UsageError, int, None] | None = field(default=None, repr=False)

    @cached_property
    def count(self) -> int:
        return count_in(self.path, self.specs)

    def read(self, number: int) -> Iterable[Feeds]:
        if self._rest is None or number < self._behind:
            self._rest = picked_from(self.path, self.specs)
            next(self._rest)
        self._behind = number + 1
        rest, self._rest = self._rest, None  # where it is damaged, nothing more comes of it
        try:
            found = rest.send(number)
        except StopIteration:
            raise UsageError(
                str(self.path), f"holds no sample {number}", "give the file that the run began with"
            ) from None
        self._rest = rest
        if isinstance(found, UsageError):
            raise found
        return [found]

    def name(self, number: int) -> str:
        return f"{self.path.name}: sample {number}"

    def identity(self) -> str:
        return json.dumps([self.path.name, self.path.stat().st_size])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_behind": 0, "_rest": None}


@dataclass(frozen=True)
class ChainedSamples:
    """The samples of several files, numbered through."""

    parts: tuple[Samples, ...]

    @property
    def specs(self) -> Sequence[InputSpec]:
        return self.parts[0].specs

    @property
    def count(self) -> int:
        return self._ends[-1]

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(part.count for part in self.parts))

    def read(self, number: int) -> Iterable[Feeds]:
        part, rest = self._place(number)
        return part.read(rest)

    def name(self, number: int) -> str:
        part, rest = self._place(number)
        return part.name(rest)

    def identity(self) -> str:
        return json.dumps([part.identity() for part in self.parts])

    def _place(self, number: int) -> tuple[Samples, int]:
        at = bisect.bisect_right(self._ends, number)
        return self.parts[at], number - (self._ends[at - 1] if at else 0)


def _on_disk(files: Sequence[File]) -> Iterator[tuple[int, Path]]:
    for number, file in enumerate(files):
        if isinstance(file, Path):
            yield number, file
