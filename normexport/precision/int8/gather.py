"""Calibrate in parts, here or on other processes, and add up what each has seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from normexport.errors import UsageError
from normexport.precision.int8.calibration import fingerprint, floating_values, require_finite, require_varied
from normexport.precision.int8.held_out import digests_of
from normexport.precision.int8.histogram import Histogram
from normexport.precision.int8.state import BatchesSeen, CalibrationState, merge, spans_of
from normexport.precision.numbered import Numbered
from normexport.runtime import Array, OnnxRuntime, release_memory
from normexport.runtime.computed_by import computed_by
from normexport.runtime.elsewhere import as_bytes, from_bytes
from normexport.workers import LOCAL, Where, run_parts

_PARTS = 256  # at most; the state of one travels to whoever adds them up
_SAVED_EVERY = 20.0  # seconds; the state of a ResNet-50 takes one to write
_LISTED = 3  # samples in an error; all are in the state

#: Batches of one part of the work, by their numbers.
Part = tuple[int, ...]


@dataclass(frozen=True)
class _Job:
    """What every process is given.

    Attributes:
        model: as bytes.
        data: samples in their batches; `name`: its digest.
        skips: whether samples that can't be read are passed over.
    """

    model: bytes
    data: Numbered
    name: str
    skips: bool


def gather(
    model: ir.Model,
    data: Numbered,
    where: Where = LOCAL,
    *,
    begun: CalibrationState | None = None,
    only: Callable[[int], bool] = lambda batch: True,
    skip_bad: int = 0,
    checkpoint: Path | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> CalibrationState:
    """The calibration state of a float32 model on samples: to the byte the same wherever it is computed.

    Each batch is computed by one thread, since ONNX Runtime may sum in another order with more.

    Args:
        begun: the state of some of the batches, to go on from.
        only: which batches are wanted, by their number.
        skip_bad: how many samples may be passed over because they can't be read.
        checkpoint: a file to which the state so far is written from time to time.
        on_batch: called with the number of samples seen.

    Raises:
        UsageError: see `calibrate`; more samples than `skip_bad` can't be read; `begun` is of something else.
        MissingComponent: ONNX Runtime or Ray is not installed.
    """
    job = _Job(as_bytes(model), data, data.digest(), skip_bad > 0)
    whole, done = begun, None if begun is None else begun.seen.get(job.name)
    if begun is not None and done is None:
        cause = "has seen other samples than these, or other batches of them"
        raise UsageError("the state to go on from", cause, "give the data and options that it was begun with")
    wanted = [each for each in range(data.batches) if only(each) and (done is None or each not in done)]
    saved = 0.0
    for _, state in run_parts(where, open_job, job, _parts(wanted, data.batches)):
        whole = state if whole is None else merge(whole, state)
        _require_few(whole, skip_bad)
        if checkpoint is not None and time.monotonic() - saved > _SAVED_EVERY:
            whole.save(checkpoint)
            saved = time.monotonic()
        if on_batch is not None:
            on_batch(len(whole.samples))
    if whole is None or not whole.samples:
        raise UsageError("calibration data", "holds no samples that can be read", "give at least one")
    require_varied(model, whole.tensors)
    return whole


def open_job(job: _Job) -> Callable[[Part], CalibrationState]:
    """What computes a part, with the model open."""
    model = from_bytes(job.model)
    runtime = OnnxRuntime(model, threads=1)
    names, arithmetic, digest = floating_values(model), computed_by(model), fingerprint(model)

    def compute(batches: Part) -> CalibrationState:
        tensors: dict[str, Histogram] = {}
        samples: list[str] = []
        skipped: dict[int, str] = {}

        def look(name: str, array: Array) -> None:
            if array.dtype.kind == "f":
                require_finite(name, array)
                tensors.setdefault(name, Histogram()).add(array.astype(np.float32, copy=False))

        for number in batches:
            for feeds in job.data.read(number, skipped if job.skips else None):
                samples += digests_of(feeds, job.data.samples.specs)
                for name, array in feeds.items():
                    look(name, np.asarray(array))
                runtime.run(feeds, names, look)
        seen = {job.name: BatchesSeen(job.data.batches, spans_of(list(batches)))}
        release_memory()  # of 14 parts of 48 images of 224x224 a worker held 565 to 756 MB, with this 440 MB
        told = tuple(sorted(skipped.values()))
        return CalibrationState(digest, arithmetic, job.data.batch, tensors, tuple(sorted(samples)), seen, told)

    return compute


def _parts(wanted: Sequence[int], total: int) -> Iterator[Part]:
    """Batches that follow each other, some at a time: how many follows from the data alone."""
    size = -(-total // _PARTS)
    for start in range(0, len(wanted), size):
        yield tuple(wanted[start : start + size])


def _require_few(state: CalibrationState, most: int) -> None:
    if len(state.skipped) > most:
        listed = "; ".join(state.skipped[:_LISTED])
        cause = f"has more than {most} samples that can't be read: {listed}"
        raise UsageError("calibration data", cause, "mend them, or give --skip-bad more")
