"""The edits of `edits` where norms calibrate: fitted on what norms tell, and on samples drawn to fit them (`drawn`).

Where data judges, it measures each edit as it does where data calibrates. Ranges are those of the norms throughout: of
an equalised model the moments that it carries tell them. Where no sample can be drawn, biases are corrected by the
means that norms tell (`bias_by_norms`).

Without data the drawn samples judge biases, by a half that was not fitted on, where they fit the norms; nothing else is
tried: of ways to equalise they chose one that cost `plain_l1` 1.4 dB.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

import onnx_ir as ir

from normexport.errors import NormExportError
from normexport.graphs.refusal import Refuse
from normexport.graphs.shapes import Shapes
from normexport.onnx_export import InputSpec
from normexport.precision.config import EightBit
from normexport.precision.int8.bias_by_norms import mean_errors_by_norms, why_no_mean
from normexport.precision.int8.corrections import Corrections, Pair, why_no_shift
from normexport.precision.int8.drawn import Drawn, draw_samples
from normexport.precision.int8.edits import EDITS, Improved, Improvement, Int8Edit
from normexport.precision.int8.fitting import Fitting, Shifted
from normexport.precision.int8.from_norms import NormRanges, calibrate_by_norms
from normexport.precision.int8.judging import level_on
from normexport.precision.int8.links import Extremes
from normexport.precision.int8.storage import Storage
from normexport.precision.samples import Batches
from normexport.progress import doing
from normexport.text import printable

_NO_DATA = "no data is there to measure it on"
_NO_SAMPLES = "no samples can be drawn to fit it on"
_NO_LEAST = "no norm tells what a channel has at least"
_TOLD = "by what the norms tell"
_UNMEASURED = f"{_TOLD}; no data measured it"
_TRIED = "both with biases corrected on what the norms tell"
#: Misfit of drawn samples, up to which they judge by themselves.
_FITS = 0.5


def improve_by_norms(
    model: ir.Model,
    known: NormRanges,
    config: EightBit,
    level: Callable[[ir.Model], float] | None,
    exclude: Collection[str] = (),
    inputs: Sequence[InputSpec] = (),
) -> Improved:
    """Try the edits of `config.effort` one after the other.

    Args:
        known: of the model.
        level: SNR in dB of the worst output of an int8 model, on samples that judge; None: no data is there.
        exclude: module paths left in float32.
        inputs: of the model; without them no samples are drawn.
    """
    names = EDITS[config.effort]
    if not names:
        return Improved(model, known.calibration.ranges)
    drawn, why = _draw(model, known, config, inputs)
    why_not = {"biases absorbed": _NO_LEAST}
    judge = level
    if level is None:
        why_not |= dict.fromkeys(("equalised", "weights rounded"), _NO_DATA)
        if drawn is not None and drawn.misfit > _FITS:
            why = f"they fit the norms too badly: misfit {drawn.misfit:.2f}"
            drawn = None
        judge = None if drawn is None else level_on(model, drawn.judging)
    elif drawn is None:
        why_not["weights rounded"] = f"{_NO_SAMPLES}: {why}"
    work = _Work(config, known, drawn, judge, tuple(exclude), inputs, level is not None, why)
    return work.done(Improved(model, known.calibration.ranges), names, why_not)


def _draw(
    model: ir.Model, known: NormRanges, config: EightBit, inputs: Sequence[InputSpec]
) -> tuple[Drawn | None, str]:
    """Samples, or why there are none: a file is written where nothing here runs it."""
    with doing("drawing samples that fit the norms"):
        try:
            return draw_samples(model, known, inputs, config.batch), ""
        except Refuse as refusal:
            return None, refusal.reason
        except NormExportError as error:
            return None, printable(error.cause, 200)


@dataclass
class _Work:
    """Tries edits on what norms tell of a model.

    Attributes:
        known: of the model as it came.
        drawn: samples to fit on; None: there are none.
        level: None: nothing measures.
        by_data: whether data measures; else drawn samples do.
        why_none: why there are no drawn samples.
    """

    config: EightBit
    known: NormRanges
    drawn: Drawn | None
    level: Callable[[ir.Model], float] | None
    exclude: tuple[str, ...]
    inputs: Sequence[InputSpec]
    by_data: bool
    why_none: str
    _of_edited: list[tuple[ir.Model, NormRanges]] = field(default_factory=list)

    def done(self, given: Improved, names: Sequence[str], why_not: dict[str, str]) -> Improved:
        """All that are tried."""
        self._of_edited.append((given.model, self.known))
        batches = Batches(lambda: iter(()), 0) if self.drawn is None else self.drawn.fitted_on
        fitting = Fitting(self.config, batches, self.level or (lambda _: 0.0), self.exclude)
        tries = Improvement(fitting, lambda model: self.known_of(model).calibration.ranges, _TRIED)
        given = replace(given, fitted_on=batches)
        for name in names:
            if name in why_not:
                given = replace(given, edits=(*given.edits, Int8Edit(name, False, reasons=(why_not[name],))))
            elif name == "equalised":
                with doing("equalising layers"):
                    given, _ = tries.equalised(given, self.extremes())
            elif name == "biases corrected":
                with doing("correcting biases"):
                    given = self.corrected(given, tries)
            else:
                with doing("rounding weights"):
                    given = tries.rounded(given)
        return given

    def known_of(self, model: ir.Model) -> NormRanges:
        """What norms know of a model, or of one that an edit made of it."""
        for edited, known in self._of_edited:
            if edited is model:
                return known
        symmetric, storage = self.config.symmetric, Storage.of(self.config)
        known = calibrate_by_norms(model, self.inputs, symmetric=symmetric, storage=storage)
        self._of_edited.append((model, known))
        return known

    def extremes(self) -> Extremes:
        """The ends of each channel's spread."""
        spreads = {name: tensor.spread for name, tensor in self.known.tensors.items()}
        return {name: (each.points.min(axis=1), each.points.max(axis=1)) for name, each in spreads.items()}

    def corrected(self, given: Improved, tries: Improvement) -> Improved:
        """Biases that take mean errors, in the way that is best."""
        drawn = tries.fitting.shifted_ways(given)
        pairs = drawn.pairs
        told = self._told(given.model, pairs)
        ways = [each for each in (*told, drawn.in_sequence, drawn.alone) if each.shifts]
        untold = tuple(filter(None, (why_no_mean(pair, self.known_of(given.model).tensors) for pair in pairs)))
        if not ways:
            none = (f"{_NO_SAMPLES}: {self.why_none}",) if self.drawn is None else ()
            reasons = ("no layer's mean error is worth it", *none, *untold)
            return replace(given, edits=(*given.edits, Int8Edit("biases corrected", False, reasons=reasons)))
        if self.level is None:
            kept = ways[0]
            reasons = (_UNMEASURED, f"{_NO_SAMPLES}: {self.why_none}", *untold)
            edit = Int8Edit("biases corrected", True, len(kept.shifts), reasons=reasons)
            return replace(given, corrections=kept, alone=kept, edits=(*given.edits, edit))
        best = max(ways, key=lambda each: tries.fitting.level_of(given, each))
        reasons, compared = untold, ""
        if self.drawn is not None:
            fitted = _TOLD if best in told else f"fitted on {self.drawn.words()}"
            without = untold if best in told else tuple(filter(None, (why_no_shift(each.node) for each in pairs)))
            reasons = (fitted, *without)
            compared = "" if self.by_data else f"on {self.drawn.words()}; no data measured it"
        in_turn = best is drawn.in_sequence
        found = Shifted(best, drawn.alone if in_turn else best, in_turn, pairs)
        return tries.keep_if_better("biases corrected", given, found, len(best.shifts), reasons, compared)

    def _told(self, model: ir.Model, pairs: Sequence[Pair]) -> list[Corrections]:
        """By means that norms tell: the errors that are worth it, and all where something measures."""
        shapes, tensors = Shapes(model), self.known_of(model).tensors
        few = mean_errors_by_norms(shapes, pairs, tensors)
        every = mean_errors_by_norms(shapes, pairs, tensors, worth=0.0) if self.level is not None else {}
        return [Corrections(shifts=way) for way in ((few, every) if len(every) > len(few) else (few,)) if way]
