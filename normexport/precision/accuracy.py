"""How often a model is right on labelled data, how close each output is to its reference's, and how fast it is.

Every output is judged against a reference: by its SNR (`precision.snr`); one of whole numbers by the SNR of the scores
behind it where the graph has any, else by the share that differs; the labelled one by the accuracy lost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from normexport.precision.collected import Collected
from normexport.precision.config import METRICS, POINTS, Limits
from normexport.precision.labelled_output import check_labels, labelled_output, require_limit
from normexport.precision.labels import Labelled
from normexport.precision.metrics import Metric, counted, decided, hits, metric_of
from normexport.precision.output_errors import output_errors
from normexport.precision.snr import OutputError
from normexport.proof.inputs.folders import FolderRead
from normexport.runtime import Array
from normexport.verdicts import Judgement, failed, inconclusive, passed, together

ENOUGH_LABELS = 200  # one is half a point; with fewer the outputs need their SNR beside
_Z = 1.959964  # of a 95 % interval

DEFAULT = Limits()


@dataclass(frozen=True)
class Accuracy:
    """What `measure_accuracy` found.

    Attributes:
        model: name of the runtime.
        samples, correct: how many; `correct` (by top1 or top5) None without a class for each sample.
        interval: 95 % confidence interval (Wilson) of the share that is correct.
        agreement: share of decisions that equal the reference's, at the labelled output or where it is least; None
            without a reference or decisions.
        snr_db: the least of all outputs, channels with their slack (`OutputError.level`); None without a reference.
        drop: what is lost of the metric against the reference, where it became worse more than 0: in percentage points
            of a share, else in the metric's unit.
        samples_per_second: throughput, the time in the runtime alone.
        output: the labelled one.
        outputs: each against the reference.
        judgement: by the limits; None where nothing was held against one: without a reference, outputs that mean
            something are measured alone.
        metric, value, reference_value: what labels were compared by, and what came out for the model and the reference;
            None without labels.
        data: what was done to images, and what classes are called, where the data is a folder.
        skipped: samples that could not be read and were left out, a line each.
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
    metric: str | None = None
    value: float | None = None
    reference_value: float | None = None
    data: FolderRead | None = None
    skipped: tuple[str, ...] = ()

    @property
    def accuracy(self) -> float | None:
        """Share that is correct."""
        return None if self.correct is None else self.correct / self.samples

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        plain = {name: value for name, value in asdict(self).items() if name not in ("judgement", "outputs", "data")}
        verdict = {} if self.judgement is None else self.judgement.as_dict()
        outputs = [each.as_dict() for each in self.outputs]
        data = None if self.data is None else self.data.as_dict()
        return {
            **verdict,
            **plain,
            "accuracy": self.accuracy,
            "outputs": outputs,
            "data": data,
            "skipped": list(self.skipped),
        }


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
    score = None if labelled is None else _score(found, labelled, reference)
    if labelled is not None and reference is not None:
        require_limit(labelled, limits)
    by_share = limits.points if score is None or score.metric.share else POINTS
    errors = () if reference is None else output_errors(reference, found, limits.min_snr, by_share)
    output = None if score is None else score.output
    decisions = [each.agreement for each in errors if each.agreement is not None and output in (None, each.name)]
    return Accuracy(
        found.name,
        found.samples,
        None if score is None else score.correct,
        None if score is None or score.correct is None else wilson(score.correct, found.samples),
        min(decisions, default=None),
        min((each.level for each in errors), default=None),
        None if score is None else score.lost,
        found.samples / found.seconds if found.seconds else 0.0,
        output,
        errors,
        _meaningless(found, score) if reference is None else _judgement(errors, score, reference, limits),
        metric=None if score is None else score.metric.name,
        value=None if score is None else score.value,
        reference_value=None if score is None else score.before,
        skipped=tuple(line for _, line in sorted(found.skipped.items())),
    )


