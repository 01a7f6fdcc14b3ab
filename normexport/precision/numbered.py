"""Samples by number, in batches that are fixed: whoever computes a batch, it has the same samples in it.

The statistics of live norms are those of a batch, so that a calibration in parts is the same as one in a single run
only if its batches are. They follow from the samples, the seed and the size of a batch, never from who runs them.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from normexport.errors import UsageError
from normexport.io.preprocess import Preprocess
from normexport.onnx_export import InputSpec
from normexport.precision.samples import as_feeds
from normexport.proof.inputs.batches import slice_batches
from normexport.proof.inputs.by_number import Samples, samples_at
from normexport.proof.inputs.mixed import joined_rows
from normexport.runtime import Array, Feeds
from normexport.text import one_line

_LISTED = 3  # samples in an error


@dataclass(frozen=True)
class Numbered:
    """Some of the samples, in their order, in batches.

    Attributes:
        samples: all of them.
        numbers: those that are meant, ascending.
        batch: how many at a time; 1 of a model of a fixed batch.
        skips: how many may be left out because they can't be read, where outputs are collected.
    """

    samples: Samples
    numbers: Sequence[int]
    batch: int
    skips: int = 0

    def at(self, places: Iterable[int]) -> Numbered:
        """Those of its samples that lie at these places among its numbers, counted from 0."""
        return replace(self, numbers=[self.numbers[place] for place in places])

    def rows(self, most: int | None = None, skipped: dict[int, str] | None = None) -> dict[str, Array]:
        """The first samples in memory: (samples, *shape) by input name; those that may be left out are passed over.

        Args:
            skipped: takes, by its number, a line for each of these.

        Raises:
            UsageError: see `read` and `require_few`; none can be read.
        """
        found: list[Feeds] = []
        skipped = {} if skipped is None else skipped
        alone = replace(self, batch=1)
        for place in range(len(self.numbers)):
            if most is not None and len(found) >= most:
                break
            found += alone.read(place, skipped if self.skips else None)
            require_few(skipped, self.skips)
        if not found:
            raise UsageError("the data", "holds no samples that can be read", "give at least one")
        return {spec.name: joined_rows([each[spec.name] for each in found]) for spec in self.samples.specs}

    @property
    def batches(self) -> int:
        """How many batches there are."""
        return -(-len(self.numbers) // self.batch)

    def of(self, batch: int) -> Sequence[int]:
        """The numbers of the samples of a batch."""
        return self.numbers[batch * self.batch : (batch + 1) * self.batch]

    def read(self, batch: int, skipped: dict[int, str] | None = None) -> Iterator[Feeds]:
        """The batch; as several where its samples have several sizes.

        Args:
            skipped: takes, by its number, a line for each sample that can't be read, which is then left out; None: that
                is an error.

        Raises:
            UsageError: a sample can't be read, or does not fit the model.
        """
        rows: list[Feeds] = []
        for number in self.of(batch):
            try:
                rows += self.samples.read(number)
            except UsageError as error:
                if skipped is None:
                    raise
                skipped[number] = one_line(f"{self.samples.name(number)}: {error.cause}")[:1000]
        yield from _in_one_size(rows, self.samples.specs)

    def digest(self) -> str:
        """What tells these batches from others."""
        numbers = ",".join(map(str, self.numbers))
        told = f"{self.samples.identity()}\n{self.batch}\n{numbers}"
        return hashlib.sha256(told.encode()).hexdigest()


def require_few(skipped: Mapping[int, str], most: int) -> None:
    """Refuse to leave out more samples than may be.

    Raises:
        UsageError: lists the first of them.
    """
    if len(skipped) > most:
        listed = "; ".join(line for _, line in sorted(skipped.items())[:_LISTED])
        raise UsageError(
            "the data", f"has more than {most} samples that can't be read: {listed}", "give --skip-bad more"
        )


def numbered(
    samples: Samples,
    batch: int,
    most: int | None = None,
    seed: int = 0,
    numbers: Sequence[int] | None = None,
    place: str = "calibration data",
) -> Numbered:
    """Samples in batches, all or as many as are asked for.

    Args:
        batch: samples at a time.
        most: samples at most, drawn by `seed`: those whose numbers have the least SHA-256 with the seed before them,
            the same on every machine and for every version of numpy.
        numbers: to draw from; None: all.
        place: what messages call the samples.

    Raises:
        UsageError: there are none.
    """
    known = range(samples.count) if numbers is None else numbers
    if not known:
        raise UsageError(place, "holds no samples", "give at least one")
    if most is not None and most < len(known):
        known = sorted(heapq.nsmallest(most, known, key=lambda number: _rank(seed, number)))
    return Numbered(samples, known, batch if all(spec.batched for spec in samples.specs) else 1)


def samples_by_number(
    source: str | Path | Iterable[Any], specs: Sequence[InputSpec], prepared: Preprocess | None = None
) -> Samples:
    """The samples of a source that has them by number.

    Args:
        source: a path (`io.data_sources`), or a sequence: what has a length, and gives samples by number, as lists
            and datasets of PyTorch do. Other processes get it pickled.
        prepared: what is done to images.

    Raises:
        UsageError: unreadable, or an iterable without numbers.
    """
    if not isinstance(source, (str, Path)):
        if not hasattr(source, "__len__") or not hasattr(source, "__getitem__"):
            cause = f"is a {type(source).__name__}, which has no numbers"
            raise UsageError("calibration data", cause, "give a sequence: __len__ and __getitem__")
        return SequenceSamples(source, tuple(specs))
    return samples_at(source, specs, prepared)


def arrays_by_number(arrays: Mapping[str, Array], specs: Sequence[InputSpec]) -> Samples:
    """The samples of arrays in memory, by input name, checked already."""
    return SequenceSamples(list(slice_batches(specs, arrays, 1)), tuple(specs), whole=True)


@dataclass(frozen=True)
class SequenceSamples:
    """Samples of an object that has them by number; `whole`: as batches of one already."""

    items: Any
    specs: Sequence[InputSpec]
    whole: bool = False

    @property
    def count(self) -> int:
        return len(self.items)

    def read(self, number: int) -> Iterable[Feeds]:
        item = self.items[number]
        if self.whole:
            return [item]
        feeds = as_feeds(item, self.specs)
        return [{spec.name: feeds[spec.name][None] if spec.batched else feeds[spec.name] for spec in self.specs}]

    def name(self, number: int) -> str:
        return f"sample {number}"

    def identity(self) -> str:
        return json.dumps([type(self.items).__qualname__, self.count])


def _rank(seed: int, number: int) -> bytes:
    return hashlib.sha256(f"{seed}:{number}".encode()).digest()


def _in_one_size(rows: Sequence[Feeds], specs: Sequence[InputSpec]) -> Iterator[Feeds]:
    """Batches of rows of one size that follow each other."""
    batched = [spec.name for spec in specs if spec.batched]
    if not batched:
        yield from rows
        return
    group: list[Feeds] = []
    for row in [*rows, None]:
        if group and (row is None or any(row[name].shape != group[0][name].shape for name in batched)):
            yield {
                spec.name: np.concatenate([each[spec.name] for each in group]) if spec.batched else group[0][spec.name]
                for spec in specs
            }
            group = []
        if row is not None:
            group.append(row)
