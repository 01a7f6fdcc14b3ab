"""What a parity check found: frozen rows, one judgement, the first boundary out of budget."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from normexport.proof.inputs.batches import Batch
from normexport.proof.inputs.folders import FolderRead
from normexport.proof.metrics import Deviation
from normexport.proof.signal import Channel
from normexport.proof.tolerance import Budget
from normexport.text import port_words
from normexport.verdicts import Judgement, failed, inconclusive, passed, together


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
        doubt: why a tensor within its budget proves nothing all the same, or None.

    Where ties at quantisers are settled (`proof.ties`), `excess` is that of the other elements.
    """

    tensor: str
    path: str
    type: str
    batch: str
    fault: str | None
    candidate: Deviation | None
    baseline: Deviation | None
    budget: Budget | None
    excess: float
    doubt: str | None = None

    @property
    def judgement(self) -> Judgement:
        """FAILED out of budget, INCONCLUSIVE where there is a doubt."""
        place = self.path or port_words("output", self.tensor)
        if not self.within:
            return failed(f"{place}: {self.fault or f'is out of its budget ({self.batch})'}")
        return passed() if self.doubt is None else inconclusive(f"{place}: {self.doubt}")

    @property
    def within(self) -> bool:
        """Whether it is within its budget."""
        return self.fault is None and self.excess <= 1.0  # NaN compares false

    @property
    def passed(self) -> bool:
        return self.judgement.passed

    def as_dict(self) -> dict[str, object]:
        return {
            "tensor": self.tensor,
            "path": self.path,
            "type": self.type,
            "batch": self.batch,
            "passed": self.passed,
            "verdict": self.judgement.verdict.value,
            "fault": self.fault,
            "doubt": self.doubt,
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
        unproven: what no comparison here can prove, in words: each makes the verdict INCONCLUSIVE.
        batches: the inputs themselves, and
        channels: by output, how far the baseline is off in each of its channels: a capsule takes both along.
        data: what was done to the images of the real inputs, where these are a folder.
    """

    reference: str
    baseline: str
    candidate: str
    precision: str
    outputs: tuple[Row, ...]
    layers: tuple[Row, ...] = ()
    unchecked: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    unproven: tuple[str, ...] = ()
    batches: tuple[Batch, ...] = field(default=(), repr=False, compare=False)
    channels: Mapping[str, Sequence[Channel]] = field(default_factory=dict, repr=False, compare=False)
    data: FolderRead | None = None

    @property
    def judgement(self) -> Judgement:
        """PASSED where every output and boundary is within its budget and every output proves something."""
        outputs = together((row.judgement for row in self.outputs), "there was no output to compare")
        rest = [*(row.judgement for row in self.layers), *map(inconclusive, self.unproven)]
        return together([outputs, *rest])

    @property
    def passed(self) -> bool:
        return self.judgement.passed

    @property
    def first_divergence(self) -> Row | None:
        """The first boundary, in execution order, out of its budget; None where all are within.

        Where it is the output of a module and of its parents alike, the innermost is named.
        """
        first = next((row for row in self.layers if not row.within), None)
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
            **self.judgement.as_dict(),
            "reference": self.reference,
            "baseline": self.baseline,
            "candidate": self.candidate,
            "precision": self.precision,
            "first_divergence": first.path if first else None,
            "outputs": [row.as_dict() for row in self.outputs],
            "layers": [row.as_dict() for row in self.layers],
            "unchecked": [{"path": path, "reason": reason} for path, reason in self.unchecked],
            "notes": list(self.notes),
            "data": None if self.data is None else self.data.as_dict(),
        }


def _errors(errors: Deviation | None) -> dict[str, object] | None:
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
