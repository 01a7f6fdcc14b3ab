"""Judge a candidate against a float64 reference and PyTorch's own error, one runtime alive at a time.

Order and memory: the candidate runs first and says which boundaries it has; its values and the baseline's are kept
(float32, at most `capture_bytes` each); the reference runs last and hands over one float64 value at a time, which is
judged on the spot and dropped. Boundaries that do not fit together are taken in groups, each a round of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from normexport.errors import UsageError
from normexport.onnx_export import Layer
from normexport.parity.inputs import Batch
from normexport.parity.metrics import Errors, fault, measure
from normexport.parity.tolerance import budget
from normexport.parity.verdict import ParityReport, Row
from normexport.runtime import Array, Runtime, release_memory

Factory: TypeAlias = Callable[[], Runtime]

UNSTABLE = 0.01  # relative error of PyTorch itself; the worst honest float32 net measured is at 1e-4
CAPTURE_BYTES = 96 << 20  # per side; ResNet-50 at 224x224, batch 1, folded, has 85 MB of module outputs


@dataclass(frozen=True)
class _Plan:
    """Boundaries to compare: at which batch, in which groups; and those the candidate does not have."""

    batch: Batch
    groups: tuple[tuple[str, ...], ...]
    absent: Mapping[str, str]


@dataclass(frozen=True)
class _Side:
    """What candidate or baseline gave: outputs per batch, captured values by tensor name."""

    name: str
    outputs: list[Mapping[str, Array]]  # in the order of the batches
    captured: dict[str, Array]
    dropped: Mapping[str, str]


@dataclass(frozen=True)
class _Pair:
    """Candidate and baseline measured on one tensor; a side that can't be measured is None, with its fault."""

    candidate: Errors | None
    baseline: Errors | None
    fault: str | None = None
    baseline_fault: str | None = None


@dataclass
class _Findings:
    """All that the report is made of; filled round by round."""

    names: tuple[str, str, str] = ("", "", "")
    outputs: list[dict[str, _Pair]] = field(default_factory=list)
    boundaries: dict[str, _Pair] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)


def check(
    reference: Factory,
    baseline: Factory,
    candidate: Factory,
    batches: Sequence[Batch],
    layers: Sequence[Layer] = (),
    *,
    precision: str = "float32",
    capture_bytes: int = CAPTURE_BYTES,
) -> ParityReport:
    """Compare outputs under every batch and module boundaries under one.

    Args:
        reference: makes the float64 runtime. Runtimes come as functions so that each lives only while it runs.
        baseline: makes PyTorch (or what stands for it) at `precision`, with jittered weights.
        candidate: makes the runtime to be judged.
        batches: inputs; outputs are judged under each. At least one.
        layers: module boundaries in execution order. Judged under the largest batch that fits `capture_bytes`.
        precision: of baseline and candidate, for the rule's floor.
        capture_bytes: most bytes of captured values held per side.

    Raises:
        UsageError: no batches, or inputs that a runtime does not accept.
    """
    if not batches:
        raise UsageError("parity", "there are no inputs to compare on", "give at least one batch size")
    names = list(dict.fromkeys(layer.tensor for layer in layers))
    opened = [candidate()]
    first = _outputs(opened[0], batches)
    plan = _plan(opened[0], names, batches, capture_bytes)
    found = _Findings()
    for index, group in enumerate(plan.groups or ((),)):
        theirs = _captured(opened.pop() if opened else candidate(), plan.batch, group)
        theirs.outputs.extend(first if index == 0 else ())  # outputs once, in the first round
        release_memory()
        ours = _both(baseline(), batches if index == 0 else (), plan.batch, group)
        release_memory()
        _judge(reference(), batches if index == 0 else (), plan.batch, theirs, ours, found)
        release_memory()
    reasons = {**plan.absent, **found.dropped}
    return ParityReport(
        *found.names,
        precision,
        tuple(_output_rows(found.outputs, batches, precision)),
        tuple(_layer_rows(found, layers, plan.batch.name, precision)),
        tuple((layer.path, reasons[layer.tensor]) for layer in layers if layer.tensor in reasons),
        tuple(_notes(found, batches, precision)),
    )


