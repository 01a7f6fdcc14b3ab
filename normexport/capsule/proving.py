"""Judge a candidate by a capsule: the rule of parity, without the checkpoint, without torch.

What is compared, measured and allowed is `normexport.parity`'s; the reference and the budgets come from the capsule
instead of from runtimes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from normexport import verdicts
from normexport.capsule.candidates import (
    Absent,
    Candidate,
    Given,
    arrays_candidate,
    onnx_candidate,
    plan_candidate,
)
from normexport.capsule.content import HALVES, Capsule, Reference, Run, count_special
from normexport.capsule.reading import read
from normexport.engine.manifest import FileId, read_manifest
from normexport.errors import UsageError
from normexport.onnx_files import opened_model
from normexport.parity import ParityReport, Row, fault, measure
from normexport.plans import Plan
from normexport.runtime import Array
from normexport.runtime.guarded import guarded
from normexport.verdicts import Judgement

#: A budget above this share of the values' own size (of integers: of their number) tells right from wrong no more.
PROVES_NOTHING = 0.5

_PLANS = (".plan", ".engine", ".trt")


@dataclass(frozen=True)
class Proof(ParityReport):
    """What a capsule says of a candidate, as `parity` says it: outputs under every run, boundaries under one."""

    @property
    def judgement(self) -> Judgement:
        """Of all outputs and boundaries. An output is proven by one run at least, and by all that were judged."""
        names = dict.fromkeys(row.tensor for row in self.outputs)
        parts = [_of_output(name, [row for row in self.outputs if row.tensor == name]) for name in names]
        first = self.first_divergence
        if first is not None:
            place = f"{first.path} ({first.type}) is the first boundary out of its budget"
            parts.insert(0, verdicts.failed(f"{place}: {_words(first)}"))
        return verdicts.together(parts, "the candidate has values for none of the capsule's runs")

    def as_dict(self) -> dict[str, object]:
        """For JSON: `parity`'s fields, with the verdict and its reasons."""
        return {**super().as_dict(), **self.judgement.as_dict()}


def prove(
    capsule: Capsule | str | Path,
    candidate: str | Path,
    *,
    trust: bool = False,
    weights_under: str | Path | None = None,
) -> Proof:
    """Judge a candidate by a capsule.

    Args:
        capsule: a capsule, or the path of one.
        candidate: an ONNX file (.onnx), a plan or its manifest, or arrays that another program made (.npz).
        trust: open a plan that holds code for the host.
        weights_under: a folder in which external data of an ONNX file may lie too.

    Raises:
        UsageError: a file can't be read or is something else; the candidate reads other inputs.
        FoldError, EngineError, MissingComponent: it can't be run; for a plan without a GPU the last.
    """
    known = capsule if isinstance(capsule, Capsule) else read(capsule)
    path = Path(candidate)
    if path.suffix.lower() == ".onnx":
        return guarded(lambda: _prove_onnx(known, path, weights_under), str(path))
    plan = path.with_suffix("") if path.suffix.lower() == ".json" else path  # a manifest is model.plan.json
    if plan.suffix.lower() in _PLANS:
        return _prove_plan(known, Plan(plan, trust))
    if path.suffix.lower() == ".npz":
        with arrays_candidate(path, known) as arrays:
            return judge(known, arrays)
    raise UsageError(str(path), "is no ONNX file, plan or .npz file by its name", "name one of these")


def _prove_onnx(capsule: Capsule, path: Path, weights_under: str | Path | None) -> Proof:
    proof = judge(capsule, onnx_candidate(opened_model(path, weights_under), capsule))
    made_with = [file.sha256 for file in capsule.model]
    if made_with and FileId.of(path).sha256 != made_with[0]:
        return _with_note(proof, f"{path.name} is another file than the capsule was made with")
    return proof


def _prove_plan(capsule: Capsule, plan: Plan) -> Proof:
    manifest = read_manifest(plan.path)
    proof = judge(capsule, plan_candidate(plan, manifest))
    if capsule.model and manifest.onnx.sha256 != capsule.model[0].sha256:
        return _with_note(proof, f"{plan.path.name} was built from another file than the capsule was made with")
    return proof


def judge(capsule: Capsule, candidate: Candidate) -> Proof:
    """Judge a candidate under every run that it has values for."""
    found = _Findings()
    for number, run in enumerate(capsule.runs):
        reason = candidate.lacks(number, run)
        if reason is not None:
            found.notes.append(f"{run.name} was not judged: {reason}")
            continue
        _judge_run(capsule, number, candidate, found)
    layers = [row for index, row in sorted(found.layers.items())]
    return Proof(
        f"{capsule.reference} (capsule)",
        capsule.baseline,
        candidate.name,
        capsule.precision,
        tuple(found.outputs),
        tuple(layers),
        tuple(found.unchecked),
        (*found.notes, *capsule.notes),
    )


@dataclass
class _Findings:
    """What the report is made of; filled run by run."""

    outputs: list[Row] = field(default_factory=list)
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
        value = given[output.name]
        wrong = _wrong_type(candidate.types.get(output.name, ""), output.dtype, capsule.precision)
        found.outputs.append(_row(output, run, wrong or value))


def _row(reference: Reference, run: Run, value: Given) -> Row:
    """Measured by `normexport.parity` on the elements that the capsule has."""
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
    """As `parity.fault`; NaN and infinities are counted over the whole tensor, of which a sample shows few."""
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
    """The type of an output is the file's; one of half precision may be handed out in any of its types."""
    either = precision in HALVES and {given, expected} <= {"float32", *HALVES}
    return None if given == expected or either or not (given and expected) else f"dtype {given}, expected {expected}"


def _of_output(name: str, rows: list[Row]) -> Judgement:
    for row in rows:
        if not row.passed:
            return verdicts.failed(f"output {name}, {row.batch}: {_words(row)}")
    doubts = list(_doubts(rows))
    if len(doubts) == len(rows):
        return verdicts.inconclusive(f"output {name}: {doubts[0]}")
    return verdicts.passed()


def _words(row: Row) -> str:
    """Of a row that failed."""
    return row.fault or f"{row.excess:.3g} times its budget"


def _doubts(rows: list[Row]) -> Iterator[str]:
    """Why rows that passed prove nothing."""
    for row in rows:
        errors, allowed = row.candidate, row.budget
        assert errors is not None  # as in every row that passed
        assert allowed is not None
        size = errors.scale_rms if errors.floating else 1.0
        if errors.size == 0:
            yield "there is no finite element to compare"
        elif allowed.rms > PROVES_NOTHING * size:
            yield f"an error of {allowed.rms:.1e} would pass, and its values have the size {size:.1e}"


def _with_note(proof: Proof, note: str) -> Proof:
    return replace(proof, notes=(note, *proof.notes))
