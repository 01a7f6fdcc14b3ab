"""What a parity check found: frozen rows, one verdict, the first boundary out of budget."""

from __future__ import annotations

import math
from dataclasses import dataclass

from normexport.parity.metrics import Errors
from normexport.parity.tolerance import Budget


@dataclass(frozen=True)
class Row:
    """One tensor under one set of inputs, judged.

    Attributes:
        tensor: ONNX value name.
        path, type: module path and class of a module boundary; "" for a model output.
        batch: name of the inputs.
        fault: why it fails without measuring (shape, dtype, NaN, missing), or None.
        candidate, baseline: errors against the float64 reference; None where they can't be measured.
        budget: the largest errors allowed; None with a fault.
        excess: share of the budget used; above 1 fails.
    """

    tensor: str
    path: str
    type: str
    batch: str
    fault: str | None
    candidate: Errors | None
    baseline: Errors | None
    budget: Budget | None
    excess: float

    @property
    def passed(self) -> bool:
        return self.fault is None and self.excess <= 1.0  # NaN compares false

    def as_dict(self) -> dict[str, object]:
        return {
            "tensor": self.tensor,
            "path": self.path,
            "type": self.type,
            "batch": self.batch,
            "passed": self.passed,
            "fault": self.fault,
            "excess": _plain(self.excess),
            "candidate": _errors(self.candidate),
            "baseline": _errors(self.baseline),
            "budget": None
            if self.budget is None
            else {"rms": _plain(self.budget.rms), "max_abs": _plain(self.budget.max_abs)},
        }


@dataclass(frozen=True)
class ParityReport:
    """The verdict on a candidate.

    Attributes:
        reference, baseline, candidate: names of the three runtimes.
        precision: of baseline and candidate.
        outputs: every output under every set of inputs.
        layers: module boundaries in execution order, under one set of inputs.
        unchecked: boundaries that could not be compared: (module path, reason).
        notes: what the reader should know, in words.
    """

    reference: str
    baseline: str
    candidate: str
    precision: str
    outputs: tuple[Row, ...]
    layers: tuple[Row, ...] = ()
    unchecked: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Every output and every boundary within its budget, and at least one output judged."""
        return bool(self.outputs) and all(row.passed for row in (*self.outputs, *self.layers))

    @property
    def first_divergence(self) -> Row | None:
        """The first boundary, in execution order, out of its budget; None where all are within.

        Where it is the output of a module and of its parents alike, the innermost is named.
        """
        first = next((row for row in self.layers if not row.passed), None)
        if first is None:
            return None
        return max((row for row in self.layers if row.tensor == first.tensor), key=lambda row: row.path.count("."))

    @property
    def worst(self) -> Row | None:
        """The output that uses the largest share of its budget, a fault above all."""
        rows = sorted(self.outputs, key=lambda row: math.inf if row.fault or row.excess != row.excess else row.excess)
        return rows[-1] if rows else None

    def as_dict(self) -> dict[str, object]:
        """For JSON: no infinities or NaN (null instead)."""
        first = self.first_divergence
        return {
            "passed": self.passed,
            "reference": self.reference,
            "baseline": self.baseline,
            "candidate": self.candidate,
            "precision": self.precision,
            "first_divergence": first.path if first else None,
            "outputs": [row.as_dict() for row in self.outputs],
            "layers": [row.as_dict() for row in self.layers],
            "unchecked": [{"path": path, "reason": reason} for path, reason in self.unchecked],
            "notes": list(self.notes),
        }


def _errors(errors: Errors | None) -> dict[str, object] | None:
    if errors is None:
        return None
    return {
        "max_abs": _plain(errors.max_abs),
        "rms": _plain(errors.rms),
        "relative_rms": _plain(errors.relative_rms),
        "snr_db": _plain(errors.snr_db),
        "cosine": _plain(errors.cosine),
        "agreement": errors.agreement,
    }


def _plain(number: float) -> float | None:
    return number if math.isfinite(number) else None