def _plan(runtime: Runtime, names: Sequence[str], batches: Sequence[Batch], most: int) -> _Plan:
    """Sizes from one run at the smallest batch, nothing kept."""
    smallest = min(batches, key=lambda batch: batch.size)
    if not names:
        return _Plan(smallest, (), {})
    sizes: dict[str, int] = {}
    runtime.run(smallest.feeds, names, lambda name, value: sizes.__setitem__(name, value.nbytes))
    per_sample = sum(sizes.values()) / smallest.size
    fitting = [batch for batch in batches if per_sample * batch.size <= most]
    chosen = max(fitting, key=lambda batch: batch.size) if fitting else smallest
    groups: list[list[str]] = []
    used = most
    for name in (name for name in names if name in sizes):
        needed = sizes[name] * chosen.size // smallest.size
        if used + needed > most:
            groups.append([])
            used = 0
        groups[-1].append(name)
        used += needed
    absent = {name: "is not in the candidate (folded away)" for name in names if name not in sizes}
    return _Plan(chosen, tuple(tuple(group) for group in groups), absent)


def _outputs(runtime: Runtime, batches: Sequence[Batch]) -> list[Mapping[str, Array]]:
    return [runtime.run(batch.feeds) for batch in batches]


def _captured(runtime: Runtime, at: Batch, names: Sequence[str]) -> _Side:
    values = runtime.run(at.feeds, names) if names else {}
    captured = {name: values[name] for name in names if name in values}
    return _Side(runtime.name, [], captured, dict(runtime.dropped) if names else {})


def _both(runtime: Runtime, batches: Sequence[Batch], at: Batch, names: Sequence[str]) -> _Side:
    """Captured values under `at` and outputs under all `batches`; one run for both where capturing is passive."""
    if not names or not runtime.passive_capture:
        outputs = _outputs(runtime, batches)
        side = _captured(runtime, at, names)
        side.outputs.extend(outputs)
        return side
    values = runtime.run(at.feeds, names)
    captured = {name: values[name] for name in names if name in values}
    dropped = dict(runtime.dropped)
    known = {name: values[name] for name in runtime.output_names}
    outputs = [known if batch is at else runtime.run(batch.feeds) for batch in batches]
    return _Side(runtime.name, outputs, captured, dropped)


def _judge(runtime: Runtime, batches: Sequence[Batch], at: Batch, theirs: _Side, ours: _Side, found: _Findings) -> None:
    """Run the reference; measure both sides on each value as it arrives, and let go of all three."""

    def boundary(name: str, value: Array) -> None:
        found.boundaries[name] = _pair(value, theirs.captured.pop(name), ours.captured.pop(name))

    names = [name for name in theirs.captured if name in ours.captured]
    known: Mapping[str, Array] | None = None
    if names:
        known = runtime.run(at.feeds, names, boundary)
    for name, reason in {**theirs.dropped, **ours.dropped, **(runtime.dropped if names else {})}.items():
        found.dropped[name] = reason
        found.boundaries.pop(name, None)
    for index, batch in enumerate(batches):
        exact = known if known is not None and runtime.passive_capture and batch is at else runtime.run(batch.feeds)
        their_outputs, our_outputs = theirs.outputs[index], ours.outputs[index]
        found.outputs.append(
            {name: _pair(exact[name], their_outputs.get(name), our_outputs.get(name)) for name in runtime.output_names}
        )
    found.names = (runtime.name, ours.name, theirs.name)


