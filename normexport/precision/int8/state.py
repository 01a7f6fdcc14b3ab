"""What calibration has seen so far, as a value: states of parts of the samples add up to the state of them all.

    whole = merge(merge(first, second), third)          # to the byte what one run over all samples gives
    ranges = whole.calibration("mse").ranges            # any method, afterwards

A histogram depends on the values in it alone (`histogram`), so that merging is exact, associative and commutative. What
it can't make good is other arithmetic: states of another model, batch, or version of ONNX Runtime are refused.

Every state says which batches of which samples it has seen. The same batch twice is refused; a state of some of the
batches is a checkpoint of a run, which goes on with the others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from normexport.errors import UsageError
from normexport.io.atomic import write_text
from normexport.precision.config import METHODS
from normexport.precision.int8.calibration import Calibration
from normexport.precision.int8.histogram import Histogram
from normexport.precision.int8.ranges import RANGE_OF
from normexport.precision.int8.storage import PLAIN, Storage

FORMAT = 1
KIND = "calibration state"  # what the file says that it is

#: Numbers of batches, as spans [first, behind the last], in order, none next to another.
Spans = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class BatchesSeen:
    """How much of one set of samples has been seen: so many batches, and which of them."""

    batches: int
    spans: Spans

    @property
    def count(self) -> int:
        """How many batches have been seen."""
        return sum(behind - first for first, behind in self.spans)

    def __contains__(self, batch: object) -> bool:
        return isinstance(batch, int) and any(first <= batch < behind for first, behind in self.spans)


@dataclass(frozen=True, eq=False)
class CalibrationState:
    """Histograms of every tensor, and what they are of.

    Attributes:
        model: digest of the model's structure and weights.
        computed_by: see `runtime.computed_by`.
        batch: samples at a time: the statistics of live norms depend on it.
        tensors: histograms by tensor name.
        samples: a digest of each sample seen, sorted; of equal ones as many as there were.
        seen: by the digest of a set of samples in its batches (`numbered.Numbered`), what of it was seen.
        skipped: samples that could not be read, each in a line, sorted.
    """

    model: str
    computed_by: str
    batch: int
    tensors: Mapping[str, Histogram] = field(default_factory=dict)
    samples: tuple[str, ...] = ()
    seen: Mapping[str, BatchesSeen] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()

    def calibration(
        self, method: str, *, symmetric: bool = False, storage: Storage = PLAIN, place: str = "calibration state"
    ) -> Calibration:
        """Ranges by a method, as `calibrate` would have found them on the same samples.

        Args:
            place: its file, for messages.

        Raises:
            UsageError: an unknown method; nothing, or not all, was seen.
        """
        if method not in METHODS:
            raise UsageError(f"--calibration {method}", "is not a method", f"choose one of {', '.join(METHODS)}")
        if not self.samples:
            raise UsageError("calibration data", "holds no samples", "give at least one")
        for each in self.seen.values():
            if each.count < each.batches:
                cause = f"has seen {each.count} of {each.batches} batches"
                remedy = "merge it with the states of the others, or calibrate on with --resume"
                raise UsageError(place, cause, remedy)
        ranges = {name: RANGE_OF[method](self.tensors[name], symmetric, storage) for name in sorted(self.tensors)}
        data = hashlib.sha256("".join(self.samples).encode()).hexdigest()
        known = self.model, data, len(self.samples), self.batch
        seen = tuple(sorted(set(self.samples)))
        shown = {name: bins for name, tensor in self.tensors.items() if (bins := tensor.coarse()) is not None}
        return Calibration(ranges, method, symmetric, *known, seen=seen, dtype=storage.dtype, shown=shown)

    @property
    def words(self) -> str:
        """In one line."""
        done, total = (sum(getattr(each, name) for each in self.seen.values()) for name in ("count", "batches"))
        some = "" if done == total else f", {done} of {total} batches"
        left = f", {len(self.skipped)} skipped" if self.skipped else ""
        return f"{len(self.samples)} samples{some}{left}, {len(self.tensors)} tensors, model {self.model[:12]}"

    def as_dict(self) -> dict[str, Any]:
        """JSON-able: all but the histograms and the digests of the samples."""
        done, total = (sum(getattr(each, name) for each in self.seen.values()) for name in ("count", "batches"))
        return {
            "model": self.model,
            "computed_by": self.computed_by,
            "samples": len(self.samples),
            "batch": self.batch,
            "batches": total,
            "batches_seen": done,
            "complete": done == total,
            "tensors": len(self.tensors),
            "skipped": list(self.skipped),
        }

    def text(self) -> str:
        """The file: the same bytes for the same samples, whoever saw them in which order."""
        fields = {
            "format": FORMAT,
            "kind": KIND,
            "model": self.model,
            "computed_by": self.computed_by,
            "batch": self.batch,
            "seen": {
                name: {"batches": each.batches, "spans": [list(span) for span in each.spans]}
                for name, each in sorted(self.seen.items())
            },
            "skipped": list(self.skipped),
            "tensors": {name: _histogram_fields(self.tensors[name]) for name in sorted(self.tensors)},
            "samples": "".join(self.samples),
        }
        return json.dumps(fields, indent=1) + "\n"

    def save(self, path: Path) -> None:
        """Write as JSON.

        Raises:
            UsageError: it can't be written.
        """
        write_text(path, self.text())


def merge(first: CalibrationState, second: CalibrationState, names: tuple[str, str] = ("", "")) -> CalibrationState:
    """The state of the samples of both.

    Args:
        names: of their files, for messages.

    Raises:
        UsageError: they are of other models, batches or arithmetic, or have seen the same batch.
    """
    place = names[1] or "calibration state"
    of = names[0] or "the other"
    if first.model != second.model:
        cause = f"is of model {second.model[:12]}, and {of} of model {first.model[:12]}"
        raise UsageError(place, cause, "merge states of one model")
    if first.batch != second.batch:
        cause = f"was made {second.batch} samples at a time, and {of} {first.batch}"
        raise UsageError(place, cause, "calibrate all parts with the same --batch")
    if first.computed_by != second.computed_by:
        cause = f"was computed by {second.computed_by}, and {of} by {first.computed_by}"
        raise UsageError(place, cause, "these round otherwise: compute all parts by one")
    if set(first.tensors) != set(second.tensors) and first.samples and second.samples:
        odd = min(set(first.tensors) ^ set(second.tensors))
        raise UsageError(place, f"has other tensors than {of}: {odd!r}", "calibrate again")
    seen = dict(first.seen)
    for name, each in second.seen.items():
        seen[name] = each if name not in seen else _joined(place, of, seen[name], each)
    nothing = Histogram()
    tensors = {
        name: first.tensors.get(name, nothing).merged(second.tensors.get(name, nothing))
        for name in {*first.tensors, *second.tensors}
    }
    return CalibrationState(
        first.model,
        first.computed_by,
        first.batch,
        tensors,
        tuple(sorted((*first.samples, *second.samples))),
        seen,
        tuple(sorted((*first.skipped, *second.skipped))),
    )


def spans_of(numbers: list[int]) -> Spans:
    """Whole numbers, each once, as spans."""
    spans: list[tuple[int, int]] = []
    for each in sorted(numbers):
        if spans and spans[-1][1] == each:
            spans[-1] = spans[-1][0], each + 1
        else:
            spans.append((each, each + 1))
    return tuple(spans)


def _joined(place: str, of: str, first: BatchesSeen, second: BatchesSeen) -> BatchesSeen:
    if first.batches != second.batches:
        raise UsageError(place, f"counts {second.batches} batches, {of} {first.batches}", "calibrate again")
    joined: list[tuple[int, int]] = []
    for span in sorted((*first.spans, *second.spans)):
        if joined and span[0] < joined[-1][1]:
            raise UsageError(place, f"has seen batch {span[0]}, as {of} has", "give each part once")
        if joined and span[0] == joined[-1][1]:
            joined[-1] = joined[-1][0], span[1]
        else:
            joined.append(span)
    return BatchesSeen(first.batches, tuple(joined))


def _histogram_fields(histogram: Histogram) -> dict[str, Any]:
    first, counts = histogram.counts()
    ends = {} if not len(counts) else {"low": histogram.low, "high": histogram.high}
    return {**ends, "first": first, "counts": " ".join(map(str, counts.tolist()))}
