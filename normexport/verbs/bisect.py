"""The verb `bisect`: the smallest part of a candidate, and the input, for which it leaves its budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import onnx
import onnx_ir as ir

from normexport import onnx_export, proof
from normexport.checkpoint import Checkpoint
from normexport.dtypes import EIGHT_BITS
from normexport.errors import UsageError
from normexport.folding import fold
from normexport.io.atomic import check_writable
from normexport.io.overwriting import check_outputs
from normexport.io.preprocess import Preprocess
from normexport.narrowing.evidence import INPUT, MODEL, SCRIPT, write
from normexport.narrowing.narrow import narrow
from normexport.narrowing.ports import named_as
from normexport.narrowing.result import Bisection, Fault
from normexport.onnx_export import InputSpec
from normexport.precision import Limits
from normexport.precision.accuracy import DEFAULT
from normexport.precision.collected import BATCH
from normexport.precision.config import ALL, Draw
from normexport.precision.file_precision import precision_of
from normexport.precision.snr_parity import random_data
from normexport.proof import Batch
from normexport.proof.inputs.batches import slice_batches
from normexport.proof.inputs.declared import require_tensor_outputs
from normexport.proof.judge import require_ends
from normexport.runtime import Array, Float64Runtime, OnnxRuntime
from normexport.runtime.guarded import in_telling_child
from normexport.text import one_line
from normexport.verbs.clock import OnStage
from normexport.verbs.fold import FOLDING
from normexport.verbs.parity import parity
from normexport.verbs.real_data import RealData, check_images, require_data
from normexport.verbs.subjects import Inputs, NetworkSource, agreed_inputs, is_onnx, open_subject
from normexport.verdicts import Judgement, Verdict, failed, inconclusive

_SAMPLES = 4  # of an int8 candidate's inputs, at a time
_SETS = 4  # of them


def bisect(
    reference: NetworkSource,
    candidate: str | Path | ir.Model | onnx.ModelProto,
    output: str | Path | None = None,
    inputs: Inputs = (),
    *,
    data: str | Path | None = None,
    batches: tuple[int, ...] | None = None,
    limits: Limits = DEFAULT,
    weights_under: str | Path | None = None,
    preprocess: Preprocess | None = None,
    draw: Draw = ALL,
    on_stage: OnStage | None = None,
) -> Bisection:
    """Find the few nodes and the small input for which `candidate` leaves its budget against `reference`.

    Where the two differ, `bisect.onnx`, `input.npz` and `show.py` appear in the folder `output`: `python show.py` shows
    the fault with ONNX Runtime and numpy alone. Where they can't be written in the end, the result says why.

    Args:
        reference: what is right: an ONNX model or file, or a checkpoint, which is exported for it.
        candidate: an ONNX model or file of any precision.
        output: the folder to write; None: nothing is written.
        inputs: shapes of one sample, for sizes that neither side tells; by the reference's names. Where two ONNX models
            call their inputs or outputs otherwise, those of one place are taken for each other.
        data: real inputs, tried before random ones, in any form that `evaluate` takes: the first few are read.
        batches: batch sizes; None: as `parity` chooses.
        limits: what an eight-bit candidate may lose; a part of it is held to `min_snr` too.
        weights_under: a folder in which external data of ONNX files may lie too, as `open_onnx` takes it.
        preprocess: what is done to the images of a folder.
        draw: which of the samples of `data` are meant.
        on_stage: told what is being looked at.

    Raises:
        UsageError: the candidate is no ONNX model; the two read different inputs; the folder can't be written.
        FoldError: a file is damaged, or ONNX Runtime can't run it.
        CheckpointError: the reference is not understood.
    """
    require_data(draw, data)
    if not isinstance(candidate, ir.Model | onnx.ModelProto) and not is_onnx(candidate):
        raise UsageError(str(candidate), "is no ONNX file", "narrow down the ONNX file that it was made from")
    if output is not None:
        _check_folder(Path(output), reference, candidate)
    said = on_stage or (lambda stage: None)
    first, opened = open_subject(reference, weights_under), open_subject(candidate, weights_under)
    assert isinstance(opened, ir.Model)
    second, renamed = named_as(opened, first) if isinstance(first, ir.Model) else (opened, ())
    sides = sorted((first, second), key=lambda side: not isinstance(side, ir.Model))
    specs = agreed_inputs(sides, inputs, data)
    if isinstance(first, Checkpoint) and first.model is not None:
        specs = onnx_export.bound(first.model, specs, str(first.path))
    if not specs:
        raise UsageError("bisect", "neither side says what it reads", "give the shape of one sample: --input 3x224x224")
    prepared = check_images(preprocess, data, headers=not draw.skip_bad)
    few = None if data is None else RealData(data, prepared, draw).first(specs, BATCH, _SETS)
    arrays, left_out = (None, ()) if few is None else (few.few, few.skipped)
    exact = _as_onnx(first, second, specs)
    for model in (exact, second):
        require_tensor_outputs(model)
    search = partial(_search, exact, second, specs, arrays, batches, limits.min_snr)
    files = [side for side in (reference, candidate) if isinstance(side, str | Path) and is_onnx(side)]
    found = in_telling_child(search, " or ".join(map(str, files)), said) if len(files) == 2 else search(said)
    if found is not None:
        name, fault = found
        said("write")
        written, trouble = ((), "") if output is None else _written(fault, Path(output))
        notes = (*renamed, *_notes(fault), *(f"left out: {line}" for line in left_out))
        return Bisection(failed(f"{fault.output}: {fault.words}"), fault, name, written, notes, trouble)
    said("parity")
    report = parity(
        reference,
        second if renamed else candidate,
        inputs,
        data=data,
        batches=batches,
        limits=limits,
        weights_under=weights_under,
        preprocess=preprocess,
        draw=draw,
    )
    return Bisection(_nothing(report.judgement), None, notes=(*renamed, *(f"left out: {line}" for line in left_out)))


def _written(fault: Fault, folder: Path) -> tuple[tuple[str, ...], str]:
    """The files of a fault, and why they are not there: what was found in an hour is told all the same."""
    try:
        return tuple(map(str, write(fault.evidence, folder))), ""
    except (UsageError, OSError) as error:
        return (), one_line(str(error))


def _search(
    reference: ir.Model,
    candidate: ir.Model,
    specs: Sequence[InputSpec],
    arrays: Mapping[str, Array] | None,
    sizes: tuple[int, ...] | None,
    min_snr: float,
    on_stage: OnStage,
) -> tuple[str, Fault] | None:
    """What `narrow` finds on the inputs that parity compares on."""
    planned = proof.standard_batches(specs, arrays, sizes=sizes)
    for model in (reference, candidate):
        proof.require_room(model, planned)
        require_ends(model, min(planned, key=lambda batch: batch.size))
    precision = precision_of(candidate)
    if precision in EIGHT_BITS:
        sets = _int8_inputs(reference, candidate, specs, arrays)
    else:
        own, exact = partial(OnnxRuntime, reference), partial(Float64Runtime, reference)
        both = (reference, candidate)
        tried = proof.choose_batches(specs, arrays, sizes=sizes, graph=reference, own=own, exact=exact, compared=both)
        sets = tried.batches
    return narrow(reference, candidate, sets, specs, precision, min_snr, on_stage)


def _check_folder(folder: Path, *sides: object) -> None:
    outputs = [(folder / name, "the evidence") for name in (MODEL, INPUT, SCRIPT)]
    check_outputs(outputs, [(Path(side), "a model") for side in sides if isinstance(side, str | Path)])
    check_writable(folder)


def _as_onnx(side: Checkpoint | ir.Model, candidate: ir.Model, specs: Sequence[InputSpec]) -> ir.Model:
    """The reference as an ONNX model: a checkpoint as it is exported, and folded where that leaves more in common."""
    if isinstance(side, ir.Model):
        return side
    exported = onnx_export.export(side, specs).model
    folded = fold(exported, FOLDING).model
    shared = [len(proof.common_values(model, candidate)) for model in (exported, folded)]
    return folded if shared[1] >= shared[0] else exported


def _int8_inputs(
    reference: ir.Model, candidate: ir.Model, specs: Sequence[InputSpec], arrays: Mapping[str, Array] | None
) -> tuple[Batch, ...]:
    """Sets of a few samples: real ones, or random ones over the ranges that the candidate's quantisers hold."""
    data = arrays if arrays is not None else random_data(specs, candidate, reference)
    given = slice_batches(specs, data, _SAMPLES) if isinstance(data, Mapping) else iter(data)
    word = "random" if arrays is None else "real"
    size = _SAMPLES if isinstance(data, Mapping) else 1
    return tuple(Batch(f"{word}, set {index + 1}", size, feeds) for index, feeds in enumerate(islice(given, _SETS)))


def _nothing(judgement: Judgement) -> Judgement:
    """No part of the candidate was seen to differ: good where the whole passed, and else not told."""
    if judgement.verdict is not Verdict.FAILED:
        return judgement
    reasons = "; ".join(judgement.reasons)
    return inconclusive(
        f"the whole fails ({reasons}), and its graph agrees with the reference's: see normexport parity"
    )


def _notes(fault: Fault) -> tuple[str, ...]:
    if fault.shown is not None:
        return ()
    return ("ONNX Runtime alone does not show it: the part differs where it rounds as the file says",)
