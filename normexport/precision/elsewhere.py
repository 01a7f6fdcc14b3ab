"""Runs of an ONNX model wherever samples are computed: the same bytes on one process and on a hundred."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from normexport.precision.numbered import Numbered
from normexport.runtime import Array, Feeds, OnnxRuntime, Runtime
from normexport.runtime.computed_by import computed_by
from normexport.runtime.elsewhere import as_bytes, from_bytes, require_same
from normexport.workers import Where, run_in_order

#: What one run is given, and what of inner values is wanted.
Run = tuple[Feeds, tuple[str, ...]]
#: What it gave, the seconds that it took, and what computed it.
Ran = tuple[dict[str, Array], float, str]
#: A batch by its number, what of inner values is wanted, and which inputs.
Read = tuple[int, tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True)
class ReadRun:
    """A run of samples that were read where it was computed.

    Attributes:
        values: outputs, what was wanted of inner values, and of inputs.
        seconds: in the runtime.
        samples: how many.
        shapes: of a sample, by input.
    """

    values: dict[str, Array]
    seconds: float
    samples: int
    shapes: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Elsewhere:
    """A model to be run in parts, each by one thread of ONNX Runtime."""

    where: Where
    model: ir.Model

    def run(self, runs: Iterable[Feeds], wanted: Collection[str]) -> Iterator[tuple[dict[str, Array], float]]:
        """Outputs and `wanted` values of each run, in their order, and the seconds that it took.

        Raises:
            UsageError: workers have other versions of ONNX Runtime, other processors or other native libraries.
        """
        names = tuple(wanted)
        first = ""
        parts = ((feeds, names) for feeds in runs)
        for values, seconds, computer in run_in_order(self.where, open_runs, as_bytes(self.model), parts):
            first = first or computer
            require_same(self.where, first, computer)
            yield values, seconds

    def run_numbered(
        self, data: Numbered, batches: Iterable[int], wanted: Collection[str], inputs: Collection[str]
    ) -> Iterator[tuple[list[ReadRun], dict[int, str]]]:
        """Runs of samples that the workers read themselves, in their order: numbers travel there, results back.

        With those of each batch comes what was left out of it.

        Args:
            batches: which of them, by number.
            inputs: those that are wanted too.

        Raises:
            UsageError: see `run`; a sample can't be read.
        """
        first = ""
        parts = ((batch, tuple(wanted), tuple(inputs)) for batch in batches)
        for runs, skipped, computer in run_in_order(self.where, open_batches, (as_bytes(self.model), data), parts):
            first = first or computer
            require_same(self.where, first, computer)
            yield runs, skipped


def read_runs(
    runtime: Runtime, data: Numbered, batch: int, wanted: Collection[str], inputs: Collection[str]
) -> tuple[list[ReadRun], dict[int, str]]:
    """The runs of one batch, several where its samples have several sizes; and what was left out of it, by number."""
    found: list[ReadRun] = []
    skipped: dict[int, str] = {}
    for feeds in data.read(batch, skipped if data.skips else None):
        start = time.perf_counter()
        values = runtime.run(feeds, wanted)
        seconds = time.perf_counter() - start
        shapes = tuple(array.shape[1:] for array in feeds.values())
        held = {name: np.asarray(feeds[name]) for name in inputs}
        found.append(ReadRun({**values, **held}, seconds, len(next(iter(feeds.values()))), shapes))
    return found, skipped


def open_batches(job: tuple[bytes, Numbered]) -> Callable[[Read], tuple[list[ReadRun], dict[int, str], str]]:
    """What reads and computes a batch, with the model open."""
    model, data = from_bytes(job[0]), job[1]
    runtime, computer = OnnxRuntime(model, threads=1), computed_by(model)
    return lambda part: (*read_runs(runtime, data, *part), computer)


def open_runs(model: bytes) -> Callable[[Run], Ran]:
    """What computes a run, with the model open."""
    opened = from_bytes(model)
    runtime, computer = OnnxRuntime(opened, threads=1), computed_by(opened)

    def run(part: Run) -> Ran:
        feeds, wanted = part
        start = time.perf_counter()
        values = runtime.run(feeds, wanted)
        return values, time.perf_counter() - start, computer

    return run
