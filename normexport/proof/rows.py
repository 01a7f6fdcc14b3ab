"""Measured errors -> judged rows: each within its budget or not, and each output with what keeps it from being proof.

An output within its budget is not proven (`Row.doubt`) where
 - the yardstick is itself further off than `unstable(precision)` of the output: random numbers in the model, a result
   that cancels out, a wrong reference: such a budget lets anything through. A candidate within a hundredth of that
   needs no yardstick (norms that stay live, in a half type, beside PyTorch's on inputs of mean 100 sigma);
 - nothing finite was compared: the output is empty, or NaN or infinite everywhere, on both sides;
 - a constant would be within the budget too: the output hardly varies between the inputs.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from normexport.onnx_export import Layer
from normexport.proof.inputs.batches import Batch
from normexport.proof.metrics import Deviation, fault, measure
from normexport.proof.signal import Channel, ChannelMeter, SignalMeter
from normexport.proof.tolerance import budget, channel_budget, unstable
from normexport.proof.verdict import Row
from normexport.runtime import Array

CLOSE = 0.01  # of `unstable`: 1e-4 of the output in float32


@dataclass(frozen=True)
class Pair:
    """Candidate and baseline measured on one tensor; a side that can't be measured is None, with its fault."""

    candidate: Deviation | None
    baseline: Deviation | None
    fault: str | None = None
    baseline_fault: str | None = None


@dataclass(frozen=True)
class Pooled:
    """The baseline's relative errors over several batches, and the elements they were measured on."""

    rms: float = 0.0
    max_abs: float = 0.0
    samples: int = 0


@dataclass
class OutputFindings:
    """One output over all batches: its pairs in their order, what it says, and its channels."""

    pairs: list[Pair] = field(default_factory=list)
    batches: list[str] = field(default_factory=list)
    meter: SignalMeter = field(default_factory=SignalMeter)
    channels: ChannelMeter = field(default_factory=ChannelMeter)

    def add(self, batch: Batch, exact: Array, theirs: Array | None, ours: Array | None) -> None:
        """What both sides gave for one batch."""
        pair = pair_of(exact, theirs, ours)
        self.pairs.append(pair)
        self.batches.append(batch.name)
        self.meter.add(exact, batch.size)
        if theirs is not None and ours is not None and pair.candidate is not None and pair.baseline is not None:
            self.channels.add(exact, theirs, ours)


def pair_of(exact: Array, theirs: Array | None, ours: Array | None) -> Pair:
    """Both sides against the reference's value."""
    baseline_fault = "is missing" if ours is None else fault(exact, ours)
    baseline = None if ours is None or baseline_fault else measure(exact, ours)
    if theirs is None:
        return Pair(None, baseline, "is missing", baseline_fault)
    candidate_fault = fault(exact, theirs)
    if candidate_fault is None and ours is not None and theirs.dtype != ours.dtype:
        candidate_fault = f"dtype {theirs.dtype}, expected {ours.dtype}"
    candidate = None if candidate_fault else measure(exact, theirs)
    return Pair(candidate, baseline, candidate_fault, baseline_fault)


def pooled(pairs: Sequence[Pair]) -> Pooled:
    """The baseline over several batches: a few numbers are small by luck, many are not."""
    measured = [pair.baseline for pair in pairs if pair.baseline is not None and pair.baseline.size > 0]
    if not measured:
        return Pooled()
    samples = sum(errors.size for errors in measured)
    # Integer tensors: `rms` is already a share. A zero reference has no relative error; its own row has the absolute.
    relative = [(e.relative_rms if e.floating else e.rms) if e.scale_rms > 0 else 0.0 for e in measured]
    largest = [e.max_abs / e.scale_max if e.scale_max > 0 else 0.0 for e in measured]
    square = sum(e.size * share * share for e, share in zip(measured, relative, strict=True)) / samples
    return Pooled(square**0.5, max(largest), samples)


def row_of(
    tensor: str,
    layer: Layer | None,
    batch: str,
    pair: Pair,
    pool: Pooled,
    precision: str,
    doubt: str | None = None,
) -> Row:
    """One tensor under one set of inputs, judged by the rule of `normexport.proof.tolerance`."""
    path, kind = (layer.path, layer.type) if layer else ("", "")
    if pair.candidate is None:
        return Row(tensor, path, kind, batch, pair.fault, None, pair.baseline, None, float("inf"))
    errors, own = pair.candidate, pair.baseline
    unit, unit_max = (errors.scale_rms, errors.scale_max) if errors.floating else (1.0, 1.0)
    rms = max(own.rms if own else 0.0, pool.rms * unit)
    max_abs = max(own.max_abs if own else 0.0, pool.max_abs * unit_max)
    allowed = budget(errors, rms, max_abs, max(pool.samples, own.size if own else 0), precision)
    return Row(tensor, path, kind, batch, None, errors, own, allowed, allowed.excess(errors), doubt)


