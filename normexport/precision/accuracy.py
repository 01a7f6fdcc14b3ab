"""How often a model is right on labelled data, how often it decides as its reference does, and how fast it is."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from normexport.errors import UsageError
from normexport.io.numpy_files import opened_arrays
from normexport.onnx_export import InputSpec
from normexport.parity.inputs import sliced
from normexport.parity.metrics import measure
from normexport.runtime import Array, Runtime

LABELS = ("labels", "label", "y", "targets")
_Z = 1.959964  # of a 95 % interval
BATCH = 64

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Accuracy:
    """What `evaluate` found.

    Attributes:
        model: name of the runtime.
        samples, correct: how many; `correct` None without labels.
        interval: 95 % confidence interval (Wilson) of the share that is correct.
        agreement: share of decisions that equal the reference's; None without a reference.
        snr_db: of the first output against the reference's; None without one.
        drop: accuracy lost against the reference, in percentage points.
        samples_per_second: throughput, the time in the runtime alone.
    """

    model: str
    samples: int
    correct: int | None
    interval: tuple[float, float] | None
    agreement: float | None
    snr_db: float | None
    drop: float | None
    samples_per_second: float

    @property
    def accuracy(self) -> float | None:
        """Share that is correct."""
        return None if self.correct is None else self.correct / self.samples

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**asdict(self), "accuracy": self.accuracy}


def wilson(correct: int, samples: int) -> tuple[float, float]:
    """95 % confidence interval of a share (Wilson 1927), honest at 100 % too."""
    share, square = correct / samples, _Z * _Z / samples
    middle = share + square / 2
    half = _Z * math.sqrt(share * (1 - share) / samples + square / (4 * samples))
    return max(0.0, (middle - half) / (1 + square)), min(1.0, (middle + half) / (1 + square))


def evaluate(
    runtime: Runtime,
    data: dict[str, Array],
    labels: Labels | None = None,
    reference: Array | None = None,
    batch: int = BATCH,
    specs: Sequence[InputSpec] = (),
) -> tuple[Accuracy, Array]:
    """Accuracy of the first output (samples, classes), and that output.

    Args:
        data: arrays (samples, *shape) by input name.
        labels: (samples,) integers.
        reference: the first output of what is right.
        specs: where each input has its samples, and how many it takes at a time; by default on axis 0.

    Raises:
        UsageError: labels do not fit the output, or the output is no table of class scores.
    """
    name, outputs, seconds = runtime.output_names[0], [], 0.0
    for feeds in _batches(runtime, data, batch, specs):
        start = time.perf_counter()
        outputs.append(runtime.run(feeds)[name])
        seconds += time.perf_counter() - start
    output = np.concatenate(outputs)
    count = len(output)
    if labels is not None:
        _check_labels(labels, output, name)
    correct = None if labels is None else int((output.argmax(axis=1) == labels).sum())
    found = None if reference is None else measure(reference.astype(np.float64), output)
    before = None if reference is None or labels is None else int((reference.argmax(axis=1) == labels).sum())
    drop = None if before is None or correct is None else 100 * (before - correct) / count
    return (
        Accuracy(
            runtime.name,
            count,
            correct,
            None if correct is None else wilson(correct, count),
            None if found is None else found.agreement,
            None if found is None else found.snr_db,
            drop,
            count / seconds if seconds else 0.0,
        ),
        output,
    )


def labels_in(path: str | Path) -> Labels | None:
    """The labels of an .npz file, None where it has none.

    Raises:
        UsageError: unreadable, or not a vector of whole numbers.
    """
    with opened_arrays(Path(path)) as stored:
        name = next((name for name in LABELS if name in stored), None)
        if name is None:
            return None
        array = stored[name]
        column = array.shape[1:] in ((), (1,))
        if not array.shape or not column or array.dtype.kind not in "iu":
            cause = f"is of shape {array.shape} and type {array.dtype}"
            raise UsageError(f"{path}: array {name}", cause, "labels are whole numbers, one per sample")
        return array.read(np.dtype(np.int64)).reshape(-1).astype(np.int64, copy=False)


def _check_labels(labels: Labels, output: Array, name: str) -> None:
    if output.ndim != 2:
        raise UsageError(
            f"output {name}", f"has shape {output.shape}", "accuracy needs class scores (samples, classes)"
        )
    if len(labels) != len(output):
        raise UsageError("labels", f"are {len(labels)}, the samples {len(output)}", "give one label per sample")
    wrong = np.flatnonzero((labels < 0) | (labels >= output.shape[1]))
    if wrong.size:
        cause = f"of sample {wrong[0]} is {labels[wrong[0]]}, the model has classes 0 to {output.shape[1] - 1}"
        raise UsageError("label", cause, "give labels of this model's classes")


def _batches(
    runtime: Runtime, data: dict[str, Array], batch: int, specs: Sequence[InputSpec]
) -> Iterator[dict[str, Array]]:
    if specs:
        yield from sliced(specs, data, batch)
        return
    fixed = [port.shape[0] for port in runtime.inputs if port.shape and port.shape[0] is not None]
    size = fixed[0] if fixed else batch
    count = min(len(array) for array in data.values())
    assert size is not None
    if fixed and count % size:
        raise UsageError(runtime.name, f"takes {size} samples at a time, and there are {count}", "leave some out")
    for start in range(0, count, size):
        yield {name: array[start : start + size] for name, array in data.items()}
