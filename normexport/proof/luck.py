"""Rows just out of a budget that was small by luck: they are judged by more baselines.

A budget follows from PyTorch's own error, and that is sometimes known from one number or two, however many the tensor
has: of a softmax that is sure of itself nearly all are 0 or 1 without an error. Measured on a face detector's 7 x 2
scores, with one of them at 0.88: eight baselines, each with its own weights moved by a rounding, were 8e-8 to 1.6e-6
off, the first of them the least, and ONNX Runtime, summing in its own order, 1.6e-6. A row is out of its budget if it
is by every baseline. Where many numbers carry the error, baselines differ by a few percent, and nothing changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from normexport.proof.verdict import ParityReport, Row

_NEAR = 32.0  # times its budget: more is no luck


def is_near_miss(report: ParityReport) -> bool:
    """Whether rows are out of their budgets, and none by far or for another reason."""
    out = [row for row in (*report.outputs, *report.layers) if not row.within]
    return bool(out) and all(row.fault is None and row.excess <= _NEAR for row in out)


def settle_luck(report: ParityReport, others: Iterable[ParityReport]) -> ParityReport:
    """The report with each row as the kindest baseline judges it, if nothing is out of its budget then; else itself.

    Args:
        others: the same comparison by other baselines; taken as long as a row is out of its budget.
    """
    settled, count = report, 1
    for other in others:
        settled, count = _kinder(settled, other), count + 1
        if all(row.within for row in (*settled.outputs, *settled.layers)):
            rows = (*report.outputs, *report.layers)
            places = ", ".join(dict.fromkeys(row.path or row.tensor for row in rows if not row.within))
            words = f"{places}: within the budget of {count} baselines; that of the first alone was small by luck"
            return replace(settled, notes=(*report.notes, words))
    return report


def _kinder(report: ParityReport, other: ParityReport) -> ParityReport:
    return replace(
        report, outputs=_each_kinder(report.outputs, other.outputs), layers=_each_kinder(report.layers, other.layers)
    )


def _each_kinder(rows: tuple[Row, ...], others: tuple[Row, ...]) -> tuple[Row, ...]:
    """The rows, each by the baseline that it uses least; a row of a channel that only one of them tells is within."""
    known = {_key(row): row for row in others}
    found = []
    for row in rows:
        theirs = known.get(_key(row))
        if theirs is not None:
            found.append(min(row, theirs, key=lambda each: each.excess))
        elif row.within:
            found.append(row)
    return tuple(found)


def _key(row: Row) -> tuple[str, str, str, str]:
    return row.tensor, row.path, row.type, row.batch
