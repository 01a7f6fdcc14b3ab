"""Which output labels belong to, and whether they fit it: told from a few samples, before the long part."""

from __future__ import annotations

import numpy as np

from normexport.errors import UsageError
from normexport.precision.collected import Collected
from normexport.precision.config import Limits
from normexport.precision.labels import Labelled
from normexport.precision.metrics import NO_CLASS, Metric, metric_of
from normexport.runtime import Array


def labelled_output(found: Collected, labelled: Labelled) -> str:
    """The output that labels belong to: the one named, else the only one that they fit.

    Class scores (samples, classes, ...) go before class numbers (samples, ...).

    Raises:
        UsageError: no or several outputs can be meant.
    """
    name, metric = labelled.output, metric_of(labelled)
    if name is not None and name not in found.outputs:
        raise UsageError(f"--labels-for {name}", "is not an output", f"the outputs are {', '.join(found.outputs)}")
    asked = [each for each in found.outputs if name in (None, each)]
    inner = labelled.labels.shape[1:]
    ranks = {each: _rank(metric, found.values.get(each), found.samples, inner) for each in asked}
    best = max(ranks.values(), default=0)
    fitting = [each for each in asked if best and ranks[each] == best]
    if not fitting:
        shapes = ", ".join(f"{each} {_shape(found.values.get(each))}" for each in asked)
        raise UsageError("labels", f"fit no output: {shapes}", _wanted(metric, inner))
    if len(fitting) > 1:
        raise UsageError("labels", f"fit several outputs: {', '.join(fitting)}", "name theirs: --labels-for NAME")
    return fitting[0]


def check_labels(labelled: Labelled, output: Array, samples: int) -> None:
    """Whether there is one for each sample, of the classes of an output of any number of samples.

    Raises:
        UsageError: there is not.
    """
    labels, metric = labelled.labels, metric_of(labelled)
    if len(labels) != samples:
        raise UsageError("labels", f"are {len(labels)}, the samples {samples}", "give one label per sample")
    if not metric.of_classes:
        return
    classes = output.shape[1] if output.dtype.kind == "f" else int(np.iinfo(np.int64).max)
    if metric.top > 1 and classes <= metric.top:
        raise UsageError(f"--metric {metric.name}", f"is always right of {classes} classes", "take --metric top1")
    if len(labelled.classes) > classes:
        cause = f"has {len(labelled.classes)} classes by folder (the last is {labelled.classes[-1]})"
        raise UsageError("data", f"{cause}, and the model has {classes}", "give a folder for each class of the model")
    wrong = (labels < 0) | (labels >= classes)
    if labels.ndim > 1:
        wrong &= labels != NO_CLASS
    samples_wrong = np.flatnonzero(wrong.reshape(len(labels), -1).any(axis=1))
    if samples_wrong.size:
        first = int(samples_wrong[0])
        known = f"the model has classes 0 to {classes - 1}" if output.dtype.kind == "f" else "classes count from 0"
        cause = f"of sample {first} is {labels[first][wrong[first]].flat[0]}, {known}"
        raise UsageError("label", cause, "give labels of this model's classes")


def require_limit(labelled: Labelled, limits: Limits) -> None:
    """Refuse to judge by a metric in a unit of its own while nobody says how much of it may be lost.

    Raises:
        UsageError: names the metric.
    """
    metric = metric_of(labelled)
    if not metric.share and limits.max_drop is None:
        cause = f"has a unit of its own, and nothing says how much it may {'drop' if metric.rises else 'rise'}"
        raise UsageError(f"--metric {metric.name}", cause, "give --max-drop in that unit")


def _rank(metric: Metric, value: Array | None, samples: int, inner: tuple[int, ...]) -> int:
    """2 for an output that fits, 1 for one of class numbers, 0 for none."""
    if value is None or not value.ndim or len(value) != samples:
        return 0
    if metric.name in ("mae", "rmse"):
        fits = value.shape == (samples, *inner) or (not inner and value.shape == (samples, 1))
        return 2 if fits and value.dtype.kind == "f" else 1 if fits and value.dtype.kind in "iu" else 0
    if not metric.of_classes:
        return 2
    if value.dtype.kind == "f":
        return 2 if value.ndim == 2 + len(inner) and value.shape[1] > 1 and value.shape[2:] == inner else 0
    numbers = "iub" if inner else "iu"
    is_class = value.dtype.kind in numbers and value.shape in ((samples, *inner), (samples, 1, *inner))
    return 1 if is_class and metric.top <= 1 else 0


def _wanted(metric: Metric, inner: tuple[int, ...]) -> str:
    tail = "".join(f", {size}" for size in inner)
    if metric.name in ("mae", "rmse"):
        return f"{metric.name} needs numbers of the labels' shape (samples{tail})"
    if metric.top > 1:
        return f"{metric.name} needs class scores (samples, classes{tail})"
    what = "accuracy" if metric.name == "top1" else metric.name
    return f"{what} needs class scores (samples, classes{tail}), or class numbers (samples{tail})"


def _shape(value: Array | None) -> str:
    return "of no shape" if value is None else str(value.shape)
