"""The verbs that judge: does this compute what that computes, and how often is it right?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import onnx_ir as ir

from normexport import onnx_export, parity
from normexport.checkpoint import Checkpoint
from normexport.engine import read_manifest
from normexport.errors import UsageError
from normexport.folding import FOLDING
from normexport.onnx_export import InputSpec
from normexport.parity.judge import precision_of_torch
from normexport.parity.lost_state import require_no_lost_state
from normexport.parity.steady import doubts_of
from normexport.passes import fold
from normexport.plans import Plan, check_plan, declared_by_plan, plan_inputs
from normexport.precision import Accuracy, Labelled, Limits, collect
from normexport.precision import evaluate as evaluate_outputs
from normexport.precision.accuracy import DEFAULT, labels_in
from normexport.precision.collected import Collected, named_as
from normexport.precision.file_precision import precision_of
from normexport.precision.half_file import check_half
from normexport.precision.snr_parity import SnrReport, check_by_snr
from normexport.runtime import Array
from normexport.runtime.guarded import guarded
from normexport.sides import Inputs, agreed_inputs, is_onnx, opened, runtime_of, specs_of, torch_of
from normexport.verdicts import inconclusive, together

T = TypeVar("T")


def check(
    reference: Checkpoint | ir.Model | str | Path,
    candidate: Checkpoint | ir.Model | Plan | str | Path,
    inputs: Inputs = (),
    *,
    data: str | Path | None = None,
    layers: bool = False,
    batches: tuple[int, ...] | None = None,
    limits: Limits = DEFAULT,
    weights_under: str | Path | None = None,
) -> parity.ParityReport | SnrReport:
    """Judge whether `candidate` computes what `reference` computes; each a checkpoint or an ONNX model or file.

    An ONNX file of lower precision than the reference is judged by the rule of its precision: a half-precision one by
    the error that the reference makes when it is rounded likewise, an int8 one by the SNR of its outputs. The candidate
    may also be a `normexport.plans.Plan`, on a GPU that it was built for; then outputs alone are judged.

    Args:
        inputs: shapes of one sample; needed only for sizes that neither a side nor the data tells.
        data: .npz file of real inputs, judged before the random ones.
        layers: judge every module boundary too (between ONNX files: every value both hold under one name).
        batches: batch sizes; None: 1, 2 and 7, fewer for large inputs.
        limits: what an int8 candidate may lose.
        weights_under: a folder in which external data of ONNX files may lie too, as `open_onnx` takes it.

    Raises:
        UsageError: the two read different inputs, or nothing says what they read.
    """
    if isinstance(candidate, Plan):
        return _check_plan(opened(reference, weights_under), candidate, specs_of(inputs), data, batches)
    first, second = opened(reference, weights_under), opened(candidate, weights_under)
    # ONNX sides first: they bind by name, torch by position.
    sides = sorted((first, second), key=lambda side: not isinstance(side, ir.Model))
    specs = agreed_inputs(sides, inputs, data)
    for side in (second, first):  # names that are parameters of forward bind by name; the reference has the last word
        if isinstance(side, Checkpoint) and side.model is not None:
            specs = onnx_export.bound(side.model, specs, str(side.path))
    if not specs:
        raise UsageError("parity", "neither side says what it reads", "give the shape of one sample: --input 3x224x224")
    arrays = parity.load_arrays(data, specs) if data is not None else None
    checkpoints = [side for side in (first, second) if isinstance(side, Checkpoint)]
    for side in checkpoints:
        require_no_lost_state(side, specs, arrays)
    unproven = tuple(reason for side in checkpoints for reason in side.unproven)
    if isinstance(second, ir.Model) and (precision := precision_of(second)) not in ("float32", _precision(first)):
        known = _boundaries(first, second, candidate, specs) if layers else ()
        if precision == "int8":
            by_snr = partial(_check_by_snr, first, second, specs, known, arrays, limits, unproven)
            return _guarded(by_snr, reference, candidate)
        in_half = partial(_check_half, first, second, precision, specs, known, arrays, batches, unproven)
        return _guarded(in_half, reference, candidate)
    if isinstance(first, ir.Model):
        if isinstance(second, ir.Model):
            compare = partial(parity.compare, first, second, inputs=specs, data=arrays, sizes=batches, layers=layers)
            return _guarded(compare, reference, candidate)
        return parity.check_torch(first, torch_of(second), specs, data=arrays, sizes=batches, unproven=unproven)
    if isinstance(second, ir.Model):
        known = _layers_for(first, candidate, specs) if layers else ()
        model = torch_of(first)
        return parity.check_model(model, second, known, specs, data=arrays, sizes=batches, unproven=unproven)
    torch_sides = torch_of(first), torch_of(second)
    return parity.check_torch(*torch_sides, specs, data=arrays, sizes=batches, unproven=unproven)


def _precision(side: Checkpoint | ir.Model) -> str:
    return precision_of(side) if isinstance(side, ir.Model) else precision_of_torch(torch_of(side))


def _check_half(
    first: Checkpoint | ir.Model,
    second: ir.Model,
    dtype: str,
    specs: Sequence[InputSpec],
    layers: Sequence[onnx_export.Layer],
    data: Mapping[str, Array] | None,
    batches: tuple[int, ...] | None,
    unproven: Sequence[str],
) -> parity.ParityReport:
    """By the rule of half precision; the float32 graph of a checkpoint is made anew, as conversion makes it."""
    specs = tuple(replace(spec, dtype="float32") if spec.dtype == dtype else spec for spec in specs)
    parity.require_room(second, ())
    model = first if isinstance(first, ir.Model) else fold(onnx_export.export(first, specs).model, FOLDING).model
    source = None if isinstance(first, ir.Model) else torch_of(first)
    report = check_half(source, model, second, dtype, specs, layers, data=data, sizes=batches)
    return replace(report, unproven=(*report.unproven, *unproven))


def _check_by_snr(
    first: Checkpoint | ir.Model,
    second: ir.Model,
    specs: Sequence[InputSpec],
    layers: Sequence[onnx_export.Layer],
    data: Mapping[str, Array] | None,
    limits: Limits,
    unproven: Sequence[str],
) -> SnrReport:
    parity.require_room(second, ())
    model = first if isinstance(first, ir.Model) else None
    names = [str(value.name) for value in second.graph.outputs]
    reference = partial(runtime_of, first, specs, names, layers)
    report = check_by_snr(reference, model, second, specs, layers, data=data, limits=limits)
    return replace(report, judgement=together([report.judgement, *map(inconclusive, unproven)]))


def _boundaries(
    first: Checkpoint | ir.Model,
    second: ir.Model,
    candidate: Checkpoint | ir.Model | str | Path,
    specs: Sequence[InputSpec],
) -> tuple[onnx_export.Layer, ...]:
    """What both sides have under one name."""
    if isinstance(first, ir.Model):
        return parity.common_values(first, second)
    return _layers_for(first, candidate, specs)


def _check_plan(
    reference: Checkpoint | ir.Model,
    plan: Plan,
    specs: Sequence[InputSpec],
    data: str | Path | None,
    batches: tuple[int, ...] | None,
) -> parity.ParityReport:
    arrays = None
    if data is not None:
        declared = declared_by_plan(read_manifest(plan.path))
        specs = onnx_export.settle(declared, specs, parity.shapes_in(data, [each.name for each in declared]))
        arrays = parity.load_arrays(data, specs)
    if isinstance(reference, ir.Model):
        return check_plan(reference, plan, specs, data=arrays, sizes=batches)
    model, known = torch_of(reference), specs or plan_inputs(read_manifest(plan.path))
    require_no_lost_state(reference, known, arrays)
    report = check_plan(model, plan, specs, data=arrays, sizes=batches)
    names = [row.tensor for row in report.outputs]
    doubts = doubts_of(model, known, list(dict.fromkeys(names)), "float32", parity.standard_batches(known, arrays))
    return replace(report, unproven=(*report.unproven, *reference.unproven, *doubts))


def evaluate(
    model: Checkpoint | ir.Model | Plan | str | Path,
    data: str | Path,
    reference: Checkpoint | ir.Model | str | Path | None = None,
    inputs: Inputs = (),
    *,
    labels_for: str | None = None,
    limits: Limits = DEFAULT,
    weights_under: str | Path | None = None,
) -> Accuracy:
    """How often a model is right on labelled data, how close it is to its reference, and how fast it is.

    Args:
        data: .npz of inputs by name, and of labels (array `labels`) where accuracy is wanted.
        reference: what every output is compared with, by name or, where the names differ, by position.
        inputs: shapes of one sample; needed only for sizes that neither a side nor the data tells.
        labels_for: the output that labels belong to; None: the only one that they fit.
        limits: what may be lost against the reference; without one nothing is judged but outputs that mean nothing.
        weights_under: a folder in which external data of ONNX files may lie too, as `open_onnx` takes it.

    Raises:
        UsageError: data or labels do not fit the model; nothing to compare.
    """
    given = [each for each in (reference, model) if each is not None]
    sides = [each if isinstance(each, Plan) else opened(each, weights_under) for each in given]
    specs = agreed_inputs(tuple(reversed(sides)), inputs, data)
    for side in sides:
        if isinstance(side, Checkpoint) and side.model is not None:
            specs = onnx_export.bound(side.model, specs, str(side.path))
    if not specs:
        raise UsageError(
            str(data), "nothing says which input it is for", "give the shape of one sample: --input 3x224x224"
        )
    arrays, labels = parity.load_arrays(data, specs), labels_in(data)
    for side in sides:
        if isinstance(side, Checkpoint):
            require_no_lost_state(side, specs, arrays)
    if labels is None and reference is None:
        raise UsageError(str(data), "holds no array labels", "save labels in it, or give --reference")
    if labels is None and labels_for is not None:
        raise UsageError(f"--labels-for {labels_for}", f"{data} holds no labels", "save them in an array labels")
    labelled = None if labels is None else Labelled(labels, labels_for)

    def collected(side: Checkpoint | ir.Model | Plan, batch: int | None) -> Collected:
        graph = side if isinstance(side, ir.Model) else None
        return collect(runtime_of(side, specs), arrays, specs, model=graph, batch=batch)

    def judged() -> Accuracy:
        exact = collected(sides[0], None) if reference is not None else None
        found = collected(sides[-1], None if exact is None else exact.batch)
        return evaluate_outputs(found if exact is None else named_as(found, exact), labelled, exact, limits)

    return _guarded(judged, *given)


def _guarded(work: Callable[[], T], *sides: object) -> T:
    """Work on ONNX files alone is done where a signal can't end this process; torch does not stand being copied."""
    files = [side for side in sides if isinstance(side, (str, Path)) and is_onnx(side)]
    return guarded(work, " or ".join(dict.fromkeys(map(str, files)))) if len(files) == len(sides) else work()


def _layers_for(
    reference: Checkpoint, candidate: Checkpoint | ir.Model | str | Path, specs: Sequence[InputSpec]
) -> tuple[onnx_export.Layer, ...]:
    """The layer map beside the candidate's file; without one, that of exporting the reference anew."""
    if isinstance(candidate, (str, Path)):
        beside = onnx_export.sidecar_path(Path(candidate))
        if beside.exists():
            return onnx_export.read_sidecar(beside)
    return onnx_export.export(reference, specs).layers