def _pair(exact: Array, theirs: Array | None, ours: Array | None) -> _Pair:
    baseline_fault = "is missing" if ours is None else fault(exact, ours)
    baseline = None if ours is None or baseline_fault else measure(exact, ours)
    if theirs is None:
        return _Pair(None, baseline, "is missing", baseline_fault)
    candidate_fault = fault(exact, theirs)
    if candidate_fault is None and ours is not None and theirs.dtype != ours.dtype:
        candidate_fault = f"dtype {theirs.dtype}, expected {ours.dtype}"
    candidate = None if candidate_fault else measure(exact, theirs)
    return _Pair(candidate, baseline, candidate_fault, baseline_fault)


@dataclass(frozen=True)
class _Pooled:
    """The baseline's relative errors over several batches, and the elements they were measured on."""

    rms: float = 0.0
    max_abs: float = 0.0
    samples: int = 0


def _pooled(pairs: Sequence[_Pair]) -> _Pooled:
    measured = [pair.baseline for pair in pairs if pair.baseline is not None and pair.baseline.size > 0]
    if not measured:
        return _Pooled()
    samples = sum(errors.size for errors in measured)
    # Integer tensors: `rms` is already a share. A zero reference has no relative error; its own row has the absolute.
    relative = [(e.relative_rms if e.floating else e.rms) if e.scale_rms > 0 else 0.0 for e in measured]
    largest = [e.max_abs / e.scale_max if e.scale_max > 0 else 0.0 for e in measured]
    square = sum(e.size * share**2 for e, share in zip(measured, relative, strict=True)) / samples
    return _Pooled(square**0.5, max(largest), samples)


def _row(tensor: str, layer: Layer | None, batch: str, pair: _Pair, pooled: _Pooled, precision: str) -> Row:
    path, kind = (layer.path, layer.type) if layer else ("", "")
    if pair.candidate is None:
        return Row(tensor, path, kind, batch, pair.fault, None, pair.baseline, None, float("inf"))
    errors, own = pair.candidate, pair.baseline
    unit, unit_max = (errors.scale_rms, errors.scale_max) if errors.floating else (1.0, 1.0)
    rms = max(own.rms if own else 0.0, pooled.rms * unit)
    max_abs = max(own.max_abs if own else 0.0, pooled.max_abs * unit_max)
    allowed = budget(errors, rms, max_abs, max(pooled.samples, own.size if own else 0), precision)
    return Row(tensor, path, kind, batch, None, errors, own, allowed, allowed.excess(errors))


def _output_rows(outputs: Sequence[Mapping[str, _Pair]], batches: Sequence[Batch], precision: str) -> Iterator[Row]:
    for name in outputs[0]:
        pooled = _pooled([pairs[name] for pairs in outputs])
        for pairs, batch in zip(outputs, batches, strict=True):
            yield _row(name, None, batch.name, pairs[name], pooled, precision)


def _layer_rows(found: _Findings, layers: Sequence[Layer], batch: str, precision: str) -> Iterator[Row]:
    """A boundary that is an output shares the output's baseline: a one-number head says little by itself."""
    for layer in layers:
        pair = found.boundaries.get(layer.tensor)
        if pair is None:
            continue
        same = [pairs[layer.tensor] for pairs in found.outputs if layer.tensor in pairs]
        yield _row(layer.tensor, layer, batch, pair, _pooled(same), precision)


def _unstable(baseline: Errors, precision: str) -> bool:
    return precision == "float32" and np.isfinite(baseline.relative_rms) and baseline.relative_rms > UNSTABLE


def _notes(found: _Findings, batches: Sequence[Batch], precision: str) -> Iterator[str]:
    for pairs, batch in zip(found.outputs, batches, strict=True):
        for name, pair in pairs.items():
            if pair.baseline_fault:
                yield f"{name}, {batch.name}: {found.names[1]} itself: {pair.baseline_fault}"
            elif pair.baseline is not None and pair.baseline.floating and _unstable(pair.baseline, precision):
                share = f"{pair.baseline.relative_rms:.0%}"
                aside = "and a candidate may be too (random numbers in the model, or a result that cancels out?)"
                yield f"{name}, {batch.name}: {found.names[1]} itself is {share} off {found.names[0]}, {aside}"
