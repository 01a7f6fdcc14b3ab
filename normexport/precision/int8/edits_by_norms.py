"""The edits of `edits` where norms calibrate: without samples, biases alone can be fitted on what norms tell."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import onnx_ir as ir

from normexport.graphs.shapes import Shapes
from normexport.precision.config import EightBit
from normexport.precision.int8.bias_by_norms import mean_errors_by_norms, why_no_mean
from normexport.precision.int8.corrections import NONE, Corrections, pairs_of
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
        level: SNR in dB of the worst output of an int8 model, on samples that judge: the errors that are worth it and
            all of them are tried, and the better is kept where it gains. None: nothing judges, and the former are kept.
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

    plain = made(NONE)
    pairs, shapes = pairs_of(model, plain), Shapes(model)
    reasons = tuple(filter(None, (why_no_mean(pair, known.tensors) for pair in pairs)))
    worth_it = mean_errors_by_norms(shapes, pairs, known.tensors)
    every = mean_errors_by_norms(shapes, pairs, known.tensors, worth=0.0)
    ways = [worth_it, every] if level is not None and len(every) > len(worth_it) else [worth_it]
    fitted = [Corrections(shifts=way) for way in ways if way]
    if not fitted:
        edit, kept = Int8Edit("biases corrected", False, reasons=("no layer's mean error is worth it", *reasons)), NONE
    elif level is None:
        (kept,) = fitted
        edit = Int8Edit("biases corrected", True, len(kept.shifts), reasons=(_UNMEASURED, *reasons))
    else:
        edit, kept = _measured(fitted, level(plain), lambda each: level(made(each)), reasons)
    edits[names.index(edit.name)] = edit
    return Improved(model, ranges, kept, tuple(edits), alone=kept)  # each layer by itself


def _measured(
    fitted: Sequence[Corrections], before: float, level: Callable[[Corrections], float], reasons: tuple[str, ...]
) -> tuple[Int8Edit, Corrections]:
    """The best of corrections, where it is worth it."""
    after, best = max(((level(each), each) for each in fitted), key=lambda pair: pair[0])
    kept = after > before + WORTH
    why = reasons if kept else ("gains too little", *reasons)
    edit = Int8Edit("biases corrected", kept, len(best.shifts), before, after, why)
    return edit, best if kept else NONE
