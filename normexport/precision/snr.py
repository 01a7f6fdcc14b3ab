"""How much of what an output says is left: its signal-to-noise ratio, of the whole and of every channel.

With r the reference, v the candidate, both (samples, ...), and m the mean of r over the samples, element by element,

    SNR = 10 log10( sum (r - m)^2 / sum (v - r)^2 )    in dB.

Taken about the mean, since what is alike for all samples says nothing about any: a head that gives 33.4 +- 1.27 and
became constant is at 0 dB, about zero it would be at 28.

**Channels.** Where scales differ, a channel can be lost unseen in the sum: scores of 0 to 1 beside boxes of 0 to 640,
one class of a thousand. So every index of the channel axes has an SNR of its own, over all that lies at that index,
and may be `CHANNEL_SLACK` dB below what the whole needs. An error of the size of that channel is 0 dB.

**Constants.** What does not vary over the samples has no SNR: it is equal to within `EQUAL` of its size, or off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from normexport.runtime import Array
from normexport.verdicts import Judgement, failed, inconclusive, passed, together

Float64s = npt.NDArray[np.float64]

# Channels differ: over the 21 example networks the worst class is 1 to 9 dB below the whole. A channel that is lost is
# at 0 dB or below.
CHANNEL_SLACK = 15.0
FEW = 16  # normal values' worth of signal in a channel; with less, its own power may be small by chance
LOST = 3.0  # dB; of a channel of few values that is taken to be lost
OUTLIER = 30.0  # times the median error power of all channels: of two values one is so large once in 1e9
CONSTANT = 1e-6  # of an output's size: what float32 itself moves
EQUAL = 1e-3  # of its size: how far a constant may be off (60 dB)
_BLOCK = 1 << 20  # numbers at a time


@dataclass(frozen=True)
class OutputError:
    """How far one output is from its reference.

    Attributes:
        name: of the output; where that is an index, the scores behind it are what is measured.
        snr_db: of the whole, about the mean over samples; None where there is none. With one sample: about zero.
        channel_db, channel: the lowest SNR of a channel, and where that is; None and "" without channels.
        agreement: share of decisions (argmax of class scores), or of whole numbers, that equal the reference's.
        varies: whether the reference varies over the samples.
        judgement: by the limit.
    """

    name: str
    snr_db: float | None = None
    channel_db: float | None = None
    channel: str = ""
    agreement: float | None = None
    varies: bool = False
    judgement: Judgement = field(default_factory=passed)

    @property
    def level(self) -> float:
        """What a limit in dB is held against: of the whole, or of the worst channel with its slack. Never NaN."""
        if self.snr_db is None:
            return math.inf if self.judgement.passed else -math.inf
        return self.snr_db if self.channel_db is None else min(self.snr_db, self.channel_db + CHANNEL_SLACK)

    def as_dict(self) -> dict[str, object]:
        """For JSON; infinities are left to the writer."""
        plain = {name: value for name, value in vars(self).items() if name != "judgement"}
        return {**self.judgement.as_dict(), **plain}


@dataclass
class _Sums:
    """Sums over samples, of the whole (0-d) or by index of an axis: |r|^2, |r-m|^2, |r-m|^4, |v-r|^2, elements."""

    size: Float64s
    signal: Float64s
    fourth: Float64s
    error: Float64s
    count: Float64s


def measure_output(
    name: str, reference: Array, value: Array, least: float, axes: Sequence[int] = (), *, place: str = ""
) -> OutputError:
    """The SNR of a floating-point output and its judgement.

    Args:
        reference, value: (samples, ...).
        least: dB that the whole needs.
        axes: channel axes, see `precision.decisions`.
        place: what reasons call it; default: its name.
    """
    place = place or name
    if reference.shape != value.shape:
        return OutputError(name, judgement=failed(f"{place}: shape {value.shape}, expected {reference.shape}"))
    if not reference.size:
        return OutputError(name, judgement=inconclusive(f"{place}: is empty"))
    if trouble := _not_finite(place, reference, value):
        return OutputError(name, judgement=trouble)
    agreement = _agreement(reference, value)
    whole, channels = _sums(reference, value, sorted({axis % reference.ndim for axis in axes} - {0}))
    if len(reference) == 1:
        snr = _decibels(whole.size, whole.error)
        return OutputError(name, snr, agreement=agreement, judgement=_judge_one_sample(place, snr, least))
    if whole.signal <= CONSTANT**2 * whole.size:
        return OutputError(name, agreement=agreement, judgement=_constant(place, whole, least))
    snr = _decibels(whole.signal, whole.error)
    judgements = [passed() if snr >= least else failed(f"{place}: SNR {_words(snr)}, {least:g} dB needed")]
    worst, where = math.inf, ""
    for axis, sums in channels.items():
        own, index, judgement = _worst_channel(place, axis, sums, whole, least)
        judgements.append(judgement)
        if own < worst:
            worst, where = own, f"index {index} of axis {axis}"
    return OutputError(name, snr, worst if where else None, where, agreement, True, together(judgements))


def _judge_one_sample(place: str, snr: float, least: float) -> Judgement:
    """One sample has no mean to be about. About zero SNR is larger, so that too little is too little."""
    if snr < least:
        return failed(f"{place}: SNR {_words(snr)}, {least:g} dB needed")
    return inconclusive(f"{place}: one sample does not show that it follows the input; give more")


def _constant(place: str, whole: _Sums, least: float) -> Judgement:
    snr = _decibels(whole.size, whole.error)
    if whole.error <= EQUAL**2 * whole.size:
        return passed()
    words = f"{place}: does not vary over the samples, and is {_words(snr)} off"
    return failed(words) if snr < least else inconclusive(words)


def _worst_channel(place: str, axis: int, sums: _Sums, whole: _Sums, least: float) -> tuple[float, int, Judgement]:
    """SNR and index of the worst channel along an axis, and the judgement of all of them.

    A channel that hardly varies is held to an error that is small beside its own size, or beside the whole's signal.
    """
    needed = least - CHANNEL_SLACK
    share = 10 ** (-max(least, 0.0) / 10)
    still = sums.signal <= CONSTANT**2 * sums.size
    allowed = share * np.maximum(sums.size, sums.count * (whole.signal / whole.count))
    snr = _decibels_of(sums.signal, sums.error)
    snr[still] = np.where(sums.error <= allowed, np.inf, -np.inf)[still]
    carriers = 3 * np.divide(sums.signal**2, sums.fourth, out=np.zeros_like(sums.signal), where=sums.fourth > 0)
    few = ~still & (carriers < FEW)
    power = sums.error / np.maximum(sums.count, 1)
    noisy = power > OUTLIER * np.median(power)
    lost = np.where(few, (snr < LOST) & noisy, snr < needed)
    judged = np.where(few & ~lost, np.inf, snr)
    index = int(judged.argmin())
    if not lost.any():
        return float(judged[index]), index, passed()
    index = int(np.where(lost, judged, np.inf).argmin())
    known = np.flatnonzero(lost & ~few)
    if known.size:
        index = int(known[judged[known].argmin()])
        more = f" (and {known.size - 1} more)" if known.size > 1 else ""
        words = f"{place}: SNR {_words(judged[index])} at index {index} of axis {axis}{more}"
        return float(judged[index]), index, failed(f"{words}, {needed:g} dB needed of each")
    words = f"{place}: SNR {_words(judged[index])} at index {index} of axis {axis}, from few values"
    return float(judged[index]), index, inconclusive(f"{words}; give more samples")


def _not_finite(place: str, reference: Array, value: Array) -> Judgement | None:
    """NaN never passes; an infinity, as of a mask, only where the reference has the same."""
    own, theirs = np.isnan(reference), np.isnan(value)
    if (theirs & ~own).any():
        return failed(f"{place}: NaN in {_samples_of(theirs & ~own)}, where the reference is a number")
    if own.any():
        return inconclusive(f"{place}: the reference itself is NaN in {_samples_of(own)}")
    infinite = np.isinf(reference)
    wrong = (infinite | np.isinf(value)) & (reference != value)
    if wrong.any():
        return failed(f"{place}: infinite in {_samples_of(wrong)}, unlike the reference")
    if infinite.all():
        return inconclusive(f"{place}: the reference is infinite throughout")
    return None


def _samples_of(where: npt.NDArray[np.bool_]) -> str:
    return f"{int(where.reshape(len(where), -1).any(axis=1).sum())} of {len(where)} samples"


def _sums(reference: Array, value: Array, axes: Sequence[int]) -> tuple[_Sums, dict[int, _Sums]]:
    """Sums over all elements that are finite, a block of samples at a time, as shares of the largest magnitude."""
    finite = np.isfinite(reference)
    scale = float(np.abs(np.where(finite, reference, 0).astype(np.float64)).max()) or 1.0
    counts = finite.sum(axis=0)
    total = np.where(finite, reference, 0).sum(axis=0, dtype=np.float64) / scale
    mean = total / np.maximum(counts, 1)
    ways = {axis: tuple(other for other in range(reference.ndim) if other != axis) for axis in axes}
    whole = _Sums(*(np.zeros(()) for _ in range(5)))
    channels = {axis: _Sums(*(np.zeros(reference.shape[axis]) for _ in range(5))) for axis in axes}
    step = max(1, _BLOCK // max(1, reference[0].size))
    for start in range(0, len(reference), step):
        part = slice(start, start + step)
        r = np.where(finite[part], reference[part], 0).astype(np.float64) / scale
        v = np.where(finite[part], value[part], 0).astype(np.float64) / scale
        off = np.where(finite[part], r - mean, 0)
        with np.errstate(over="ignore"):  # a candidate of any size: an infinite error is minus infinity in dB
            terms = (r * r, off * off, off**4, np.square(v - r), finite[part].astype(np.float64))
        for own, term in zip(vars(whole), terms, strict=True):
            setattr(whole, own, getattr(whole, own) + term.sum())
            for axis, others in ways.items():
                setattr(channels[axis], own, getattr(channels[axis], own) + term.sum(axis=others))
    return whole, channels


def _decibels(signal: Float64s, error: Float64s) -> float:
    return float(_decibels_of(np.atleast_1d(signal), np.atleast_1d(error))[0])


def _decibels_of(signal: Float64s, error: Float64s) -> Float64s:
    """10 log10(signal / error): infinite for no error, minus infinity for nothing but error."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = 10 * (np.log10(signal) - np.log10(error))
    found[error == 0] = np.inf
    return np.where(np.isnan(found), -np.inf, found)


def _words(decibels: float) -> str:
    return f"{decibels:.1f} dB"


def _agreement(reference: Array, value: Array) -> float | None:
    """Share of rows of a table of class scores that decide alike; classes that tie in the reference are equals."""
    if reference.ndim != 2 or reference.shape[1] < 2:
        return None
    chosen = np.take_along_axis(reference, value.argmax(axis=1)[:, None], axis=1)[:, 0]
    return float(np.mean(chosen == reference.max(axis=1)))
