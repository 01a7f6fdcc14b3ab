"""Samples of a source that are read as their turn comes: which are meant, which can't be read, which are kept.

What judges is run again for each candidate. Few and small samples are therefore kept in memory; of others one batch is
there at a time, however many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from normexport.errors import UsageError
from normexport.io.preprocess import Preprocess
from normexport.onnx_export import InputSpec
from normexport.onnx_export.inputs import ANY_BATCH
from normexport.precision.config import ALL, Draw
from normexport.precision.numbered import Numbered, numbered, require_few, samples_by_number
from normexport.precision.samples import Batches
from normexport.progress import counted
from normexport.proof.inputs.by_number import Samples
from normexport.proof.inputs.folders import FolderRead
from normexport.runtime import Feeds
from normexport.workers import LOCAL, Where, run_parts

#: Bytes of samples that are kept in memory: 445 images of 3x224x224.
MOST_KEPT = 1 << 28
_PARTS = 256  # of a search for samples that can't be read, at most


def is_streamed(specs: Sequence[InputSpec]) -> bool:
    """Whether samples of a model can be picked one by one: every input has an open batch on its first axis."""
    return all(spec.batched and spec.axes == (0,) and spec.batch == ANY_BATCH for spec in specs)


def stream_of(
    source: str | Path | Iterable[Any],
    specs: Sequence[InputSpec],
    batch: int,
    draw: Draw = ALL,
    prepared: Preprocess | None = None,
) -> Numbered | None:
    """The samples that are meant; None where the model's inputs do not let them be picked.

    Args:
        source: see `samples_by_number`.
        batch: samples at a time.
        prepared: what is done to images.

    Raises:
        UsageError: see `samples_by_number`; there are none; some are asked for where None is all there is.
    """
    if is_streamed(specs):
        place = str(source) if isinstance(source, (str, Path)) else "calibration data"
        samples = samples_by_number(source, specs, prepared)
        return replace(numbered(samples, batch, draw.samples, draw.seed, place=place), skips=draw.skip_bad)
    if draw.option:
        cause = "is for models of which every input has an open batch on its first axis"
        raise UsageError(draw.option, cause, "give those samples alone")
    return None


def without_unreadable(data: Numbered, where: Where = LOCAL) -> tuple[Numbered, tuple[str, ...]]:
    """The samples that can be read, and a line on each other one; all of them, unseen, where none may be left out.

    Args:
        where: which processes read them.

    Raises:
        UsageError: none can be read, or fewer than must be.
    """
    if not data.skips:
        return data, ()
    size = max(data.batch, -(-len(data.numbers) // _PARTS))
    looked_at = replace(data, batch=size)
    parts = counted("looking for samples that can't be read", iter(range(looked_at.batches)), looked_at.batches)
    found: dict[int, str] = {}
    for _, unreadable in run_parts(where, open_reading, looked_at, parts):
        found |= unreadable
        require_few(found, data.skips)
    left = [number for number in data.numbers if number not in found]
    if not left:
        raise UsageError("the data", "holds no samples that can be read", "give at least one")
    return replace(data, numbers=left, skips=0), tuple(line for _, line in sorted(found.items()))


def open_reading(data: Numbered) -> Callable[[int], dict[int, str]]:
    """What reads a batch, and says of which samples that can't be done."""

    def read(batch: int) -> dict[int, str]:
        skipped: dict[int, str] = {}
        for _ in data.read(batch, skipped):
            pass
        return skipped

    return read


def kept_in_memory(data: Numbered) -> Numbered:
    """The same samples, each read once, where all of them take at most `MOST_KEPT` bytes; else as they are.

    Raises:
        UsageError: one can't be read.
    """
    rows: dict[int, list[Feeds]] = {}
    size = 0
    for number in data.numbers:
        rows[number] = list(data.samples.read(number))
        size += sum(array.nbytes for feeds in rows[number] for array in feeds.values())
        if size > MOST_KEPT or (len(rows) == 1 and size * len(data.numbers) > MOST_KEPT):
            return data
    return replace(data, samples=KeptSamples(data.samples, rows))


@dataclass(frozen=True)
class KeptSamples:
    """Samples of which some are in memory. Other processes get what they came from, and read for themselves."""

    source: Samples
    rows: Mapping[int, Sequence[Feeds]]

    @property
    def specs(self) -> Sequence[InputSpec]:
        return self.source.specs

    @property
    def count(self) -> int:
        return self.source.count

    def read(self, number: int) -> Iterable[Feeds]:
        return self.rows[number] if number in self.rows else self.source.read(number)

    def name(self, number: int) -> str:
        return self.source.name(number)

    def identity(self) -> str:
        return self.source.identity()

    def __reduce__(self) -> tuple[Callable[[Samples], Samples], tuple[Samples]]:
        return _itself, (self.source,)


def batches_by_number(data: Numbered, read: FolderRead | None = None) -> Batches:
    """The samples as a stream of batches.

    Args:
        read: what they are, where they come from a folder.
    """

    def stream() -> Iterator[Feeds]:
        for batch in range(data.batches):
            yield from data.read(batch)

    return Batches(stream, len(data.numbers), read)


def _itself(samples: Samples) -> Samples:
    return samples
