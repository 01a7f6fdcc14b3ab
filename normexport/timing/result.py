"""What a measurement found: each case with its times, each comparison with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from normexport.timing.config import PERCENTILES
from normexport.timing.intervals import LEAST, Interval

Seconds = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Timing:
    """One case: a file on a runtime, with so many threads, at a batch size.

    Attributes:
        file, runtime: what ran, and on what.
        threads: of one inference; 0: the runtime's choice.
        batch: samples of a call; 0 where the file fixes its batch.
        latencies: seconds of every counted call, as they came.
        load, first: seconds of opening the file, and of the first call: medians over the openings.
        memory: bytes, the most that opening and running it took; None where the system does not tell.
        settled: whether calls were steady when counting began, at every opening.
        percentiles: those that are told of the latencies.
        average_of: the means of so many calls one after another are told too; None: they are not.
    """

    file: str
    runtime: str
    threads: int
    batch: int
    latencies: Seconds = field(repr=False, compare=False)
    load: float
    first: float
    memory: int | None
    settled: bool
    percentiles: tuple[float, ...] = PERCENTILES
    average_of: int | None = None

    @property
    def averages(self) -> Seconds:
        """Means of `average_of` calls one after another, in seconds; empty where nobody asks for them.

        Calls that do not fill the last group are left out.
        """
        each = self.average_of or len(self.latencies) + 1
        groups = len(self.latencies) // each
        means: Seconds = self.latencies[: groups * each].reshape(groups, each).mean(axis=1)
        return means

    def latency(self, percent: float) -> float:
        """Seconds that so many percent of the calls stayed within; NaN without calls."""
        return float(np.percentile(self.latencies, percent)) if len(self.latencies) else math.nan

    @property
    def throughput(self) -> float:
        """Samples a second of calls one after another, by their mean."""
        return max(1, self.batch) / float(self.latencies.mean()) if len(self.latencies) else math.nan

    @property
    def words(self) -> str:
        """ "model.onnx on onnxruntime, batch 1, 2 threads"."""
        batch = f", batch {self.batch}" if self.batch else ""
        threads = f", {self.threads} thread{'s' if self.threads > 1 else ''}" if self.threads else ""
        return f"{self.file} on {self.runtime}{batch}{threads}"

    def as_dict(self, times: bool = False) -> dict[str, Any]:
        """For JSON: seconds and bytes; every latency with `times`."""
        plain: dict[str, Any] = {
            "file": self.file,
            "runtime": self.runtime,
            "threads": self.threads or None,
            "batch": self.batch or None,
            "calls": len(self.latencies),
            **{f"p{percent:g}": self.latency(percent) for percent in self.percentiles},
            "mean": float(self.latencies.mean()) if len(self.latencies) else math.nan,
            "throughput": self.throughput,
            "load": self.load,
            "first": self.first,
            "peak_memory": self.memory,
            "settled": self.settled,
        }
        if self.average_of is not None:
            plain["averages"] = self.averages.tolist()
        return {**plain, "latencies": self.latencies.tolist()} if times else plain


@dataclass(frozen=True)
class Ratio:
    """How much longer one case takes than another that took turns with it.

    Attributes:
        case, base: positions in `Benchmark.timings`.
        interval: of the time of `case` divided by that of `base`.
        by_processor: the time compared is what processors worked, which other processes take none of; else latency.
        openings: how many ratios it was made of.
    """

    case: int
    base: int
    interval: Interval
    by_processor: bool
    openings: int

    @property
    def words(self) -> str:
        """ "no difference", "4.9 % slower", "not known"."""
        if not math.isfinite(self.interval.half_width):
            return "not known"
        if not self.interval.differs:
            return "no difference"
        change = self.interval.ratio - 1
        return f"{100 * abs(change):.1f} % {'slower' if change > 0 else 'faster'}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "case": self.case,
            "base": self.base,
            "ratio": self.interval.ratio,
            "low": self.interval.low,
            "high": self.interval.high,
            "differs": self.interval.differs,
            "words": self.words,
            "compared": "processor time" if self.by_processor else "latency",
            "openings": self.openings,
        }


@dataclass(frozen=True)
class Benchmark:
    """All that was measured.

    Attributes:
        timings: the cases in the order of the grid.
        ratios: each case against the first that it took turns with.
        real: whether the inputs were given; else random.
        machine: what it ran on: processor, system, versions.
        notes: what the reader should know, in words.
    """

    timings: tuple[Timing, ...]
    ratios: tuple[Ratio, ...]
    real: bool
    machine: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def as_dict(self, times: bool = False) -> dict[str, Any]:
        """For JSON; every latency with `times`. Infinities are left to the writer."""
        return {
            "timings": [each.as_dict(times) for each in self.timings],
            "ratios": [each.as_dict() for each in self.ratios],
            "least_difference": LEAST,
            "inputs": "real" if self.real else "random",
            "machine": dict(self.machine),
            "notes": list(self.notes),
        }