@dataclass(frozen=True)
class _Score:
    """The metric of an output: of the model, and of the reference (None: there is none, or it has no such output)."""

    output: str
    labels: Array
    metric: Metric
    value: float
    before: float | None
    correct: int | None

    @property
    def lost(self) -> float | None:
        """None without a reference, and where a metric is no number."""
        lost = math.nan if self.before is None else self.metric.loss(self.before, self.value)
        return lost if math.isfinite(lost) else None


def _score(found: Collected, labelled: Labelled, reference: Collected | None) -> _Score:
    output, metric, labels = labelled_output(found, labelled), metric_of(labelled), labelled.labels
    value = found.values[output]
    check_labels(labelled, value, found.samples)
    exact = None if reference is None else reference.values.get(output)
    before = None if exact is None or exact.shape != value.shape else metric.measure(exact, labels)
    correct = int(hits(value, labels, metric.top).sum()) if metric.top and labels.ndim == 1 else None
    return _Score(output, labels, metric, metric.measure(value, labels), before, correct)


def _judgement(
    errors: tuple[OutputError, ...], score: _Score | None, reference: Collected, limits: Limits
) -> Judgement:
    parts = []
    for each in errors:
        if score is not None and each.name == score.output and each.snr_db is not None and score.before is not None:
            parts.append(_by_labels(each, score, score.before, reference.values[each.name], limits))
        else:
            parts.append(each.judgement)
    whole = together(parts, "the model has no outputs")
    if whole.passed and not any(each.varies for each in errors):
        return inconclusive("no output varies over the samples: nothing shows that one follows the input")
    return whole


def _by_labels(error: OutputError, score: _Score, before: float, reference: Array, limits: Limits) -> Judgement:
    metric, allowed = score.metric, limits.points
    if not math.isfinite(before):
        return inconclusive(f"{error.name}: {metric.name} of the reference is {before}")
    if not math.isfinite(score.value):
        return failed(f"{error.name}: {metric.name} is {score.value}, that of the reference {before:.4g}")
    lost = metric.loss(before, score.value)
    if lost > allowed:
        return failed(f"{error.name}: {metric.lost_words(lost)}, {allowed:g} allowed")
    if _one_decision(reference, score.labels, metric):
        return inconclusive(f"{error.name}: the reference decides alike for all samples, whatever their labels")
    if len(score.labels) >= ENOUGH_LABELS or error.judgement.passed:
        return passed()
    few = tuple(f"{reason} beside {len(score.labels)} labels" for reason in error.judgement.reasons)
    return Judgement(error.judgement.verdict, few)


def _meaningless(found: Collected, score: _Score | None) -> Judgement | None:
    """Why outputs that nothing is compared with mean nothing; None where they may mean something."""
    values: Mapping[str, Array] = {name: found.values[name] for name in found.outputs if name in found.values}
    floating = [value for value in values.values() if value.dtype.kind == "f" and value.size]
    if floating and len(floating) == len(values) and all(np.isnan(value).all() for value in floating):
        return inconclusive("every output is NaN throughout")
    if score is not None:
        value = values[score.output]
        if value.dtype.kind == "f" and np.isnan(value).all():
            return inconclusive(f"{score.output}: is NaN throughout")
        if not math.isfinite(score.value):
            return inconclusive(f"{score.output}: {score.metric.name} is {score.value}")
        if _one_decision(value, score.labels, score.metric):
            return inconclusive(f"{score.output}: decides alike for all samples, whatever their labels")
    return None


def _one_decision(value: Array, labels: Array, metric: Metric) -> bool:
    """Whether an output says the same of all samples, though their labels differ."""
    if not metric.of_classes:
        return metric.name in METRICS and _is_one(value) and not _is_one(labels)
    keep = counted(value, labels)
    return len(np.unique(labels[keep])) > 1 and len(np.unique(decided(value, labels)[keep])) == 1


def _is_one(values: Array) -> bool:
    return bool((values == values[:1]).all())
