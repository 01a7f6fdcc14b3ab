"""The verb `parity`: does this compute what that computes?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import onnx_ir as ir

from normexport import onnx_export, proof
from normexport.checkpoint import Checkpoint
from normexport.dtypes import EIGHT_BITS, HALVES
from normexport.engine import read_manifest
from normexport.engine.plan_inputs import plan_inputs
from normexport.errors import NormExportError, UsageError
from normexport.folding import fold
from normexport.io.preprocess import Preprocess
from normexport.logs import in_words, logger
from normexport.onnx_export import InputSpec
from normexport.precision import Limits
from normexport.precision.accuracy import DEFAULT
from normexport.precision.config import ALL, Draw
from normexport.precision.file_precision import precision_of
from normexport.precision.half.file import check_half
from normexport.precision.runs import Given
from normexport.precision.snr_parity import SnrReport, check_by_snr
from normexport.proof.inputs.folders import FolderRead
from normexport.proof.judge import precision_of_torch
from normexport.proof.plan_candidate import check_plan
from normexport.runtime import Array, OnnxRuntime, Opener
from normexport.runtime.tensorrt_runtime import Plan
from normexport.verbs.config import RUNTIMES
from normexport.verbs.fold import FOLDING
from normexport.verbs.real_data import Opened, RealData, check_images, require_data
from normexport.verbs.subjects import (
    Inputs,
    NetworkSource,
    agreed_inputs,
    doubts_of_layers,
    guarded_if_files,
    open_subject,
    opener_of,
    plan_inputs_for,
    refuse_lost_state,
    require_onnx_for,
    runtime_of,
    specs_of,
    torch_of,
)
from normexport.verdicts import inconclusive, together
from normexport.workers import Where

_LOG = logger(__name__)


def parity(
    reference: NetworkSource,
    candidate: NetworkSource | Plan,
    inputs: Inputs = (),
    *,
    data: str | Path | None = None,
    layers: bool = False,
    batches: tuple[int, ...] | None = None,
    limits: Limits = DEFAULT,
    runtime: str = RUNTIMES[0],
    weights_under: str | Path | None = None,
    preprocess: Preprocess | None = None,
    on: Where | None = None,
    draw: Draw = ALL,
) -> proof.ParityReport | SnrReport:
    """Judge whether `candidate` computes what `reference` computes; each a checkpoint or an ONNX model or file.

    An ONNX file of lower precision than the reference is judged by the rule of its precision: a half-precision one by
    the error that the reference makes when it is rounded likewise, an int8 one by the SNR of its outputs. The candidate
    may also be a `normexport.Plan`, on a GPU that it was built for; then outputs alone are judged.

    Args:
        inputs: shapes of one sample; needed only for sizes that neither a side nor the data tells.
        data: real inputs, judged before the random ones: an .npz file, or a folder of images or .npy files.
        layers: judge every module boundary too (between ONNX files: every value both hold under one name).
        batches: batch sizes; None: 1, 2 and 7, fewer for large inputs.
        limits: what an int8 candidate may lose.
        runtime: what an ONNX candidate runs on, "onnxruntime" or "openvino".
        weights_under: a folder in which external data of ONNX files may lie too, as `open_onnx` takes it.
        preprocess: what is done to the images of a folder; None: values in [0, 1] at the model's size.
        on: where the batches of two float32 ONNX models are computed, each by one thread: the reports are the same here
            and on any number of workers. None: here, by all threads.
        draw: which of the samples of `data` are meant: an int8 candidate is judged on all of these, which are read as
            their turn comes, others on the first few.

    Raises:
        UsageError: the two read different inputs, or nothing says what they read; `on` is given for others.
    """
    require_data(draw, data)
    prepared = check_images(preprocess, data, headers=not draw.skip_bad)
    real = None if data is None else RealData(data, prepared, draw)
    report = _judge(reference, candidate, inputs, real, layers, batches, limits, runtime, weights_under, on)
    _LOG.info("%s against %s: %s", report.candidate, report.reference, in_words(report.judgement))
    return report


def _judge(
    reference: NetworkSource,
    candidate: NetworkSource | Plan,
    inputs: Inputs,
    data: RealData | None,
    layers: bool,
    batches: tuple[int, ...] | None,
    limits: Limits,
    runtime: str,
    weights_under: str | Path | None,
    where: Where | None,
) -> proof.ParityReport | SnrReport:
    on = opener_of(runtime)
    if isinstance(candidate, Plan):
        _require_here(where)
        require_onnx_for(runtime, candidate)
        return _check_plan(open_subject(reference, weights_under), candidate, specs_of(inputs), data, batches)
    first, second = open_subject(reference, weights_under), open_subject(candidate, weights_under)
    require_onnx_for(runtime, second)
    # ONNX sides first: they bind by name, torch by position.
    sides = sorted((first, second), key=lambda side: not isinstance(side, ir.Model))
    specs = agreed_inputs(sides, inputs, None if data is None else data.path)
    for side in (second, first):  # names that are parameters of forward bind by name; the reference has the last word
        if isinstance(side, Checkpoint) and side.model is not None:
            specs = onnx_export.bound(side.model, specs, str(side.path))
    if not specs:
        raise UsageError("parity", "neither side says what it reads", "give the shape of one sample: --input 3x224x224")
    opened = data.opened(specs) if data is not None else None
    few = None if opened is None else opened.few
    checkpoints = [side for side in (first, second) if isinstance(side, Checkpoint)]
    for side in checkpoints:
        refuse_lost_state(side, specs, few)
    unproven = tuple(doubt for side in checkpoints for doubt in (*side.unproven, *doubts_of_layers(side, specs, few)))
    read = None if data is None else data.read(specs)
    report = _judge_sides(
        first, second, reference, candidate, specs, opened, layers, batches, limits, unproven, on, where
    )
    return _with_data(report, read, opened)


def _with_data(
    report: proof.ParityReport | SnrReport, read: FolderRead | None, opened: Opened | None
) -> proof.ParityReport | SnrReport:
    """What was read, and what was left out of it."""
    left_out = () if opened is None else opened.skipped
    if isinstance(report, SnrReport):
        return replace(report, data=read, skipped=left_out)
    return replace(report, data=read, notes=(*report.notes, *(f"left out: {line}" for line in left_out)))


def _require_here(where: Where | None) -> None:
    """Refuse to compute elsewhere what is computed here alone.

    Raises:
        UsageError: it is asked for.
    """
    if where is not None:
        cause = f"is for two float32 ONNX files on {RUNTIMES[0]}"
        raise UsageError(f"--on {where.words}", cause, "leave it out, or export the checkpoint first")


def _judge_sides(
    first: Checkpoint | ir.Model,
    second: Checkpoint | ir.Model,
    reference: NetworkSource,
    candidate: NetworkSource,
    specs: tuple[InputSpec, ...],
    opened: Opened | None,
    layers: bool,
    batches: tuple[int, ...] | None,
    limits: Limits,
    unproven: tuple[str, ...],
    on: Opener,
    where: Where | None,
) -> proof.ParityReport | SnrReport:
    """By the rule of the candidate's precision; `reference` and `candidate` are what the sides were opened from."""
    arrays = None if opened is None else opened.few
    lower = isinstance(second, ir.Model) and precision_of(second) not in ("float32", _precision(first))
    if lower or not (isinstance(first, ir.Model) and isinstance(second, ir.Model)) or on is not OnnxRuntime:
        _require_here(where)
    if isinstance(second, ir.Model) and (precision := precision_of(second)) not in ("float32", _precision(first)):
        known = _boundaries(first, second, candidate, specs) if layers else ()
        if precision in EIGHT_BITS:
            every = None if opened is None else opened.all
            by_snr = partial(_check_by_snr, first, second, specs, known, every, limits, unproven, on)
            return guarded_if_files(by_snr, reference, candidate)
        in_half = partial(_check_half, first, second, precision, specs, known, arrays, batches, unproven, on)
        return guarded_if_files(in_half, reference, candidate)
    if isinstance(first, ir.Model):
        if isinstance(second, ir.Model):
            values = None if layers else ()
            compare = partial(
                proof.compare,
                first,
                second,
                inputs=specs,
                data=arrays,
                sizes=batches,
                layers=values,
                on=on,
                where=where,
            )
            # A cluster is best ended by the process that has started it.
            return compare() if where is not None and where.ray else guarded_if_files(compare, reference, candidate)
        graphs = _both(first, _graph_of(second, specs))
        report = proof.check_torch(
            first, torch_of(second), specs, data=arrays, sizes=batches, unproven=unproven, graphs=graphs
        )
        return report if graphs else _unasked(report)
    if isinstance(second, ir.Model):
        known = _layers_for(first, candidate, specs) if layers else ()
        model = torch_of(first)
        graph = _graph_of(first, specs)
        report = proof.check_model(
            model, second, known, specs, data=arrays, sizes=batches, unproven=unproven, on=on, graph=graph
        )
        return report if graph else _unasked(report)
    graphs = _both(_graph_of(first, specs), _graph_of(second, specs))
    torch_sides = torch_of(first), torch_of(second)
    report = proof.check_torch(*torch_sides, specs, data=arrays, sizes=batches, unproven=unproven, graphs=graphs)
    return report if graphs else _unasked(report)


