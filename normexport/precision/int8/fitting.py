"""Fits biases to an int8 model and measures it, on parts of the samples that are as large as each needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import onnx_ir as ir

from normexport.precision.config import EightBit
from normexport.precision.int8.bias_by_layer import mean_errors_by_layer
from normexport.precision.int8.bias_correction import mean_errors_in_sequence
from normexport.precision.int8.corrections import NONE, Corrections, Pair, pairs_of
from normexport.precision.int8.quantise import quantize
from normexport.precision.int8.ranges import Range
from normexport.precision.int8.storage import Storage
from normexport.precision.samples import Batches
from normexport.proof.inputs.mixed import numbers_in
from normexport.runtime import Feeds

FITTED_ON = 128  # samples at most, that weights and biases are fitted on
#: Numbers of these, of all inputs, that biases are fitted on, which are means over places too: 24 images of 224 by 224.
_FITTED_NUMBERS = 1 << 22
#: Numbers that ways to equalise are compared on: 128 digits, 16 images of 224 by 224. By minmax on 16 digits, as it was
#: before, a way was kept that cost 3 dB of the 38 that correcting biases reached without it.
_TRIED_NUMBERS = 5 << 19


class Given(Protocol):
    """A float32 model and how it is quantised."""

    @property
    def model(self) -> ir.Model: ...
    @property
    def ranges(self) -> Mapping[str, Range]: ...
    @property
    def corrections(self) -> Corrections: ...


@dataclass(frozen=True)
class Fits:
    """The corrections that fit a model of which some modules are in float32.

    Biases that were fitted in sequence make good what the layers before do too. Where such a layer is in float32 they
    are wrong: a network of digits fell from 41.9 to 28.7 dB when one of its layers was left out of int8, and has 39.2
    with biases fitted anew. Over 60 models of two networks, fitting anew gave 1.1 dB in the median, 10.4 at most and
    -0.2 at least.

    Attributes:
        alone: those of a module that is alone in int8.
        without: those of a model with just these modules in float32, each fitted once.
    """

    alone: Corrections = NONE
    without: Callable[[Collection[str]], Corrections] = lambda excluded: NONE


@dataclass(frozen=True)
class Shifted:
    """Biases that were fitted.

    Attributes:
        corrections: with the better ones.
        alone: with those that fit each layer by itself.
        in_sequence: whether the better ones make good what the layers before do too.
        pairs: the layers in eight bits.
    """

    corrections: Corrections
    alone: Corrections
    in_sequence: bool
    pairs: list[Pair]


class ShiftedWays(NamedTuple):
    """Corrections with biases in sequence, and with those of each layer by itself; the layers in eight bits."""

    in_sequence: Corrections
    alone: Corrections
    pairs: list[Pair]


@dataclass
class Fitting:
    """What fits and measures.

    Attributes:
        config: how models are quantised.
        batches: samples to fit on; they must not judge.
        level: SNR in dB of the worst output of an int8 model, on samples that judge.
        exclude: module paths left in float32.
    """

    config: EightBit
    batches: Batches
    level: Callable[[ir.Model], float]
    exclude: tuple[str, ...]
    #: Levels that were measured, by the identity of what they are of, which must live as long.
    _levels: dict[tuple[int, ...], tuple[Any, float]] = field(default_factory=dict)

    @property
    def storage(self) -> Storage:
        """The type of eight bits."""
        return Storage.of(self.config)

    @property
    def fitted_on(self) -> Batches:
        """The samples that weights are fitted on."""
        return _limited(self.batches, FITTED_ON)

    @property
    def averaged_on(self) -> Batches:
        """The samples that biases are fitted on."""
        return _limited(self.batches, FITTED_ON, _FITTED_NUMBERS)

    @property
    def few(self) -> Batches:
        """The samples that ways are compared on, where each takes several runs of them."""
        return _limited(self.batches, FITTED_ON, _TRIED_NUMBERS)

    def quantised(self, given: Given, corrections: Corrections) -> ir.Model:
        """The int8 model with these corrections."""
        return quantize(
            given.model,
            given.ranges,
            symmetric=self.config.symmetric,
            exclude=self.exclude,
            corrections=corrections,
            storage=self.storage,
        ).model

    def level_of(self, given: Given, corrections: Corrections) -> float:
        """The level of that; each is measured once."""
        parts = given.model, given.ranges, corrections
        key = tuple(map(id, parts))
        if key not in self._levels:
            self._levels[key] = parts, self.level(self.quantised(given, corrections))
        return self._levels[key][1]

    def in_sequence(self, given: Given, samples: Batches) -> Corrections:
        """The corrections with biases that fit the weights, each layer on what the int8 layers before it make."""
        plain = replace(given.corrections, shifts={})
        found = mean_errors_in_sequence(given.model, self.quantised(given, plain), samples())
        return replace(plain, shifts=found)

    def shifted(self, given: Given) -> Shifted:
        """Biases in sequence, or each layer by itself, whichever are better."""
        ways = self.shifted_ways(given)
        if not ways.alone.shifts:
            return Shifted(ways.alone, ways.alone, False, ways.pairs)
        better = max((ways.in_sequence, ways.alone), key=lambda way: self.level_of(given, way))
        return Shifted(better, ways.alone, better is ways.in_sequence, ways.pairs)

    def shifted_ways(self, given: Given) -> ShiftedWays:
        """Biases in both ways; without any where there are none to correct."""
        plain = replace(given.corrections, shifts={})
        quantised = self.quantised(given, plain)
        pairs = pairs_of(given.model, quantised)
        alone = replace(plain, shifts=mean_errors_by_layer(given.model, pairs, self.averaged_on()))
        if not alone.shifts:
            return ShiftedWays(plain, plain, pairs)
        in_turn = replace(plain, shifts=mean_errors_in_sequence(given.model, quantised, self.averaged_on()))
        return ShiftedWays(in_turn, alone, pairs)


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
