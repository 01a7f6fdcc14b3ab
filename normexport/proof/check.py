"""Judge a candidate against a float64 reference and PyTorch's own error, one runtime alive at a time.

Order and memory: the candidate runs first and says which boundaries it has; its values and the baseline's are kept
(float32, at most `capture_bytes` each); the reference runs last and hands over one float64 value at a time, which is
judged on the spot and dropped. Boundaries that do not fit together are taken in groups, each a round of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

from normexport.errors import UsageError
from normexport.onnx_export import Layer
from normexport.progress import counted
from normexport.proof.inputs.batches import Batch
from normexport.proof.luck import is_near_miss, settle_luck
from normexport.proof.not_run import report_not_run
from normexport.proof.rows import OutputFindings, Pair, output_notes, output_rows, pair_of, pooled, row_of
from normexport.proof.ties import settle_ties
from normexport.proof.verdict import ParityReport, Row
from normexport.runtime import Array, Runtime, release_memory
from normexport.runtime.elsewhere import run_each
from normexport.text import port_words

Factory: TypeAlias = Callable[[], Runtime]

#: What there is to say of an output that only the candidate has.
UNJUDGED = "only the candidate has it, so nothing says what is right"
_FIRST = 4  # boundaries asked for at once while nothing is known of their sizes
CAPTURE_BYTES = 96 << 20  # per side; ResNet-50 at 224x224, batch 1, folded, has 85 MB of module outputs


@dataclass(frozen=True)
class _Comparison:
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


@dataclass
class _Findings:
    """All that the report is made of; filled round by round."""

    names: tuple[str, str, str] = ("", "", "")
    unjudged: tuple[str, ...] = ()  # outputs that only the candidate has
    outputs: dict[str, OutputFindings] = field(default_factory=dict)
    boundaries: dict[str, Pair] = field(default_factory=dict)
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
    fixed: Collection[str] = (),
    unproven: Sequence[str] = (),
    others: Sequence[Factory] = (),
    ties: bool = False,
) -> ParityReport:
    """Compare outputs under every batch and module boundaries under one.

    A candidate that runs on some inputs, and not on others on which the reference does, fails on those.

    Args:
        reference: makes the float64 runtime. Runtimes come as functions so that each lives only while it runs.
        baseline: makes PyTorch (or what stands for it) at `precision`, with jittered weights.
        candidate: makes the runtime to be judged.
        batches: inputs; outputs are judged under each. At least one.
        layers: module boundaries in execution order. Judged under the largest batch that fits `capture_bytes`.
        precision: of baseline and candidate, for the rule's floor.
        capture_bytes: most bytes of captured values held per side.
        fixed: outputs that the reference's graph computes from no input: that they never vary is as it should be.
        unproven: what stands between the user's model and `reference`, in words: nothing here can prove that.
        others: more baselines, with weights moved otherwise, for rows that are just out of their budgets: by luck
            (`proof.luck`), or in a graph with quantisers by ties (`proof.ties`).
        ties: whether the candidate has quantisers.

    Raises:
        UsageError: no batches, or inputs that reference or baseline do not accept, or the candidate none of.
    """
    if not batches:
        raise UsageError("parity", "there are no inputs to compare on", "give at least one batch size")
    names = list(dict.fromkeys(layer.tensor for layer in layers))
    opened = [candidate()]
    try:
        first = _outputs(opened[0], batches)
    except UsageError as refusal:
        return report_not_run(refusal, opened[0], reference, baseline, batches, precision)
    comparison = _choose_comparison(opened[0], names, batches, capture_bytes)
    found = _Findings()
    for index, group in enumerate(comparison.groups or ((),)):
        theirs = _capture(opened.pop() if opened else candidate(), comparison.batch, group)
        theirs.outputs.extend(first if index == 0 else ())  # outputs once, in the first round
        release_memory()
        ours = _capture_and_run(baseline(), batches if index == 0 else (), comparison.batch, group)
        release_memory()
        _judge(reference(), batches if index == 0 else (), comparison.batch, theirs, ours, found)
        release_memory()
    reasons = {**comparison.absent, **found.dropped}
    report = ParityReport(
        *found.names,
        precision,
        tuple(output_rows(found.outputs, found.names, precision, fixed)),
        tuple(_layer_rows(found, layers, comparison.batch.name, precision)),
        tuple((layer.path, reasons[layer.tensor]) for layer in layers if layer.tensor in reasons),
        tuple(output_notes(found.outputs, found.names, precision)),
        (
            *unproven,
            *(f"{port_words('output', name)}: {UNJUDGED}" for name in found.unjudged),
        ),
        tuple(batches),
        {name: output.channels.channels() for name, output in found.outputs.items()},
    )
    if others and ties and not report.passed:
        return settle_ties(report, reference, candidate, others)
    if not others or ties or not is_near_miss(report):
        return report
    by_others = partial(
        check,
        reference,
        candidate=candidate,
        batches=batches,
        layers=layers,
        precision=precision,
        capture_bytes=capture_bytes,
        fixed=fixed,
        unproven=unproven,
    )
    return settle_luck(report, (by_others(baseline=other) for other in others))


def _choose_comparison(runtime: Runtime, names: Sequence[str], batches: Sequence[Batch], most: int) -> _Comparison:
    """Which boundaries fit together, by their sizes at the smallest batch."""
    smallest = min(batches, key=lambda batch: batch.size)
    if not names:
        return _Comparison(smallest, (), {})
    sizes = _sizes(runtime, smallest, names, most)
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
    return _Comparison(chosen, tuple(tuple(group) for group in groups), absent)


def _sizes(runtime: Runtime, batch: Batch, names: Sequence[str], most: int) -> dict[str, int]:
    """Bytes of the values that the runtime has, at most about `most` of them asked for at once.

    ONNX Runtime holds all that it is asked for until its run is over: all boundaries of a long sound are gigabytes.
    """
    sizes: dict[str, int] = {}
    waiting = list(names)
    count = _FIRST
    while waiting:
        asked, waiting = waiting[:count], waiting[count:]
        runtime.run(batch.feeds, asked, lambda name, value: sizes.__setitem__(name, value.nbytes))
        count = max(1, most // max(1, *sizes.values())) if sizes else _FIRST
    return sizes


def _outputs(runtime: Runtime, batches: Sequence[Batch]) -> list[Mapping[str, Array]]:
    return [*_each_output(runtime, batches)]


def _each_output(runtime: Runtime, batches: Sequence[Batch]) -> Iterator[Mapping[str, Array]]:
    """What the runtime gives for each, in their order."""
    return run_each(runtime, (batch.feeds for batch in counted(f"running {runtime.name}", batches)))


def _capture(runtime: Runtime, at: Batch, names: Sequence[str]) -> _Side:
    values = runtime.run(at.feeds, names) if names else {}
    captured = {name: values[name] for name in names if name in values}
    return _Side(runtime.name, [], captured, dict(runtime.dropped) if names else {})


def _capture_and_run(runtime: Runtime, batches: Sequence[Batch], at: Batch, names: Sequence[str]) -> _Side:
    """Captured values under `at` and outputs under all `batches`; one run for both where capturing is passive."""
    if not names or not runtime.passive_capture:
        outputs = _outputs(runtime, batches)
        side = _capture(runtime, at, names)
        side.outputs.extend(outputs)
        return side
    values = runtime.run(at.feeds, names)
    captured = {name: values[name] for name in names if name in values}
    dropped = dict(runtime.dropped)
    known = {name: values[name] for name in runtime.output_names}
    told = counted(f"running {runtime.name}", batches)
    outputs = [known if batch is at else runtime.run(batch.feeds) for batch in told]
    return _Side(runtime.name, outputs, captured, dropped)


def _judge(runtime: Runtime, batches: Sequence[Batch], at: Batch, theirs: _Side, ours: _Side, found: _Findings) -> None:
    """Run the reference; measure both sides on each value as it arrives, and let go of all three."""

    def boundary(name: str, value: Array) -> None:
        found.boundaries[name] = pair_of(value, theirs.captured.pop(name), ours.captured.pop(name))

    names = [name for name in theirs.captured if name in ours.captured]
    known: Mapping[str, Array] | None = None
    if names:
        known = runtime.run(at.feeds, names, boundary)
    for name, reason in {**theirs.dropped, **ours.dropped, **(runtime.dropped if names else {})}.items():
        found.dropped[name] = reason
        found.boundaries.pop(name, None)
    is_known = known is not None and runtime.passive_capture
    exacts = _each_output(runtime, [batch for batch in batches if not (is_known and batch is at)])
    for index, batch in enumerate(batches):
        exact = known if known is not None and is_known and batch is at else next(exacts)
        for name in runtime.output_names:
            output = found.outputs.setdefault(name, OutputFindings())
            output.add(batch, exact[name], theirs.outputs[index].get(name), ours.outputs[index].get(name))
    if theirs.outputs:
        found.unjudged = tuple(name for name in theirs.outputs[0] if name not in found.outputs)
    found.names = (runtime.name, ours.name, theirs.name)


def _layer_rows(found: _Findings, layers: Sequence[Layer], batch: str, precision: str) -> Iterator[Row]:
    """A boundary that is an output shares the output's baseline: a one-number head says little by itself."""
    for layer in layers:
        pair = found.boundaries.get(layer.tensor)
        if pair is not None:
            output = found.outputs.get(layer.tensor)
            yield row_of(layer.tensor, layer, batch, pair, pooled(output.pairs if output else ()), precision)