def _graph_of(first: Checkpoint, specs: Sequence[InputSpec]) -> ir.Model | None:
    """What a checkpoint's network computes, as conversion exports it; None where it can't be exported."""
    try:
        return fold(onnx_export.export(first, specs).model, FOLDING).model
    except NormExportError:  # it is judged all the same
        return None


def _unasked(report: proof.ParityReport) -> proof.ParityReport:
    return replace(
        report, notes=(*report.notes, "what no input reaches inside was not looked for: no export of a side")
    )


def _both(first: ir.Model | None, second: ir.Model | None) -> tuple[ir.Model, ir.Model] | None:
    return None if first is None or second is None else (first, second)


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
    on: Opener,
) -> proof.ParityReport:
    """By the rule of half precision; the float32 graph of a checkpoint is made anew, as conversion makes it."""
    specs = tuple(replace(spec, dtype="float32") if spec.dtype == dtype else spec for spec in specs)
    proof.require_room(second, ())
    model = first if isinstance(first, ir.Model) else fold(onnx_export.export(first, specs).model, FOLDING).model
    source = None if isinstance(first, ir.Model) else torch_of(first)
    report = check_half(source, model, second, dtype, specs, layers, data=data, sizes=batches, on=on)
    return replace(report, unproven=(*report.unproven, *unproven))


