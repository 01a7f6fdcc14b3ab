"""What a page shows, as frozen values: read from the JSON of a result by `reading`, rendered by `rendering`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from normexport.reports.norm_rows import Row as NormRow
from normexport.verdicts import Judgement, Verdict

#: The title of the facts that are versions.
VERSIONS = "Versions"
#: A title, and (term, value) of each.
FactGroup: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True)
class Compared:
    """One tensor under one set of inputs against its budget; `path` and `type` are "" of an output.

    `share` is what is used of the budget, None beyond any; `error` and `budget` are those of the measure ("rms" or
    "max") that uses more, None where nothing was measured, for which `fault` has the reason.
    """

    tensor: str
    path: str
    type: str
    inputs: str
    verdict: Verdict
    share: float | None
    error: float | None
    budget: float | None
    measure: str
    fault: str | None
    doubt: str | None


@dataclass(frozen=True)
class Snr:
    """An output's (`type` is "") or boundary's signal-to-noise ratio in dB; None where it has none."""

    name: str
    type: str
    snr_db: float | None
    channel_db: float | None
    channel: str
    agreement: float | None
    verdict: Verdict
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Parity:
    """A candidate against a reference: by budgets (`rows`, `layers`) or by SNR (`outputs`, `boundaries`)."""

    judgement: Judgement
    reference: str
    candidate: str
    precision: str
    baseline: str = ""
    rows: tuple[Compared, ...] = ()
    layers: tuple[Compared, ...] = ()
    outputs: tuple[Snr, ...] = ()
    boundaries: tuple[Snr, ...] = ()
    unchecked: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    first_divergence: str | None = None
    min_snr: float | None = None
    samples: int = 0
    real: bool = False


@dataclass(frozen=True)
class Score:
    """What `evaluate` measured, under the names of `precision.Accuracy`."""

    model: str
    samples: int
    accuracy: float | None
    interval: tuple[float, float] | None
    agreement: float | None
    snr_db: float | None
    drop: float | None
    metric: str | None
    value: float | None
    outputs: tuple[Snr, ...]
    judgement: Judgement | None
    samples_per_second: float


@dataclass(frozen=True)
class Step:
    """A point of the curve of excluded modules."""

    excluded: tuple[str, ...]
    snr_db: float | None
    drop: float | None
    latency_ms: float


@dataclass(frozen=True)
class Bins:
    """How often an activation had which value: counts of `width` wide bins from `low` on; int8 stands for `range`."""

    tensor: str
    low: float
    width: float
    counts: tuple[int, ...]
    range: tuple[float, float]


@dataclass(frozen=True)
class Ranged:
    """What int8 stands for of an activation that has no histogram, and why it has none."""

    tensor: str
    range: tuple[float, float]
    why: str


@dataclass(frozen=True)
class Reduced:
    """What a lower precision did, under the names of `precision.Precision`."""

    judgement: Judgement
    dtype: str
    remainder: str
    kept: tuple[tuple[str, str], ...]
    widened: tuple[tuple[str, str], ...]
    losses: tuple[tuple[str, str], ...]
    float_norms: tuple[tuple[str, str], ...]
    integer_nodes: int
    score: Score | None
    sensitivity: tuple[tuple[str, float | None, float | None], ...]
    curve: tuple[Step, ...]
    edits: tuple[str, ...]
    method: str
    samples: int
    histograms: tuple[Bins, ...]
    ranges: tuple[Ranged, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """One case of `bench`: seconds, samples a second, bytes."""

    words: str
    latencies: tuple[float | None, float | None, float | None]
    throughput: float | None
    load: float | None
    first: float | None
    memory: int | None


@dataclass(frozen=True)
class Against:
    """How much longer a case takes than another; both are positions."""

    case: int
    base: int
    ratio: float | None
    low: float | None
    high: float | None
    words: str
    differs: bool


@dataclass(frozen=True)
class Measured:
    """All that `bench` measured."""

    cases: tuple[Case, ...]
    ratios: tuple[Against, ...]
    least_difference: float
    inputs: str
    machine: Mapping[str, str]


@dataclass(frozen=True)
class Document:
    """One result of `convert`, `parity`, `evaluate` or `bench`, which `verb` names; what it has not is empty or None.

    `facts` are what else it says of itself: versions, hashes, options.
    """

    verb: str
    name: str
    judgement: Judgement | None
    header: tuple[str, ...] = ()
    norms: tuple[NormRow, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[tuple[str, str], ...] = ()
    before: Mapping[str, int] = field(default_factory=dict)
    after: Mapping[str, int] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    engine: tuple[str, ...] = ()
    parity: Parity | None = None
    precision: Reduced | None = None
    score: Score | None = None
    measured: Measured | None = None
    facts: tuple[FactGroup, ...] = ()
