"""Rows just out of a budget that was small by luck: they are judged by more baselines.

A budget follows from PyTorch's own error, and that is sometimes known from one number or two, however many the tensor
has: of a softmax that is sure of itself nearly all are 0 or 1 without an error. Measured on a face detector's 7 x 2
scores, with one of them at 0.88: eight baselines, each with its own weights moved by a rounding, were 8e-8 to 1.6e-6
off, the first of them the least, and ONNX Runtime, summing in its own order, 1.6e-6. A tensor is out of its budget
if it is by every baseline. Where many numbers carry the error, baselines differ by a few percent, and nothing changes:
of 77 candidates with one channel of a weight off by 1e-6 to 3e-5, out by 1.05 to 32 times, all stayed so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from normexport.proof.verdict import ParityReport, Row

_NEAR = 32.0  # times its budget: more is no luck


def is_near_miss(report: ParityReport) -> bool:
    """Whether rows are out of their budgets, and none by far or for another reason."""
    out = [row for row in (*report.outputs, *report.layers) if not row.within]
    return bool(out) and all(row.fault is None and row.excess <= _NEAR for row in out)


def settle_luck(report: ParityReport, others: Iterable[ParityReport]) -> ParityReport:
    """The report, its tensors out of budget as a baseline judges them by which they are not; itself where one is left.

    All rows of a tensor are taken from one report: by another baseline, another channel may be the one that is named as
    furthest out. What was within stays as it was, with its doubts.

    Args:
        others: the same comparison by other baselines; taken as long as a tensor is out of its budget.
    """
    settled, count = report, 1
    for other in others:
        settled = replace(
            settled,
            outputs=_with_luck(settled.outputs, other.outputs),
            layers=_with_luck(settled.layers, other.layers),
        )
        count += 1
        if all(row.within for row in (*settled.outputs, *settled.layers)):
            rows = (*report.outputs, *report.layers)
            places = ", ".join(dict.fromkeys(row.path or row.tensor for row in rows if not row.within))
            words = f"{places}: within the budget of {count} baselines; that of the first alone was small by luck"
            return replace(settled, notes=(*report.notes, words))
    return report


def _with_luck(rows: Sequence[Row], others: Sequence[Row]) -> tuple[Row, ...]:
    ours, theirs = _by_tensor(rows), _by_tensor(others)
    found: list[Row] = []
    for tensor, own in ours.items():
        by_other = theirs.get(tensor, [])
        lucky = bool(by_other) and all(row.within for row in by_other) and not all(row.within for row in own)
        found += by_other if lucky else own
    return tuple(found)


def _by_tensor(rows: Sequence[Row]) -> dict[tuple[str, str, str], list[Row]]:
    found: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row.tensor, row.path, row.type), []).append(row)
    return found
