"""Judge a candidate by a capsule: the rule of parity, without the checkpoint, without torch.

What is compared, measured and allowed is `normexport.proof`'s; the reference and the budgets come from the capsule
instead of from runtimes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from normexport.capsule.candidates import (
    Absent,
    Candidate,
    Given,
    arrays_candidate,
    onnx_candidate,
    plan_candidate,
)
from normexport.capsule.content import Capsule, Reference, Run, count_special
from normexport.capsule.reading import read
from normexport.capsule.served import ServedCandidate
from normexport.dtypes import EIGHT_BITS, HALVES
from normexport.engine.manifest import FileId, read_manifest
from normexport.errors import UsageError
from normexport.io.onnx_model import opened_model
from normexport.logs import in_words, logger
from normexport.proof import ParityReport, Row, fault, measure
from normexport.proof.metrics import Float64s
from normexport.proof.rows import OutputFindings, Pair, channel_row, doubt_of, pooled
from normexport.proof.signal import Channel
from normexport.proof.tolerance import UNSTABLE
from normexport.runtime import Array
from normexport.runtime.guarded import in_child
from normexport.runtime.served import ServedModel
from normexport.runtime.served_address import TIMEOUT, Address
from normexport.runtime.tensorrt_runtime import Plan

_LOG = logger(__name__)
_PLANS = (".plan", ".engine", ".trt")


def prove(
    capsule: Capsule | str | Path,
    candidate: str | Path | None = None,
    *,
    trust: bool = False,
    weights_under: str | Path | None = None,
    url: str | None = None,
    timeout: float = TIMEOUT,
) -> ParityReport:
    """Judge a candidate by a capsule.

    Args:
        capsule: a capsule, or the path of one.
        candidate: an ONNX file (.onnx), a plan or its manifest, or arrays that another program made (.npz).
        trust: open a plan that holds code for the host.
        weights_under: a folder in which external data of an ONNX file may lie too.
        url: in place of a candidate, a model on a server: "http://localhost:8000/MODEL", or grpc, https or grpcs.
        timeout: seconds that the server may take for one answer; without one the output has failed.

    Raises:
        UsageError: a file can't be read or is something else; the candidate reads other inputs; the server can't be
            reached, or does not have the model.
        FoldError, EngineError, MissingComponent: it can't be run; for a plan without a GPU the last.
    """
    if (candidate is None) == (url is None):
        cause = "is to be judged beside a file" if url is not None else "and a server are both missing"
        place = f"--url {url}" if url is not None else "a candidate"
        raise UsageError(place, cause, "name one of them: CAND, or --url http://localhost:8000/MODEL")
    if url is not None:
        Address.of(url)  # before the capsule is read
    known = capsule if isinstance(capsule, Capsule) else read(capsule)
    if url is not None:
        report = _prove_served(known, url, timeout)
    else:
        report = _proven(known, Path(str(candidate)), trust, weights_under)
    _LOG.info("%s by a capsule: %s", candidate or url, in_words(report.judgement))
    return report


def _prove_served(capsule: Capsule, url: str, timeout: float) -> ParityReport:
    with ServedModel(url, timeout) as model:
        candidate = ServedCandidate(model, capsule)
        report = judge(capsule, candidate)
        report = _with_note(report, candidate.versions(capsule))
    note = candidate.note(capsule)
    return report if note is None else _with_note(report, note)


def _proven(known: Capsule, path: Path, trust: bool, weights_under: str | Path | None) -> ParityReport:
    if path.suffix.lower() == ".onnx":
        return in_child(lambda: _prove_onnx(known, path, weights_under), str(path))
    plan = path.with_suffix("") if path.suffix.lower() == ".json" else path  # a manifest is model.plan.json
    if plan.suffix.lower() in _PLANS:
        return _prove_plan(known, Plan(plan, trust))
    if path.suffix.lower() == ".npz":
        with arrays_candidate(path, known) as arrays:
            return judge(known, arrays)
    raise UsageError(str(path), "is no ONNX file, plan or .npz file by its name", "name one of these")


def _prove_onnx(capsule: Capsule, path: Path, weights_under: str | Path | None) -> ParityReport:
    report = judge(capsule, onnx_candidate(opened_model(path, weights_under), capsule))
    made_with = [file.sha256 for file in capsule.model]
    if made_with and FileId.of(path).sha256 != made_with[0]:
        return _with_note(report, f"{path.name} is another file than the capsule was made with")
    return report


def _prove_plan(capsule: Capsule, plan: Plan) -> ParityReport:
    manifest = read_manifest(plan.path)
    report = judge(capsule, plan_candidate(plan, manifest))
    if capsule.model and manifest.onnx.sha256 != capsule.model[0].sha256:
        return _with_note(report, f"{plan.path.name} was built from another file than the capsule was made with")
    return report


def judge(capsule: Capsule, candidate: Candidate) -> ParityReport:
    """Judge a candidate under every run that it has values for."""
    found = _Findings()
    for number, run in enumerate(capsule.runs):
        reason = candidate.lacks(number, run)
        if reason is not None:
            found.notes.append(f"{run.name} was not judged: {reason}")
            continue
        _judge_run(capsule, number, candidate, found)
    names = f"{capsule.reference} (capsule)", capsule.baseline, candidate.name
    return ParityReport(
        *names,
        capsule.precision,
        tuple(_output_rows(capsule, found, names)),
        tuple(row for _, row in sorted(found.layers.items())),
        tuple(found.unchecked),
        (*found.notes, *capsule.notes),
        capsule.unproven,
    )


@dataclass
class _Findings:
    """What the report is made of; filled run by run."""

    outputs: dict[str, OutputFindings] = field(default_factory=dict)
    rows: dict[str, list[Row]] = field(default_factory=dict)
    layers: dict[int, Row] = field(default_factory=dict)
    unchecked: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def _judge_run(capsule: Capsule, number: int, candidate: Candidate, found: _Findings) -> None:
    run = capsule.runs[number]
    at_run = capsule.boundaries if number == capsule.boundary_run else ()

    def sink(name: str, value: Given) -> None:
        for index, boundary in enumerate(at_run):
            if boundary.name != name:
                continue
            if isinstance(value, Absent):
                found.unchecked.append((boundary.path, value))
            else:
                found.layers[index] = _row(boundary, run, value)

    given = candidate.give(number, run, {boundary.name: boundary for boundary in at_run}, sink)
    for output in run.outputs:
        wrong = _wrong_type(candidate.types.get(output.name, ""), output.dtype, capsule.precision)
        value = wrong or given[output.name]
        row = _row(output, run, value)
        found.rows.setdefault(output.name, []).append(row)
        known = found.outputs.setdefault(output.name, OutputFindings())
        known.pairs.append(Pair(row.candidate, row.baseline, row.fault))
        known.meter.add(output.values, run.size)
        if row.candidate is not None and not isinstance(value, str):
            known.channels.add(output.values, value, output.values)


def _output_rows(capsule: Capsule, found: _Findings, names: tuple[str, str, str]) -> Iterator[Row]:
    """As `parity` has them: with what keeps an output from being proof, and its channel that is out of its budget."""
    precision = capsule.precision if capsule.precision in UNSTABLE else "float32"  # int8 has no baseline
    for name, rows in found.rows.items():
        known = found.outputs[name]
        doubt = doubt_of(known, rows, pooled(known.pairs), names, precision)
        yield from (replace(row, doubt=doubt) for row in rows)
        if name in capsule.channels and all(row.within for row in rows):
            yield from channel_row(name, _channels(known, capsule.channels[name]), precision)


def _channels(known: OutputFindings, baseline: Mapping[int, Float64s]) -> list[Channel]:
    """The candidate's channels beside the baseline's, whose errors are shares of their scale."""
    return [
        replace(channel, baseline=float(baseline[channel.axis][channel.index]) * channel.scale)
        for channel in known.channels.channels()
        if channel.index < len(baseline.get(channel.axis, ()))
    ]


def _row(reference: Reference, run: Run, value: Given) -> Row:
    """Measured by `normexport.proof` on the elements that the capsule has."""
    place = reference.name, reference.path, reference.type, run.name
    baseline = reference.rule.baseline
    wrong = value if isinstance(value, str) else _fault(reference, value)
    if wrong is not None:
        return Row(*place, wrong, None, baseline, None, float("inf"))
    assert not isinstance(value, str)
    errors = measure(reference.values, _elements(reference, value))
    allowed = reference.rule.budget
    return Row(*place, None, errors, baseline, allowed, allowed.excess(errors))


def _fault(reference: Reference, value: Array) -> str | None:
    """As `proof.fault`; NaN and infinities are counted over the whole tensor, of which a sample shows few."""
    if value.shape != reference.shape:
        return f"shape {value.shape}, expected {reference.shape}"
    wrong = fault(reference.values, _elements(reference, value))
    if wrong is None and reference.at is not None and count_special(value) != reference.special:
        counts = ", ".join(map(str, count_special(value))), ", ".join(map(str, reference.special))
        return f"elements that are NaN, +inf and -inf: {counts[0]}, expected {counts[1]}"
    return wrong


def _elements(reference: Reference, value: Array) -> Array:
    return value if reference.at is None else value.reshape(-1)[reference.at]


def _wrong_type(given: str, expected: str, precision: str) -> str | None:
    """The type of an output is the file's; with half types in the file it may be one of these."""
    either = precision in (*HALVES, *EIGHT_BITS) and {given, expected} <= {"float32", *HALVES}
    return None if given == expected or either or not (given and expected) else f"dtype {given}, expected {expected}"


def _with_note(report: ParityReport, note: str) -> ParityReport:
    return replace(report, notes=(note, *report.notes))
