"""How good an output is by its labels: shares that should be large, errors that should be small, a user's function.

With labels y and an output v, both (samples, ...):

    top1, top5   share of labels among the 1, or 5, largest scores of v (samples, classes, ...)
    iou          mean over classes of |v = c and y = c| / |v = c or y = c|, of classes that are in v or y
    mae, rmse    mean |v - y|, sqrt(mean (v - y)^2), in the unit of the labels

Scores may be class numbers instead (an ArgMax), but for top5. A map of classes (samples, height, width) may hold 255,
which is no class (Pascal VOC); such pixels are left out. A score that is NaN decides nothing: it is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from normexport.errors import UsageError
from normexport.precision.config import METRICS, SHARES
from normexport.precision.labels import Labelled
from normexport.runtime import Array
from normexport.user_code import NamedFunction, load_function, name_of, words_of

NO_CLASS = 255
_NEVER = -1


@dataclass(frozen=True)
class Metric:
    """One number for an output and its labels.

    Attributes:
        name: "top1", or that of a function.
        measure: (output, labels) -> the number, over all samples; NaN where there is none.
        rises: whether larger is better.
        share: whether it is a share, shown in per cent and lost in percentage points.
        top: of the largest scores, how many may hold the label; 0 of what is no such metric.
        of_classes: whether labels are classes.
    """

    name: str
    measure: Callable[[Array, Array], float]
    rises: bool = True
    share: bool = True
    top: int = 0
    of_classes: bool = True

    def loss(self, before: float, after: float) -> float:
        """What is lost from `before` to `after`, more than 0 where it became worse; of shares in percentage points."""
        lost = before - after if self.rises else after - before
        return 100 * lost if self.share else lost

    def lost_words(self, loss: float) -> str:
        """ "top1 drops by 1.20 points", "mae rises by 0.01"."""
        amount = f"{loss:.2f} points" if self.share else f"{loss:.4g}"
        return f"{'accuracy' if self.name == 'top1' else self.name} {'drops' if self.rises else 'rises'} by {amount}"


def metric_of(labelled: Labelled) -> Metric:
    """The metric that is asked for; else top1 of classes, iou of maps of classes.

    Raises:
        UsageError: no such metric; none is asked for, and labels are no whole numbers; a function can't be imported.
    """
    asked = labelled.metric
    whole = labelled.labels.dtype.kind in "iu"
    if asked is None:
        if not whole:
            cause = "are not whole numbers, and nothing says which metric they are for"
            raise UsageError("labels", cause, "give --metric mae, --metric rmse or a function")
        asked = "top1" if labelled.labels.ndim == 1 else "iou"
    if callable(asked):
        return _of_function(asked)
    if asked not in _KNOWN:
        raise UsageError(f"--metric {asked}", "is not a metric", _CHOICES)
    metric = _KNOWN[asked]
    if metric.of_classes and not whole:
        raise UsageError(f"--metric {asked}", "is for classes, and the labels are not whole numbers", _CHOICES)
    return metric


def loaded_metric(asked: str | Callable[..., Any] | None) -> str | Callable[..., Any] | None:
    """With the function itself, where "package.module:function" names it; naming it is consent to import it.

    Raises:
        UsageError: it can't be imported or called, or is no metric.
    """
    if not isinstance(asked, str) or asked in _KNOWN:
        return asked
    if ":" not in asked:
        raise UsageError(f"--metric {asked}", "is not a metric", _CHOICES)
    return load_function(asked, "--metric", "data.metrics:score")


def _of_function(function: Callable[..., Any]) -> Metric:
    """function(output, labels) -> a number; its attribute `lower_is_better`, where True, turns it around."""
    name = name_of(function)

    def measure(output: Array, labels: Array) -> float:
        try:
            return float(function(output, labels))
        except (Exception, SystemExit) as error:  # the user's code can raise anything
            cause = f"failed on an output {output.shape} and labels {labels.shape} ({words_of(error)})"
            raise UsageError(f"--metric {name}", cause, "take two arrays, return a number") from error

    own = function.function if isinstance(function, NamedFunction) else function
    rises = not getattr(own, "lower_is_better", False)
    return Metric(name, measure, rises, share=False, of_classes=False)


def decided(output: Array, labels: Array) -> Array:
    """The class of each label's place: the largest score, or the number itself; -1 where a score is NaN."""
    if output.dtype.kind != "f":
        return output.astype(np.int64).reshape(labels.shape)
    chosen: Array = output.argmax(axis=1).astype(np.int64)
    chosen[np.isnan(output).any(axis=1)] = _NEVER
    return chosen


def counted(output: Array, labels: Array) -> Array:
    """Which labels count: all but the places of maps that are of no class."""
    classes = output.shape[1] if output.dtype.kind == "f" else 0
    if labels.ndim == 1 or classes > NO_CLASS:
        return np.ones(labels.shape, bool)
    return np.asarray(labels != NO_CLASS)


def hits(output: Array, labels: Array, most: int) -> Array:
    """Which labels are among the `most` largest scores; of equal scores the first counts as larger."""
    if most == 1 or output.dtype.kind != "f":
        return np.asarray(decided(output, labels) == labels)
    safe = np.where(counted(output, labels), labels, 0)[:, None]
    own = np.take_along_axis(output, safe, 1)
    places = np.arange(output.shape[1]).reshape(1, -1, *(1,) * (labels.ndim - 1))
    ahead = ((output > own) | ((output == own) & (places < safe))).sum(axis=1)
    return np.asarray((ahead < most) & ~np.isnan(output).any(axis=1))


def _share_of_hits(most: int) -> Callable[[Array, Array], float]:
    def measure(output: Array, labels: Array) -> float:
        keep = counted(output, labels)
        return float(hits(output, labels, most)[keep].mean()) if keep.any() else float("nan")

    return measure


def _iou(output: Array, labels: Array) -> float:
    keep = counted(output, labels)
    chosen, right = decided(output, labels)[keep], labels[keep]
    count = int(max(chosen.max(initial=0), right.max(initial=0))) + 1
    both = np.bincount(right[chosen == right], minlength=count)
    either = np.bincount(right, minlength=count) + np.bincount(chosen[chosen >= 0], minlength=count) - both
    present = either > 0
    return float((both[present] / either[present]).mean()) if present.any() else float("nan")


def _difference(output: Array, labels: Array) -> Array:
    difference: Array = output.astype(np.float64).reshape(labels.shape) - labels
    return difference


def _mae(output: Array, labels: Array) -> float:
    return float(np.abs(_difference(output, labels)).mean())


def _rmse(output: Array, labels: Array) -> float:
    return float(np.sqrt(np.square(_difference(output, labels)).mean()))


_KNOWN = {
    "top1": Metric("top1", _share_of_hits(1), top=1),
    "top5": Metric("top5", _share_of_hits(5), top=5),
    "iou": Metric("iou", _iou),
    "mae": Metric("mae", _mae, rises=False, share=False, of_classes=False),
    "rmse": Metric("rmse", _rmse, rises=False, share=False, of_classes=False),
}
assert tuple(_KNOWN) == METRICS
assert tuple(name for name, metric in _KNOWN.items() if metric.share) == SHARES
_CHOICES = f"choose {', '.join(METRICS)}, or package.module:function"
