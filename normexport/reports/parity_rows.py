"""Rows of a parity report in numbers and words, for whichever renderer: which measure decides, and how much it uses."""

from __future__ import annotations

import math


def tightest(rms: float, rms_budget: float, largest: float, largest_budget: float) -> tuple[float, float, str]:
    """(error, budget, "rms" or "max") of whichever of the two measures uses more of its budget."""
    by_rms, by_max = (rms, rms_budget, "rms"), (largest, largest_budget, "max")
    return max(by_rms, by_max, key=lambda each: _share(each[0], each[1]))


def _share(error: float, allowed: float) -> float:
    if error != error:
        return math.inf
    return error / allowed if allowed > 0 else error * math.inf if error else 0.0


def share_words(excess: float) -> str:
    """ "24 %" of a budget, "3.1x" beyond it, "beyond any" for what is not a number."""
    if not math.isfinite(excess):
        return "beyond any"
    return f"{100 * excess:.0f} %" if excess <= 1 else f"{excess:.2f}x" if excess < 100 else f"{excess:.0f}x"
