"""Every output of a model against its reference: floating-point ones by SNR, whole numbers by what they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from normexport.precision.collected import Collected
from normexport.precision.decisions import Choice, are_best, scores_at
from normexport.precision.snr import OutputError, measure_output
from normexport.proof.check import UNJUDGED
from normexport.runtime import Array
from normexport.verdicts import Judgement, failed, inconclusive, passed, together


def output_errors(reference: Collected, found: Collected, min_snr: float, max_drop: float) -> tuple[OutputError, ...]:
    """One for each output of the reference, by name, in its order; then those that it lacks, of which nothing is known.

    Args:
        min_snr: dB that floating-point outputs, and scores behind whole numbers, need.
        max_drop: percentage points of whole numbers that may differ where there are no scores.
    """
    errors = [_error(name, reference, found, min_snr, max_drop) for name in reference.outputs]
    more = [name for name in found.outputs if name not in reference.outputs]
    return (*errors, *(OutputError(name, judgement=inconclusive(f"{name}: {UNJUDGED}")) for name in more))


def _error(name: str, reference: Collected, found: Collected, min_snr: float, max_drop: float) -> OutputError:
    if name not in found.outputs:
        return OutputError(name, judgement=failed(f"{name}: is missing"))
    exact, value = reference.values.get(name), found.values.get(name)
    if exact is None or value is None:
        cause = "is no tensor, or of another shape at each run, so that nothing can be compared"
        return OutputError(name, judgement=inconclusive(f"{name}: {cause}"))
    if _floating(exact) != _floating(value):
        return OutputError(name, judgement=failed(f"{name}: is {value.dtype}, expected {exact.dtype}"))
    if exact.shape != value.shape:
        return OutputError(name, judgement=failed(f"{name}: shape {value.shape}, expected {exact.shape}"))
    if _floating(exact):
        return measure_output(name, exact, value, min_snr, found.axes.get(name, ()))
    return _whole_numbers(name, reference, found, min_snr, max_drop)


def _whole_numbers(name: str, reference: Collected, found: Collected, min_snr: float, max_drop: float) -> OutputError:
    """By the scores behind them; without any by the share that differs."""
    exact, value = reference.values[name], found.values[name]
    if not exact.size:
        return OutputError(name, judgement=inconclusive(f"{name}: is empty"))
    ours, theirs = reference.decisions.get(name), found.decisions.get(name)
    equal = exact == value
    pairs = [] if ours is None or theirs is None else _pairs(ours.scores, theirs.scores, reference, found)
    if not pairs:
        return _by_share(name, exact, value, np.asarray(equal), max_drop)
    errors = [
        measure_output(name, a, b, min_snr, found.axes.get(key, ()), place=f"{name}, by its scores {key}")
        for key, a, b in pairs
    ]
    worst = min(errors, key=lambda error: error.level)
    parts = [error.judgement for error in errors]
    if ours is not None and theirs is not None and ours.choice is not None:
        ties, judgement = _chosen(name, ours.choice, theirs.choice, reference, found)
        equal = equal if ties is None else equal | ties.reshape(equal.shape)
        parts.append(judgement)
    elif (off := 100 * float(np.mean(~equal))) > max_drop:
        parts.append(inconclusive(f"{name}: differs in {off:.2f} %, though the scores behind it hold"))
    share, varies = float(np.mean(np.asarray(equal, bool))), any(error.varies for error in errors)
    return replace(worst, agreement=share, varies=varies, judgement=together(parts))


def _pairs(
    ours: Sequence[str], theirs: Sequence[str], reference: Collected, found: Collected
) -> list[tuple[str, Array, Array]]:
    """Scores on both sides, which correspond by their order; empty where the two graphs do not."""
    if len(ours) != len(theirs):
        return []
    pairs = [(key, reference.values.get(key), found.values.get(other)) for key, other in zip(ours, theirs, strict=True)]
    known = [(key, a, b) for key, a, b in pairs if a is not None and b is not None and _floating(a) and _floating(b)]
    return known if len(known) == len(pairs) else []


def _by_share(name: str, exact: Array, value: Array, equal: Array, max_drop: float) -> OutputError:
    varies = len(exact) > 1 and bool((exact != exact[:1]).any())
    share = float(np.count_nonzero(equal)) / equal.size
    off = 100 * (1 - share)
    if off > max_drop:
        judgement = failed(f"{name}: differs in {off:.2f} %, {max_drop:g} % allowed, and no scores are behind it")
    else:
        judgement = passed()
    return OutputError(name, agreement=share, varies=varies, judgement=judgement)


def _chosen(
    name: str, ours: Choice, theirs: Choice | None, reference: Collected, found: Collected
) -> tuple[Array | None, Judgement]:
    """Where other indices are as good by the reference's scores; whether the candidate's fit its own scores."""
    if theirs is None or theirs.largest != ours.largest:
        return None, failed(f"{name}: is not chosen as the reference's is")
    scores, indices = found.values.get(theirs.scores), found.values.get(theirs.indices)
    exact, chosen = reference.values.get(ours.scores), reference.values.get(ours.indices)
    best = None if scores is None or indices is None else are_best(theirs, scores, indices)
    if best is None or exact is None or chosen is None or indices is None:
        return None, inconclusive(f"{name}: its indices can't be laid beside the scores behind them")
    if not best:
        return None, failed(f"{name}: its indices are not those of the best scores behind them")
    a, b = scores_at(ours, exact, chosen), scores_at(theirs, exact, indices)
    return (None if a is None or b is None or a.shape != b.shape else a == b), passed()


def _floating(array: Array) -> bool:
    return array.dtype.kind == "f"
