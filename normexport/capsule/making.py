"""A judgement -> a capsule: what it was judged on, what was right, and the budgets that it had."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from normexport.capsule.content import MOST_DB, Capsule, Reference, Rule, Signal, Within
from normexport.capsule.gathering import boundaries_of, budget_rule, channel_shares, runs_of, size_of
from normexport.capsule.size import MOST_BYTES
from normexport.dtypes import INT8
from normexport.engine.manifest import FileId
from normexport.errors import UsageError
from normexport.onnx_export import InputSpec
from normexport.proof import Batch, ParityReport, budget, fault, measure
from normexport.proof.signal import SignalMeter
from normexport.provenance.record import installed_versions
from normexport.runtime import Array, Runtime

#: What another runtime of an int8 file may lose of its distance to the reference: it rounds halves otherwise.
SPARE_DB = 1.0


@dataclass(frozen=True)
class Origin:
    """What a capsule is made from: the checkpoint, where it is a file, and the ONNX file with its data."""

    source: FileId | None = None
    model: tuple[FileId, ...] = ()


def make(
    report: ParityReport,
    reference: Runtime,
    inputs: Sequence[InputSpec],
    model: ir.Model,
    origin: Origin = Origin(),
    *,
    most: int = MOST_BYTES,
) -> Capsule:
    """The capsule of a judgement, with its budgets.

    Args:
        report: of a candidate that did not fail.
        reference: the float64 runtime that it was judged against; it runs once more.
        inputs: what the model reads.
        model: the candidate, for the types of its outputs.
        most: bytes of all arrays. Inputs and outputs are whole: where they take more, the largest batches are left
            out, and a note says so. Boundaries share what is left.

    Raises:
        UsageError: inputs and outputs of the smallest batch take more than `most`.
    """
    rules: dict[str, list[Within]] = {}
    for row in report.outputs:  # of one output: in the order of the batches
        rules.setdefault(row.tensor, []).append(budget_rule(row))
    runs, notes = runs_of(report.batches, reference, inputs, model, lambda at, name, _: rules[name][at], most)
    boundaries: tuple[Reference, ...] = ()
    names = [batch.name for batch in report.batches]
    at = names.index(report.layers[0].batch) if report.layers else 0
    if at in runs:
        room = most - sum(map(size_of, runs.values()))
        boundaries = boundaries_of(report.layers, report.batches[at], reference, room)
    if len(boundaries) < len(report.layers):
        notes += (f"{len(report.layers) - len(boundaries)} module boundaries found no room in the capsule",)
    return Capsule(
        report.precision,
        report.reference,
        report.baseline,
        {spec.name: spec.dtype for spec in inputs},
        tuple(runs.values()),
        boundaries,
        list(runs).index(at) if boundaries else 0,
        report.unproven,
        {name: shares for name, channels in report.channels.items() if (shares := channel_shares(channels))},
        origin.source,
        origin.model,
        installed_versions(),
        notes,
    )


def make_by_signal(
    candidate: Runtime,
    reference: Runtime,
    samples: Batch,
    inputs: Sequence[InputSpec],
    model: ir.Model,
    min_snr: float,
    origin: Origin = Origin(),
    dtype: str = INT8,
    *,
    most: int = MOST_BYTES,
) -> Capsule:
    """The capsule of an int8 or fp8 model: for each output a least signal-to-noise ratio, and no boundaries.

    The signal is what an output says: its RMS about each element's mean over the samples. The limit is `min_snr` where
    the model itself keeps it on these samples, and else (it was accepted by its accuracy) what it has, less `SPARE_DB`.

    Args:
        candidate, reference: the model, and float64.
        samples: real inputs.
        min_snr: dB.
        dtype: its type of eight bits.

    Raises:
        UsageError: see `make`; or the model gives no numbers on these samples.
    """
    own = candidate.run(samples.feeds)

    def rule(at: int, name: str, exact: Array) -> Rule:
        wrong = fault(exact, own[name])
        if wrong is not None:
            raise UsageError(f"output {name}", f"can't go into a capsule: {wrong}", "leave --capsule out")
        errors = measure(exact, own[name])
        if not errors.floating:
            allowed = budget(errors, errors.rms, errors.max_abs, errors.size, "float32")
            return Within(allowed.rms, allowed.max_abs, errors)
        meter = SignalMeter()
        meter.add(exact, samples.size)
        signal = meter.signal().variation
        has = snr_db(signal, errors.rms)
        return Signal(min_snr if has >= min_snr else has - SPARE_DB, signal)

    runs, notes = runs_of((samples,), reference, inputs, model, rule, most)
    types = {spec.name: spec.dtype for spec in inputs}
    by = candidate.name, types, tuple(runs.values())
    made = Capsule(dtype, reference.name, *by, versions=installed_versions(), notes=notes)
    return replace(made, source=origin.source, model=origin.model)


def snr_db(signal: float, noise: float) -> float:
    """20 log10(signal / noise), within the 400 dB either way that a capsule holds."""
    if noise == 0.0 or signal == 0.0:
        return MOST_DB if noise == 0.0 else SPARE_DB - MOST_DB
    return min(max(20 * math.log10(signal / noise), SPARE_DB - MOST_DB), MOST_DB)
