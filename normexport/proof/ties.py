"""Rows out of their budget where a quantiser's rounding decides: a number at the half of a step goes either way.

Such a number is a step off in a candidate that is right, and as far off in PyTorch once its weights move by a rounding.
So of a graph with quantisers each element of such a row is looked at beside more baselines, each with other weights:

- where none of them leaves the row's budget, the candidate must keep it: else the row stays as it is, FAILED;
- elsewhere the candidate is to have a number that the reference or one of them has. Then a module boundary is within
  its budget (a note says so), and an output is in doubt;
- where it has another number, no further off than `FACTOR` times what they reach, the row is in doubt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from normexport.proof.inputs.batches import Batch
from normexport.proof.metrics import Deviation
from normexport.proof.tolerance import FACTOR, Budget
from normexport.proof.verdict import ParityReport, Row
from normexport.runtime import Array, Runtime, release_memory

#: Seeds of the baselines' weights. A number at a half goes both ways in 8 of them but for one time in 128.
SEEDS = range(101, 109)
_QUANTISERS = ("QuantizeLinear", "DynamicQuantizeLinear")


def has_quantisers(model: ir.Model) -> bool:
    """Whether a graph rounds numbers to the steps of a grid."""
    return any(node.op_type in _QUANTISERS for node in model.graph.all_nodes())


@dataclass
class _Elements:
    """One tensor by element.

    Attributes:
        spread: the furthest that a baseline was off.
        matched: whether the candidate has the number of the reference or of a baseline.
    """

    exact: Array
    candidate: Array
    spread: Array
    matched: Array

    @classmethod
    def of(cls, exact: Array, candidate: Array, near: float) -> _Elements:
        return cls(exact, candidate, np.zeros(exact.shape), np.abs(candidate - exact) <= near)

    def add(self, baseline: Array, near: float) -> None:
        """One more baseline."""
        self.spread = np.maximum(self.spread, np.abs(baseline - self.exact))
        self.matched |= np.abs(self.candidate - baseline) <= near


def settle_ties(
    report: ParityReport,
    reference: Callable[[], Runtime],
    candidate: Callable[[], Runtime],
    baselines: Sequence[Callable[[], Runtime]],
) -> ParityReport:
    """The report with the rows that ties explain settled; itself where there are none.

    Args:
        reference, candidate: as `check` took them, for the same `report.batches`.
        baselines: make PyTorch (or what stands for it) with other weights each.
    """
    settled: dict[int, Row] = {}
    for batch in report.batches:
        rows = [row for row in (*report.outputs, *report.layers) if row.batch == batch.name and _may_be_ties(row)]
        for row, elements in _look_at(batch, rows, reference, candidate, baselines):
            settled[id(row)] = _settle(row, elements)
    if not settled:
        return report
    notes = [_note(row, settled[id(row)]) for row in report.layers if id(row) in settled]
    return replace(
        report,
        outputs=tuple(settled.get(id(row), row) for row in report.outputs),
        layers=tuple(settled.get(id(row), row) for row in report.layers),
        notes=(*report.notes, *dict.fromkeys(note for note in notes if note)),
    )


def _may_be_ties(row: Row) -> bool:
    return not row.within and row.budget is not None and row.candidate is not None and row.candidate.floating


def _look_at(
    batch: Batch,
    rows: Sequence[Row],
    reference: Callable[[], Runtime],
    candidate: Callable[[], Runtime],
    baselines: Sequence[Callable[[], Runtime]],
) -> Iterator[tuple[Row, _Elements]]:
    """Each row's tensor by element; one runtime alive at a time."""
    near = {row.tensor: row.budget.max_abs for row in rows if row.budget is not None}
    if not near:
        return
    exact = _values(reference, batch, near)
    theirs = _values(candidate, batch, near)
    found = {
        name: _Elements.of(exact[name], theirs[name], near[name])
        for name in near
        if name in exact and name in theirs and exact[name].shape == theirs[name].shape and exact[name].size
    }
    for baseline in baselines:
        for name, value in _values(baseline, batch, near).items():
            if name in found and value.shape == found[name].exact.shape:
                found[name].add(value, near[name])
    yield from ((row, found[row.tensor]) for row in rows if row.tensor in found)


def _values(make: Callable[[], Runtime], batch: Batch, names: dict[str, float]) -> dict[str, Array]:
    runtime = make()
    values = runtime.run(batch.feeds, [name for name in names if name not in runtime.output_names])
    found = {name: np.asarray(values[name], np.float64) for name in names if name in values}
    release_memory()
    return found


def _settle(row: Row, elements: _Elements) -> Row:
    assert row.budget is not None
    error = np.abs(elements.candidate - elements.exact)
    decided = elements.spread <= row.budget.max_abs
    undecided = int(decided.size - np.count_nonzero(decided))
    rest = _excess(error[decided], row.budget)
    if not undecided or not rest <= 1.0 or not error.max() <= FACTOR * elements.spread.max():
        return row
    if row.path and elements.matched.all():
        return replace(row, excess=rest)
    share = f"{undecided:,} of {decided.size:,} numbers"
    doubt = (
        f"{share} go either way with the rounding at the half of a quantiser's step, in the reference's own kind too"
    )
    return replace(row, excess=rest, doubt=doubt)


def _excess(errors: Array, budget: Budget) -> float:
    if not errors.size:
        return 0.0
    rms, largest = float(np.sqrt(np.mean(np.square(errors)))), float(errors.max())
    return budget.excess(Deviation(errors.size, 0.0, 0.0, rms, largest, 1.0))


def _note(before: Row, after: Row) -> str:
    """What to say of a boundary that is within its budget but for ties."""
    if after is before or after.doubt is not None:
        return ""
    return f"{before.path}: differs by steps of a quantiser alone, at halves, where rounding itself goes either way"
