"""The edits of `edits` where norms calibrate: without samples, biases alone can be fitted on what norms tell."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

import onnx_ir as ir

from normexport.graphs.shapes import Shapes
from normexport.precision.config import EightBit
from normexport.precision.int8.bias_by_norms import mean_errors_by_norms, why_no_mean
from normexport.precision.int8.corrections import Corrections, pairs_of
from normexport.precision.int8.edits import EDITS, WORTH, Improved, Int8Edit
from normexport.precision.int8.from_norms import NormRanges
from normexport.precision.int8.quantise import quantize
from normexport.precision.int8.storage import Storage

_NO_SAMPLES = "the ranges come from the norms, and no samples are there to fit it on"
_UNMEASURED = "by what the norms tell; no data measured it"


def improve_by_norms(
    model: ir.Model,
    known: NormRanges,
    config: EightBit,
    level: Callable[[ir.Model], float] | None,
    exclude: Collection[str] = (),
) -> Improved:
    """Biases that take the mean errors that the norms tell, where `config.effort` tries them.

    Args:
        known: of the model.
        level: SNR in dB of the worst output of an int8 model, on samples that judge; the correction is kept where that
            is better. None: nothing judges, and it is kept.
        exclude: module paths left in float32.
    """
    ranges = known.calibration.ranges
    edits = [Int8Edit(name, False, reasons=(_NO_SAMPLES,)) for name in EDITS[config.effort]]
    names = [edit.name for edit in edits]
    if "biases corrected" not in names:
        return Improved(model, ranges, edits=tuple(edits))

    def made(corrections: Corrections) -> ir.Model:
        symmetric, storage = config.symmetric, Storage.of(config)
        return quantize(
            model, ranges, symmetric=symmetric, exclude=exclude, corrections=corrections, storage=storage
        ).model

    plain = made(Corrections())
    pairs = pairs_of(model, plain)
    corrections = Corrections(shifts=mean_errors_by_norms(Shapes(model), pairs, known.tensors))
    reasons = tuple(filter(None, (why_no_mean(pair, known.tensors) for pair in pairs)))
    edit = Int8Edit("biases corrected", bool(corrections.shifts), len(corrections.shifts), reasons=reasons)
    if not edit.kept:
        edit = replace(edit, reasons=("no layer's mean error is worth it", *reasons))
    elif level is None:
        edit = replace(edit, reasons=(_UNMEASURED, *reasons))
    else:
        before, after = level(plain), level(made(corrections))
        kept = after > before + WORTH
        why = reasons if kept else ("gains too little", *reasons)
        edit = replace(edit, kept=kept, before_db=before, after_db=after, reasons=why)
    edits[names.index(edit.name)] = edit
    fitted = corrections if edit.kept else Corrections()  # each layer by itself
    return Improved(model, ranges, fitted, tuple(edits), alone=fitted)