def output_rows(
    outputs: Mapping[str, OutputFindings], names: tuple[str, str, str], precision: str, fixed: Collection[str] = ()
) -> Iterator[Row]:
    """A row per output and batch, and one more where a single channel is out of its budget."""
    for name, found in outputs.items():
        pool = pooled(found.pairs)
        rows = [row_of(name, None, *each, pool, precision) for each in zip(found.batches, found.pairs, strict=True)]
        doubt = doubt_of(found, rows, pool, names, precision, name in fixed)
        for batch, pair in zip(found.batches, found.pairs, strict=True):
            yield row_of(name, None, batch, pair, pool, precision, doubt)
        if all(row.excess <= 1 for row in rows):
            yield from channel_row(name, found.channels.channels(), precision)


def output_notes(outputs: Mapping[str, OutputFindings], names: tuple[str, str, str], precision: str) -> Iterator[str]:
    """What the reader should know of single outputs and batches."""
    for name, found in outputs.items():
        for pair, batch in zip(found.pairs, found.batches, strict=True):
            if pair.baseline_fault:
                yield f"{name}, {batch}: {names[1]} itself: {pair.baseline_fault}"
            elif pair.baseline is not None and pair.baseline.floating:
                share = pair.baseline.relative_rms
                if math.isfinite(share) and share > unstable(precision):
                    aside = "and a candidate may be too (random numbers in the model, or a result that cancels out?)"
                    yield f"{name}, {batch}: {names[1]} itself is {share:.0%} off {names[0]}, {aside}"
        signal = found.meter.signal()
        if 0 < signal.finite < signal.size:
            count = f"{signal.size - signal.finite:,} of {signal.size:,}"
            yield f"{name}: {count} elements are NaN or infinite on both sides"


def doubt_of(
    found: OutputFindings,
    rows: Sequence[Row],
    pool: Pooled,
    names: tuple[str, str, str],
    precision: str,
    fixed: bool = False,
) -> str | None:
    """Why an output within its budget proves nothing, or None."""
    signal = found.meter.signal()
    if signal.size == 0:
        return "it is empty for every input that was tried"
    if signal.finite == 0:
        return "it is NaN or infinite everywhere, on both sides"
    close = unstable(precision) * CLOSE
    floating = any(pair.candidate is not None and pair.candidate.floating for pair in found.pairs)
    allowed = max((row.budget.rms for row in rows if row.budget is not None), default=0.0)
    if floating and pool.rms > unstable(precision):
        if _off(found) > close:
            share = f"{pool.rms:.2g} times the size of the output" if pool.rms > 1 else f"{pool.rms:.0%}"
            return f"{names[1]} itself is {share} off {names[0]}: such a budget lets wrong results through"
        allowed = close * max(pair.candidate.scale_rms for pair in found.pairs if pair.candidate is not None)
    if not fixed and signal.variation <= allowed:
        how = "is the same" if signal.variation == 0.0 else "is nearly the same"
        return f"it {how} for every input that was tried, so a constant would pass too; give real inputs"
    return None


def _off(found: OutputFindings) -> float:
    """The candidate's largest relative error over the batches; beside zeros any error is infinite."""
    return max((pair.candidate.relative_rms for pair in found.pairs if pair.candidate is not None), default=math.inf)


def channel_row(name: str, channels: Sequence[Channel], precision: str) -> Iterator[Row]:
    """The channel that is furthest out of its budget, where one is."""
    if not channels:
        return
    scale = max(channel.scale for channel in channels)
    worst = max(channels, key=lambda each: _excess(each, scale, precision))
    excess = _excess(worst, scale, precision)
    if excess <= 1:
        return
    errors = Deviation(worst.size, worst.scale, worst.scale, worst.candidate, 0.0, 1.0)
    own = Deviation(worst.size, worst.scale, worst.scale, worst.baseline, 0.0, 1.0)
    allowed = channel_budget(worst.size, worst.scale, scale, worst.baseline, precision)
    yield Row(name, "", "", f"all inputs, {worst.index} of axis {worst.axis}", None, errors, own, allowed, excess)


def _excess(channel: Channel, scale: float, precision: str) -> float:
    allowed = channel_budget(channel.size, channel.scale, scale, channel.baseline, precision).rms
    return 0.0 if channel.candidate == 0.0 else channel.candidate / allowed if allowed > 0 else math.inf
