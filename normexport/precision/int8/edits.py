"""Edits that make int8 better, each kept only where it does so on samples that it was not fitted on.

    equalised            factors between layers even out their channels (`equalise`)
    scales inserted      around what stops factors, a HardSwish say, where that is worth its time (`borders`)
    biases absorbed      what channels have at least moves behind their ReLU (`absorb`)
    biases corrected     the mean error of each channel is taken off the bias, each layer corrected on what int8 layers
                         before it make (`bias_correction`) or on what float32 does (`bias_by_layer`)
    weights rounded      each layer's weights by least squares on samples (`rounded`); takes minutes: effort "high"

Each is measured by the SNR of the worst output (`level_on`) and stays where that is `WORTH` dB better, scales where it
is `WORTH_TIME` dB better: they are computed in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

import onnx_ir as ir

from normexport.dtypes import FLOAT8
from normexport.graphs.nodes import op
from normexport.precision.config import EightBit
from normexport.precision.int8.absorb import absorb_biases
from normexport.precision.int8.activations import Activations
from normexport.precision.int8.border_noise import noisiest
from normexport.precision.int8.borders import open_borders, uneven_borders
from normexport.precision.int8.calibration import calibrate
from normexport.precision.int8.corrections import NONE, Corrections, pairs_of, why_no_shift
from normexport.precision.int8.equalise import Equalised, equalise
from normexport.precision.int8.extremes import channel_extremes
from normexport.precision.int8.fitting import FITTED_ON, Fits, Fitting, Shifted
from normexport.precision.int8.links import Extremes
from normexport.precision.int8.moments import why_no_moments
from normexport.precision.int8.ranges import Range
from normexport.precision.int8.rounded import round_weights
from normexport.precision.int8.weights import Float64s
from normexport.precision.samples import Batches
from normexport.progress import doing
from normexport.runtime import release_memory

#: By effort, what is tried.
EDITS: dict[str, tuple[str, ...]] = {
    "none": (),
    "standard": ("equalised", "biases absorbed", "biases corrected"),
    "high": ("equalised", "biases absorbed", "biases corrected", "weights rounded"),
}
WORTH = 0.1  # dB
WORTH_TIME = 2.0  # dB; of an edit that the model takes longer with
_FEWER = 1.0  # dB that scales at the noisiest tensors alone may be worse by
SCALED = "scales inserted"
_SCALES = "each is a multiplication in float32, by a constant of each channel"
#: Said of their levels: the next edit starts from ranges of all samples and no correction, and so at another number.
_TRIED = "both with biases corrected, on ranges of a part of the samples"
#: Said where channels have factors past a Clip.
_PAST = "channels seen below half of a Clip's end have factors too, which are exact as long as they stay there"


@dataclass(frozen=True)
class Int8Edit:
    """One edit and what it gave.

    Attributes:
        name: "equalised", "scales inserted" where something stops factors, "biases absorbed", "biases corrected" or
            "weights rounded".
        kept: whether the result has it.
        layers: how many layers it changed, or would; of scales how many there are.
        before_db, after_db: SNR of the worst output without and with it; None where it was not tried.
        reasons: why it was not made, was not kept, or which layers it left alone.
        compared: what both levels have beside the edit, where that is not what the edits before it made.
    """

    name: str
    kept: bool
    layers: int = 0
    before_db: float | None = None
    after_db: float | None = None
    reasons: tuple[str, ...] = ()
    compared: str = ""


@dataclass(frozen=True)
class Improved:
    """What to quantise, with which ranges and corrections, and the edits that led there.

    Attributes:
        alone: the corrections of a module that is alone in int8.
        in_sequence: whether biases make good what the layers before do too, and so fit this model alone.
        fitted_on: the samples that it was fitted on; None: those that calibrated.
    """

    model: ir.Model
    ranges: Mapping[str, Range]
    corrections: Corrections = NONE
    edits: tuple[Int8Edit, ...] = ()
    alone: Corrections = NONE
    in_sequence: bool = False
    fitted_on: Batches | None = None


def improve(
    model: ir.Model,
    ranges: Mapping[str, Range],
    config: EightBit,
    batches: Batches,
    level: Callable[[ir.Model], float],
    *,
    exclude: Collection[str] = (),
    refused: str = "",
    keep_ranges: str = "",
) -> Improved:
    """Try the edits of `config.effort` one after the other.

    Args:
        ranges: of the model as it is.
        batches: samples to fit on; they must not judge.
        level: SNR in dB of the worst output of an int8 model, on samples that judge.
        exclude: module paths left in float32.
        refused: why nothing can be tried; "" where it can.
        keep_ranges: why the ranges can't be made anew, so that nothing is equalised or absorbed; "" where they can.
    """
    start = Improved(model, ranges)
    names = EDITS[config.effort]
    if not names or refused:
        return replace(start, edits=tuple(Int8Edit(name, False, reasons=(refused,)) for name in names))
    work = Improvement(Fitting(config, batches, level, tuple(exclude)))
    if keep_ranges:
        improved = replace(start, edits=tuple(Int8Edit(name, False, reasons=(keep_ranges,)) for name in names[:2]))
    else:
        with doing("equalising layers"):
            seen = channel_extremes(model, work.fitting.few())
            improved, seen = work.equalised(start, seen)
        with doing("inserting scales"):
            improved, seen = work.scaled(improved, seen)
        with doing("absorbing high biases"):
            improved = work.absorbed(improved, seen)
    with doing("correcting biases"):
        improved = work.corrected(improved)
    if "weights rounded" in names:
        with doing("rounding weights"):
            improved = work.rounded(improved)
    return improved


def fits_of(improved: Improved, config: EightBit, batches: Batches, kept: Collection[str]) -> Fits:
    """The corrections that fit where other modules are in float32.

    Args:
        improved, config, batches: as `improve` returns and takes them.
        kept: the modules that were in float32 for that.
    """
    known = {frozenset(kept): improved.corrections}

    def without(excluded: Collection[str]) -> Corrections:
        left = frozenset(excluded)
        if improved.in_sequence and left not in known:
            work = Fitting(config, improved.fitted_on or batches, lambda _: math.nan, tuple(sorted(left)))
            known[left] = work.in_sequence(improved, work.averaged_on)
        return known.get(left, improved.corrections)

    return Fits(improved.alone, without)


@dataclass(frozen=True)
class _Way:
    """One way to write the model: how many layers it changed, and what to say of it where it is kept."""

    model: ir.Model
    layers: int
    reasons: tuple[str, ...]


@dataclass
class Improvement:
    """Tries edits, each on what the ones before it made.

    Attributes:
        fitting: what fits and measures.
        ranges_of: the ranges of a model; None: those of the samples that it is fitted on.
        tried: what two ways to write a model are compared with, in words.
    """

    fitting: Fitting
    ranges_of: Callable[[ir.Model], Mapping[str, Range]] | None = None
    tried: str = _TRIED
    _trial: tuple[ir.Model | None, float] = (None, 0.0)  # the level by trial of the model that was kept

    # ---- the edits

    def equalised(self, given: Improved, seen: Extremes) -> tuple[Improved, Extremes]:
        """By weights alone, by what was seen, past Clips: the best one, where it is worth it with biases corrected."""
        found = [equalise(given.model), equalise(given.model, seen)]
        if any(op(node) == "Clip" for node in given.model.graph):
            past = equalise(given.model, seen, past_clips=True)
            found += [past] if past.scaled > found[1].scaled else []
        ways = [_Way(each.model, sum(layer.scaled > 0 for layer in each.layers), _told(each)) for each in found]
        if found[2:]:
            ways[2] = replace(ways[2], reasons=(_PAST, *ways[2].reasons))
        result = self._keep_best("equalised", given, ways)
        factors = next((each.factors for each in found if each.model is result.model), {})
        return result, _divided(seen, factors)

    def scaled(self, given: Improved, seen: Extremes) -> tuple[Improved, Extremes]:
        """Scales where factors stop: at all tensors that they even out, or at the few that make most of the noise."""
        opened = open_borders(given.model)
        if not opened.scales or self.fitting.storage.is_float8:
            return given, seen
        ends = channel_extremes(opened.model, self.fitting.few())
        uneven = uneven_borders(opened, equalise(opened.model, ends).model)

        def at(names: Collection[str]) -> tuple[Equalised, float]:
            found = equalise(open_borders(given.model, names).model, ends)
            return found, self.trial(found.model)

        if not uneven:
            edit = Int8Edit(SCALED, False, reasons=("channels are even where factors stop",))
            return replace(given, edits=(*given.edits, edit)), seen
        before = self._before(given)
        found, after = at(uneven)
        names = uneven
        if after > before + WORTH_TIME:
            names = self._noisiest(given, uneven)
            fewer = at(names) if names < uneven else (found, after)
            names, (found, after) = (names, fewer) if fewer[1] > after - _FEWER else (uneven, (found, after))
        way = _Way(found.model, len(names), (_SCALES,))
        result = self._settle(SCALED, given, way, before, after, WORTH_TIME)
        return result, _divided(ends, found.factors) if result.model is found.model else seen

    def _noisiest(self, given: Improved, names: Collection[str]) -> frozenset[str]:
        how = Activations(self.fitting.config.symmetric, unsigned=True)
        ranges = self._ranges(given.model, self.fitting.few)
        return noisiest(given.model, ranges, names, self.fitting.level, how)

    def absorbed(self, given: Improved, seen: Extremes) -> Improved:
        """High biases, by what was seen."""
        found = absorb_biases(given.model, seen)
        reasons = found.reasons or ("no channel is above zero throughout",)
        return self._keep_best("biases absorbed", given, [_Way(found.model, found.layers, reasons)])

    def _keep_best(self, name: str, given: Improved, ways: list[_Way]) -> Improved:
        """The best of ways to write the model, on ranges of its own, where it is worth it with biases corrected."""
        tried = [way for way in ways if way.model is not given.model]
        if not tried:
            return replace(given, edits=(*given.edits, Int8Edit(name, False, reasons=ways[-1].reasons)))
        before = self._before(given)
        after, best = max(((self.trial(way.model), way) for way in tried), key=lambda pair: pair[0])
        return self._settle(name, given, best, before, after, WORTH)

    def _before(self, given: Improved) -> float:
        return self._trial[1] if self._trial[0] is given.model else self.trial(given.model)

    def _settle(self, name: str, given: Improved, best: _Way, before: float, after: float, worth: float) -> Improved:
        """With the model of a way, where that is worth it."""
        kept = after > before + worth
        self._trial = (best.model, after) if kept else (given.model, before)
        why = best.reasons if kept else ("gains too little",)
        edit = Int8Edit(name, kept, best.layers, before, after, why, self.tried)
        if not kept:
            return replace(given, edits=(*given.edits, edit))
        ranges = self._ranges(best.model, self.fitting.batches)
        return replace(given, model=best.model, ranges=ranges, edits=(*given.edits, edit))

    def trial(self, model: ir.Model) -> float:
        """The level of a model with its biases corrected, all of it fitted on a few samples."""
        few = self.fitting.few
        given = Improved(model, self._ranges(model, few))
        return self.fitting.level(self.fitting.quantised(given, self.fitting.in_sequence(given, few)))

    def _ranges(self, model: ir.Model, samples: Batches) -> Mapping[str, Range]:
        if self.ranges_of is not None:
            return self.ranges_of(model)
        config = self.fitting.config
        storage = self.fitting.storage
        release_memory()
        return calibrate(model, samples(), config.method, symmetric=config.symmetric, storage=storage).ranges

    def corrected(self, given: Improved) -> Improved:
        """Biases that take the mean errors."""
        found = self.fitting.shifted(given)
        reasons = tuple(filter(None, (why_no_shift(pair.node) for pair in found.pairs)))
        return self.keep_if_better("biases corrected", given, found, len(found.corrections.shifts), reasons)

    def rounded(self, given: Improved) -> Improved:
        """Weights by least squares, and biases that fit them where biases were corrected."""
        if self.fitting.storage.is_float8:
            edit = Int8Edit("weights rounded", False, reasons=(f"the numbers of {FLOAT8.short} are not evenly apart",))
            return replace(given, edits=(*given.edits, edit))
        pairs = pairs_of(given.model, self.fitting.quantised(given, NONE))
        reasons = tuple(filter(None, (why_no_moments(pair) for pair in pairs)))
        samples = min(FITTED_ON, self.fitting.batches.count or FITTED_ON)
        weights = round_weights(given.model, pairs, self.fitting.fitted_on, samples)
        corrections = Corrections(weights)
        found = Shifted(corrections, corrections, False, pairs)
        if given.corrections.shifts:
            found = self.fitting.shifted(replace(given, corrections=corrections))
        return self.keep_if_better("weights rounded", given, found, len(weights), reasons)

    def keep_if_better(
        self, name: str, given: Improved, found: Shifted, layers: int, reasons: tuple[str, ...], compared: str = ""
    ) -> Improved:
        """With corrections that were found for so many layers, where these are worth it."""
        if not layers:
            edit = Int8Edit(name, False, reasons=reasons or ("there are no layers",))
            return replace(given, edits=(*given.edits, edit))
        before, after = (self.fitting.level_of(given, each) for each in (given.corrections, found.corrections))
        kept = after > before + WORTH
        edit = Int8Edit(
            name, kept, layers, before, after, reasons if kept else ("gains too little", *reasons), compared
        )
        done = replace(given, edits=(*given.edits, edit))
        if not kept:
            return done
        return replace(done, corrections=found.corrections, alone=found.alone, in_sequence=found.in_sequence)


def _divided(seen: Extremes, factors: Mapping[str, Float64s]) -> Extremes:
    """What is seen of channels that were divided by their factors."""
    return {name: (low / factors.get(name, 1.0), high / factors.get(name, 1.0)) for name, (low, high) in seen.items()}


def _told(found: Equalised) -> tuple[str, ...]:
    """Why layers were left alone, in words."""
    return tuple(f"{layer.layer}: {layer.reason}" for layer in found.layers if layer.reason)