def _check_by_snr(
    first: Checkpoint | ir.Model,
    second: ir.Model,
    specs: Sequence[InputSpec],
    layers: Sequence[onnx_export.Layer],
    data: Given | None,
    limits: Limits,
    unproven: Sequence[str],
    on: Opener,
) -> SnrReport:
    specs = tuple(replace(spec, dtype="float32") if spec.dtype in HALVES else spec for spec in specs)
    proof.require_room(second, ())
    model = first if isinstance(first, ir.Model) else None
    names = [str(value.name) for value in second.graph.outputs]
    reference = partial(runtime_of, first, specs, names, layers)
    report = check_by_snr(reference, model, second, specs, layers, data=data, limits=limits, on=on)
    return replace(report, judgement=together([report.judgement, *map(inconclusive, unproven)]))


def _boundaries(
    first: Checkpoint | ir.Model,
    second: ir.Model,
    candidate: NetworkSource,
    specs: Sequence[InputSpec],
) -> tuple[onnx_export.Layer, ...]:
    """What both sides have under one name."""
    if isinstance(first, ir.Model):
        return proof.common_values(first, second)
    return _layers_for(first, candidate, specs)


def _check_plan(
    reference: Checkpoint | ir.Model,
    plan: Plan,
    specs: Sequence[InputSpec],
    data: RealData | None,
    batches: tuple[int, ...] | None,
) -> proof.ParityReport | SnrReport:
    opened, read = None, None
    if data is not None:
        specs = plan_inputs_for(plan, specs, data.path)
        opened, read = data.opened(specs), data.read(specs)
    arrays = None if opened is None else opened.few
    if isinstance(reference, ir.Model):
        return _with_data(check_plan(reference, plan, specs, data=arrays, sizes=batches), read, opened)
    from normexport.proof.doubts.steady import doubts_of

    model, known = torch_of(reference), specs or plan_inputs(read_manifest(plan.path))
    refuse_lost_state(reference, known, arrays)
    report = check_plan(model, plan, specs, data=arrays, sizes=batches)
    names = [row.tensor for row in report.outputs]
    doubts = doubts_of(model, known, list(dict.fromkeys(names)), "float32", proof.standard_batches(known, arrays))
    unproven = (*reference.unproven, *doubts_of_layers(reference, known, arrays))
    return _with_data(replace(report, unproven=(*report.unproven, *unproven, *doubts)), read, opened)


def _layers_for(
    reference: Checkpoint, candidate: NetworkSource, specs: Sequence[InputSpec]
) -> tuple[onnx_export.Layer, ...]:
    """The layer map beside the candidate's file; without one, that of exporting the reference anew."""
    if isinstance(candidate, (str, Path)):
        beside = onnx_export.sidecar_path(Path(candidate))
        if beside.exists():
            return onnx_export.read_sidecar(beside)
    return onnx_export.export(reference, specs).layers


#: The word of before.
check = parity
