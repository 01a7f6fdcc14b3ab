"""Edits that make int8 better, each kept only where it does so on samples that it was not fitted on.

    equalised            factors between layers even out their channels (`equalise`)
    biases absorbed      what channels have at least moves behind their ReLU (`absorb`)
    biases corrected     the mean error of each channel is taken off the bias, each layer corrected on what int8 layers
                         before it make (`bias_correction`) or on what float32 does (`bias_by_layer`)
    weights rounded      each layer's weights by least squares on samples (`rounded`); takes minutes: effort "high"

Each is measured by the SNR of the worst output (`output_errors`) and stays where that is `WORTH` dB better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import onnx_ir as ir

from normexport.dtypes import FLOAT8
from normexport.graphs.nodes import op
from normexport.precision.config import EightBit
from normexport.precision.int8.absorb import absorb_biases
from normexport.precision.int8.bias_by_layer import mean_errors_by_layer
from normexport.precision.int8.bias_correction import mean_errors_in_sequence
from normexport.precision.int8.calibration import calibrate
from normexport.precision.int8.corrections import NONE, Corrections, Pair, pairs_of, why_no_shift
from normexport.precision.int8.equalise import Equalised, equalise
from normexport.precision.int8.extremes import channel_extremes
from normexport.precision.int8.links import Extremes
from normexport.precision.int8.moments import why_no_moments
from normexport.precision.int8.quantise import quantize
from normexport.precision.int8.ranges import Range
from normexport.precision.int8.rounded import round_weights
from normexport.precision.int8.storage import Storage
from normexport.precision.samples import Batches
from normexport.progress import doing
from normexport.proof.inputs.mixed import numbers_in
from normexport.runtime import Feeds

#: By effort, what is tried.
EDITS: dict[str, tuple[str, ...]] = {
    "none": (),
    "standard": ("equalised", "biases absorbed", "biases corrected"),
    "high": ("equalised", "biases absorbed", "biases corrected", "weights rounded"),
}
WORTH = 0.1  # dB
#: Numbers of all inputs that ways to equalise are compared on: 128 digits, 16 images of 224 by 224. By minmax on 16
#: digits, as it was before, a way was kept that cost 3 dB of the 38 that correcting biases reached without it.
_TRIED_NUMBERS = 5 << 19
#: Said of their levels: the next edit starts from ranges of all samples and no correction, and so at another number.
_TRIED = "both with biases corrected, on ranges of a part of the samples"
#: Said where channels have factors past a Clip.
_PAST = "channels seen below half of a Clip's end have factors too, which are exact as long as they stay there"
_FITTED_ON = 128  # samples at most, that weights and biases are fitted on
#: Numbers of these that biases are fitted on, which are means over places too: 24 images of 224 by 224.
_FITTED_NUMBERS = 1 << 22


@dataclass(frozen=True)
class Int8Edit:
    """One edit and what it gave.

    Attributes:
        name: "equalised", "biases absorbed", "biases corrected" or "weights rounded".
        kept: whether the result has it.
        layers: how many layers it changed, or would.
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
    """What to quantise, with which ranges and corrections, and the edits that led there."""

    model: ir.Model
    ranges: Mapping[str, Range]
    corrections: Corrections = NONE
    edits: tuple[Int8Edit, ...] = ()


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
    work = _Improvement(config, batches, level, tuple(exclude))
    if keep_ranges:
        improved = replace(start, edits=tuple(Int8Edit(name, False, reasons=(keep_ranges,)) for name in names[:2]))
    else:
        with doing("equalising layers"):
            seen = channel_extremes(model, work.few())
            improved, seen = work.equalised(start, seen)
        with doing("absorbing high biases"):
            improved = work.absorbed(improved, seen)
    with doing("correcting biases"):
        improved = work.corrected(improved)
    if "weights rounded" in names:
        with doing("rounding weights"):
            improved = work.rounded(improved)
    return improved


def corrections_without(
    given: Improved,
    config: EightBit,
    batches: Batches,
    level: Callable[[ir.Model], float],
    exclude: Collection[str],
) -> Corrections:
    """Corrections that fit a model with other modules in float32, as biases fitted before are for those that were.

    With what int8 makes of a first layer taken off the biases behind it, a network of digits has 38.8 dB where that
    layer is in float32, and 42.2 where it is not.

    Args:
        given, config, batches, level: as `improve` returns and takes them.
        exclude: all modules in float32.
    """
    if not given.corrections.shifts:
        return given.corrections
    work = _Improvement(config, batches, level, tuple(exclude))
    ways = (given.corrections, work.shifts(given, work.few))
    return max(ways, key=lambda way: work.level_of(given, way))


@dataclass(frozen=True)
class _Way:
    """One way to write the model: how many layers it changed, and what to say of it where it is kept."""

    model: ir.Model
    layers: int
    reasons: tuple[str, ...]


