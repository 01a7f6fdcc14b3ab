"""How often a model is right on labelled data, how close each output is to its reference's, and how fast it is.

Every output is judged against a reference: by its SNR (`precision.snr`); one of whole numbers by the SNR of the scores
behind it where the graph has any, else by the share that differs; the labelled one by the accuracy lost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from normexport.errors import UsageError
from normexport.io.numpy_files import opened_arrays
from normexport.precision.collected import Collected
from normexport.precision.config import Limits
from normexport.precision.output_errors import output_errors
from normexport.precision.snr import OutputError
from normexport.runtime import Array
from normexport.verdicts import Judgement, failed, inconclusive, passed, together

LABELS = ("labels", "label", "y", "targets")
ENOUGH_LABELS = 200  # one is half a point; with fewer the outputs need their SNR beside
_Z = 1.959964  # of a 95 % interval

Labels = npt.NDArray[np.int64]


DEFAULT = Limits()


@dataclass(frozen=True)
class Labelled:
    """Labels, whole numbers (samples,), and the output that they belong to; None: the only one that can be meant."""

    labels: Labels
    output: str | None = None


@dataclass(frozen=True)
class Accuracy:
    """What `measure_accuracy` found.

    Attributes:
        model: name of the runtime.
        samples, correct: how many; `correct` None without labels.
        interval: 95 % confidence interval (Wilson) of the share that is correct.
        agreement: share of decisions that equal the reference's, at the labelled output or where it is least; None
            without a reference or decisions.
        snr_db: the least of all outputs, channels with their slack (`OutputError.level`); None without a reference.
        drop: accuracy lost against the reference, in percentage points.
        samples_per_second: throughput, the time in the runtime alone.
        output: the labelled one.
        outputs: each against the reference.
        judgement: by the limits; None where nothing was held against one: without a reference, outputs that mean
            something are measured alone.
    """

    model: str
    samples: int
    correct: int | None
    interval: tuple[float, float] | None
    agreement: float | None
    snr_db: float | None
    drop: float | None
    samples_per_second: float
    output: str | None = None
    outputs: tuple[OutputError, ...] = ()
    judgement: Judgement | None = None

    @property
    def accuracy(self) -> float | None:
        """Share that is correct."""
        return None if self.correct is None else self.correct / self.samples

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        plain = {name: value for name, value in asdict(self).items() if name not in ("judgement", "outputs")}
        verdict = {} if self.judgement is None else self.judgement.as_dict()
        return {**verdict, **plain, "accuracy": self.accuracy, "outputs": [each.as_dict() for each in self.outputs]}


def wilson(correct: int, samples: int) -> tuple[float, float]:
    """95 % confidence interval of a share (Wilson 1927), honest at 100 % too."""
    share, square = correct / samples, _Z * _Z / samples
    middle = share + square / 2
    half = _Z * math.sqrt(share * (1 - share) / samples + square / (4 * samples))
    return max(0.0, (middle - half) / (1 + square)), min(1.0, (middle + half) / (1 + square))


def measure_accuracy(
    found: Collected,
    labelled: Labelled | None = None,
    reference: Collected | None = None,
    limits: Limits = DEFAULT,
) -> Accuracy:
    """Accuracy, distance from the reference of every output, and the judgement.

    Args:
        found: what the model gave.
        labelled: the labels of the same samples.
        reference: what is right, of the same samples and batch.
        limits: what is held against the reference.

    Raises:
        UsageError: labels do not fit an output, or fit several.
    """
    output = None
    if labelled is not None:
        output = labelled_output(found, labelled.output)
        check_labels(labelled.labels, found.values[output], found.samples)
    correct = None if labelled is None or output is None else _correct(found, output, labelled.labels)
    before = None if labelled is None or reference is None else _correct(reference, output, labelled.labels)
    drop = None if before is None or correct is None else 100 * (before - correct) / found.samples
    errors = () if reference is None else output_errors(reference, found, limits.min_snr, limits.max_drop)
    if reference is not None:
        judgement: Judgement | None = _judgement(errors, output, labelled, drop, reference, limits)
    else:
        judgement = _meaningless(found, output, labelled)
    decisions = [each.agreement for each in errors if each.agreement is not None and output in (None, each.name)]
    return Accuracy(
        found.name,
        found.samples,
        correct,
        None if correct is None else wilson(correct, found.samples),
        min(decisions, default=None),
        min((each.level for each in errors), default=None),
        drop,
        found.samples / found.seconds if found.seconds else 0.0,
        output,
        errors,
        judgement,
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


def labelled_output(found: Collected, name: str | None = None) -> str:
    """The output that labels belong to: the one named, else the only table of class scores, else of class numbers.

    Raises:
        UsageError: no or several outputs can be meant.
    """
    if name is not None and name not in found.outputs:
        raise UsageError(f"--labels-for {name}", "is not an output", f"the outputs are {', '.join(found.outputs)}")
    asked = [each for each in found.outputs if name in (None, each)]
    tables = [each for each in asked if _classes(found.values.get(each), found.samples)]
    numbers = [each for each in asked if _is_numbers(found.values.get(each), found.samples)]
    fitting = tables or numbers
    if not fitting:
        shapes = ", ".join(f"{each} {_shape(found.values.get(each))}" for each in asked)
        remedy = "accuracy needs class scores (samples, classes), or class numbers (samples)"
        raise UsageError("labels", f"fit no output: {shapes}", remedy)
    if len(fitting) > 1:
        raise UsageError("labels", f"fit several outputs: {', '.join(fitting)}", "name theirs: --labels-for NAME")
    return fitting[0]


def _shape(value: Array | None) -> str:
    return "of no shape" if value is None else str(value.shape)


def _classes(value: Array | None, samples: int) -> int:
    """Number of classes of a table of scores (samples, classes); 0 for what is none."""
    table = value is not None and value.dtype.kind == "f" and value.ndim == 2 and len(value) == samples
    return value.shape[1] if table and value is not None and value.shape[1] > 1 else 0


def _is_numbers(value: Array | None, samples: int) -> bool:
    return value is not None and value.dtype.kind in "iu" and value.shape in ((samples,), (samples, 1))


def check_labels(labels: Labels, output: Array, samples: int) -> None:
    """Whether there is one for each sample, of the classes of an output of any number of samples.

    Raises:
        UsageError: there is not.
    """
    if len(labels) != samples:
        raise UsageError("labels", f"are {len(labels)}, the samples {samples}", "give one label per sample")
    classes = _classes(output, len(output)) or np.iinfo(np.int64).max
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        known = f"the model has classes 0 to {classes - 1}" if output.dtype.kind == "f" else "classes count from 0"
        cause = f"of sample {wrong[0]} is {labels[wrong[0]]}, {known}"
        raise UsageError("label", cause, "give labels of this model's classes")


def _classes_of(output: Array) -> Labels:
    """The class of each sample, -1 where a score is NaN: that is no decision."""
    if output.dtype.kind != "f":
        return output.reshape(-1).astype(np.int64)
    chosen: Labels = output.argmax(axis=1).astype(np.int64)
    chosen[np.isnan(output).any(axis=1)] = -1
    return chosen


def _correct(found: Collected, output: str | None, labels: Labels) -> int | None:
    value = found.values.get(output or "")
    if value is None or len(value) != len(labels):
        return None
    return int((_classes_of(value) == labels).sum())


def _judgement(
    errors: tuple[OutputError, ...],
    output: str | None,
    labelled: Labelled | None,
    drop: float | None,
    reference: Collected,
    limits: Limits,
) -> Judgement:
    parts = []
    for each in errors:
        if each.name == output and labelled is not None and drop is not None and each.snr_db is not None:
            parts.append(_by_labels(each, labelled.labels, drop, reference.values[each.name], limits))
        else:
            parts.append(each.judgement)
    whole = together(parts, "the model has no outputs")
    if whole.passed and not any(each.varies for each in errors):
        return inconclusive("no output varies over the samples: nothing shows that one follows the input")
    return whole


def _by_labels(error: OutputError, labels: Labels, drop: float, reference: Array, limits: Limits) -> Judgement:
    if drop > limits.max_drop:
        return failed(f"{error.name}: accuracy drops by {drop:.2f} points, {limits.max_drop:g} allowed")
    if _one_decision(reference, labels):
        return inconclusive(f"{error.name}: the reference decides alike for all samples, whatever their labels")
    if len(labels) >= ENOUGH_LABELS or error.judgement.passed:
        return passed()
    few = tuple(f"{reason} beside {len(labels)} labels" for reason in error.judgement.reasons)
    return Judgement(error.judgement.verdict, few)


def _meaningless(found: Collected, output: str | None, labelled: Labelled | None) -> Judgement | None:
    """Why outputs that nothing is compared with mean nothing; None where they may mean something."""
    values: Mapping[str, Array] = {name: found.values[name] for name in found.outputs if name in found.values}
    floating = [value for value in values.values() if value.dtype.kind == "f" and value.size]
    if floating and len(floating) == len(values) and all(np.isnan(value).all() for value in floating):
        return inconclusive("every output is NaN throughout")
    if output is not None and labelled is not None:
        if np.isnan(values[output]).all() if values[output].dtype.kind == "f" else False:
            return inconclusive(f"{output}: is NaN throughout")
        if _one_decision(values[output], labelled.labels):
            return inconclusive(f"{output}: decides alike for all samples, whatever their labels")
    return None


def _one_decision(value: Array, labels: Labels) -> bool:
    return bool(len(set(labels.tolist())) > 1 and len(set(_classes_of(value).tolist())) == 1)