@dataclass
class _Improvement:
    config: EightBit
    batches: Batches
    level: Callable[[ir.Model], float]
    exclude: tuple[str, ...]
    #: Levels that were measured, by the identity of what they are of, which must live as long.
    _levels: dict[tuple[int, ...], tuple[Any, float]] = field(default_factory=dict)
    _trial: tuple[ir.Model | None, float] = (None, 0.0)  # that of the model that was kept

    @property
    def storage(self) -> Storage:
        return Storage.of(self.config)

    @property
    def fitted_on(self) -> Batches:
        """The samples that weights are fitted on."""
        return _limited(self.batches, _FITTED_ON)

    @property
    def averaged_on(self) -> Batches:
        """The samples that biases are fitted on."""
        return _limited(self.batches, _FITTED_ON, _FITTED_NUMBERS)

    @property
    def few(self) -> Batches:
        """The samples that ways are compared on, where each takes several runs of them."""
        return _limited(self.batches, _FITTED_ON, _TRIED_NUMBERS)

    def quantised(self, given: Improved, corrections: Corrections | None = None) -> ir.Model:
        how = given.corrections if corrections is None else corrections
        return quantize(
            given.model,
            given.ranges,
            symmetric=self.config.symmetric,
            exclude=self.exclude,
            corrections=how,
            storage=self.storage,
        ).model

    def level_of(self, given: Improved, corrections: Corrections | None = None) -> float:
        """The level with these corrections, or those it has; each is measured once."""
        how = given.corrections if corrections is None else corrections
        parts = given.model, given.ranges, how
        key = tuple(map(id, parts))
        if key not in self._levels:
            self._levels[key] = parts, self.level(self.quantised(given, how))
        return self._levels[key][1]

    def shifts(self, given: Improved, samples: Batches) -> Corrections:
        """The corrections with biases that fit the weights, in sequence."""
        plain = replace(given.corrections, shifts={})
        found = mean_errors_in_sequence(given.model, self.quantised(given, plain), samples())
        return replace(plain, shifts=found)

    def best_shifts(self, given: Improved) -> tuple[Corrections, list[Pair]]:
        """Corrections with biases that fit the weights, in sequence or each alone, the better ones; the layers."""
        plain = replace(given.corrections, shifts={})
        quantised = self.quantised(given, plain)
        pairs = pairs_of(given.model, quantised)
        alone = replace(plain, shifts=mean_errors_by_layer(given.model, pairs, self.averaged_on()))
        if not alone.shifts:
            return plain, pairs
        in_turn = replace(plain, shifts=mean_errors_in_sequence(given.model, quantised, self.averaged_on()))
        return max((in_turn, alone), key=lambda way: self.level_of(given, way)), pairs

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
        ends = {
            name: (low / factors.get(name, 1.0), high / factors.get(name, 1.0)) for name, (low, high) in seen.items()
        }
        return result, ends

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
        before = self._trial[1] if self._trial[0] is given.model else self.trial(given.model)
        after, best = max(((self.trial(way.model), way) for way in tried), key=lambda pair: pair[0])
        kept = after > before + WORTH
        self._trial = (best.model, after) if kept else (given.model, before)
        why = best.reasons if kept else ("gains too little",)
        edit = Int8Edit(name, kept, best.layers, before, after, why, _TRIED)
        if not kept:
            return replace(given, edits=(*given.edits, edit))
        how = self.config.method
        found = calibrate(best.model, self.batches(), how, symmetric=self.config.symmetric, storage=self.storage)
        return replace(given, model=best.model, ranges=found.ranges, edits=(*given.edits, edit))

    def trial(self, model: ir.Model) -> float:
        """The level of a model with its biases corrected, all of it fitted on a few samples."""
        found = calibrate(model, self.few(), self.config.method, symmetric=self.config.symmetric, storage=self.storage)
        given = Improved(model, found.ranges)
        return self.level(self.quantised(given, self.shifts(given, self.few)))

    def corrected(self, given: Improved) -> Improved:
        """Biases that take the mean errors."""
        corrections, pairs = self.best_shifts(given)
        reasons = tuple(filter(None, (why_no_shift(pair.node) for pair in pairs)))
        return self._keep_if_better("biases corrected", given, corrections, len(corrections.shifts), reasons)

    def rounded(self, given: Improved) -> Improved:
        """Weights by least squares, and biases that fit them where biases were corrected."""
        if self.storage.is_float8:
            edit = Int8Edit("weights rounded", False, reasons=(f"the numbers of {FLOAT8.short} are not evenly apart",))
            return replace(given, edits=(*given.edits, edit))
        pairs = pairs_of(given.model, self.quantised(given, NONE))
        reasons = tuple(filter(None, (why_no_moments(pair) for pair in pairs)))
        samples = min(_FITTED_ON, self.batches.count or _FITTED_ON)
        weights = round_weights(given.model, pairs, self.fitted_on, samples)
        corrections = Corrections(weights)
        if given.corrections.shifts:
            corrections, _ = self.best_shifts(replace(given, corrections=corrections))
        return self._keep_if_better("weights rounded", given, corrections, len(weights), reasons)

    def _keep_if_better(
        self,
        name: str,
        given: Improved,
        corrections: Corrections,
        layers: int,
        reasons: tuple[str, ...],
    ) -> Improved:
        if not layers:
            return replace(
                given, edits=(*given.edits, Int8Edit(name, False, reasons=reasons or ("there are no layers",)))
            )
        before, after = self.level_of(given), self.level_of(given, corrections)
        kept = after > before + WORTH
        edit = Int8Edit(name, kept, layers, before, after, reasons if kept else ("gains too little", *reasons))
        return replace(given, corrections=corrections if kept else given.corrections, edits=(*given.edits, edit))


def _told(found: Equalised) -> tuple[str, ...]:
    """Why layers were left alone, in words."""
    return tuple(f"{layer.layer}: {layer.reason}" for layer in found.layers if layer.reason)


def _limited(batches: Batches, most: int, numbers: float = math.inf) -> Batches:
    """The first batches, of at most this many samples and numbers, and at least one batch."""

    def stream() -> Iterator[Feeds]:
        taken, size = 0, 0
        for feeds in batches():
            if taken and (taken >= most or size + numbers_in(feeds) > numbers):
                return
            taken += max((len(array) for array in feeds.values() if array.ndim), default=1)
            size += numbers_in(feeds)
            yield feeds

    return Batches(stream, None if batches.count is None else min(most, batches.count))
