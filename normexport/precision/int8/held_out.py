"""Which samples calibrate and which judge: never the same, or the verdict says so.

An int8 model is right on the samples that set its ranges, more than on others: 46 dB on those were 36 to 39 on new
ones. So every 4th sample of what is given for both is kept from calibration, and a sample that calibrated, wherever it
came from, does not judge. Samples are told apart by their bytes as the model reads them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np

from normexport.onnx_export import InputSpec
from normexport.precision.numbered import Numbered
from normexport.precision.runs import Data, Given, Stream
from normexport.precision.samples import Batches, batches_in
from normexport.precision.streams import batches_by_number
from normexport.proof.inputs.batches import slice_batches
from normexport.proof.inputs.folders import FolderRead
from normexport.proof.inputs.mixed import is_mixed, joined_rows
from normexport.runtime import Array, Feeds

EVERY = 4  # this one of as many samples judges
LEAST = 8  # samples; of fewer none is kept
MOST = 64  # kept of calibration data: what is judged on is in memory, and each attempt runs on it
_REMEDY = "give others with --data"


@dataclass(frozen=True)
class Parted:
    """Samples in two parts.

    Attributes:
        calibration: what calibrates, as a stream.
        judging: what judges.
        kept: numbers of the samples of `judging` in the data given for both; None: all of other data.
        reason: why a judgement on them proves nothing; "" where it does.
        note: in words, for the report.
        whole: the data given for both; None where there are samples for calibration alone.
        given: the samples for calibration alone by their numbers, those that judge too; None: they have none.
        skipped: samples for calibration that can't be read, a line each.
    """

    calibration: Batches
    judging: Stream
    kept: tuple[int, ...] | None = None
    reason: str = ""
    note: str = ""
    whole: Given | None = None
    given: Numbered | None = None
    skipped: tuple[str, ...] = ()


def part_numbered(data: Numbered, read: FolderRead | None) -> Parted:
    """Calibration data in two parts as `part_stream` makes them, of samples that are read by their numbers.

    Args:
        read: what they are, where they come from a folder.
    """
    total = len(data.numbers)
    if total < LEAST:
        return Parted(batches_by_number(data, read), data.rows(), tuple(range(total)), _too_few(total))
    kept = range(EVERY - 1, min(total, EVERY * MOST), EVERY)
    rest = data.at(place for place in range(total) if place not in kept)
    note = f"judged on {len(kept)} of {total} samples, kept from calibration"
    return Parted(batches_by_number(rest, read), data.at(kept).rows(), tuple(kept), note=note)


def part_stream(batches: Batches, specs: Sequence[InputSpec]) -> Parted:
    """Calibration data in two parts, every 4th sample, at most `MOST`, for judging."""
    total = batches.count if batches.count is not None else sum(_count(feeds, specs) for feeds in batches())
    known = replace(batches, count=total)
    if total < LEAST:
        judging = _gather(known, range(min(total, MOST)), specs)
        return Parted(known, judging, tuple(range(total)), _too_few(total))
    kept = range(EVERY - 1, min(total, EVERY * MOST), EVERY)
    calibration = Batches(lambda: _without(known, set(kept), specs), total - len(kept), batches.read)
    note = f"judged on {len(kept)} of {total} samples, kept from calibration"
    return Parted(calibration, _gather(known, kept, specs), tuple(kept), note=note)


def part_judged(data: Given, specs: Sequence[InputSpec], batch: int) -> Parted:
    """Data that was given to judge on in two parts, every 4th sample for judging."""
    whole = batches_from(data, specs, batch)
    total = whole.count or 0
    if total < LEAST:
        return Parted(whole, data, tuple(range(total)), _too_few(total), whole=data)
    kept = np.arange(EVERY - 1, total, EVERY)
    rest = np.setdiff1d(np.arange(total), kept)
    note = f"calibrated on {len(rest)} samples and judged on {len(kept)} others, of {total}"
    calibration = batches_from(choose(data, specs, rest), specs, batch)
    judging = choose(data, specs, kept)
    return Parted(calibration, judging, tuple(int(index) for index in kept), note=note, whole=data)


def without_known(parted: Parted, seen: Collection[str], specs: Sequence[InputSpec]) -> Parted:
    """Without the samples for judging that calibrated; where none is left, all of them and the reason."""
    digests = digests_of(parted.judging, specs)
    fresh = [index for index, digest in enumerate(digests) if digest not in seen]
    if parted.reason or len(fresh) == len(digests):
        return parted
    if not fresh:
        return replace(parted, reason=f"judged on the samples that calibrated; {_REMEDY}")
    judging = choose(parted.judging, specs, np.array(fresh))
    kept = parted.kept if parted.kept is not None else tuple(range(len(digests)))
    known = f"{len(digests) - len(fresh)} of {len(digests)} samples calibrated too, and do not judge"
    note = f"{parted.note}; {known}" if parted.note else known
    return replace(parted, judging=judging, kept=tuple(kept[index] for index in fresh), note=note)


def digests_of(data: Stream, specs: Sequence[InputSpec]) -> list[str]:
    """One for each sample, of all that the model reads of it."""
    if isinstance(data, Numbered):
        read = (feeds for batch in range(data.batches) for feeds in data.read(batch))
        return [digest for feeds in read for digest in digests_of(feeds, specs)]
    if not isinstance(data, Mapping):
        return [digest for feeds in data for digest in digests_of(feeds, specs)]
    batched = [spec for spec in specs if spec.batched]
    if not batched:
        runs = slice_batches(specs, data, 1)
        return [_digest([_as_read(feeds[spec.name], spec) for spec in specs]) for feeds in runs]
    rows = ((_as_read(row, spec) for row in data[spec.name]) for spec in batched)
    return [_digest(row) for row in zip(*rows, strict=False)]


def watch(batches: Batches, specs: Sequence[InputSpec], seen: set[str]) -> Iterator[Feeds]:
    """The stream, and the digest of every sample that went by."""
    for feeds in batches():
        seen.update(digests_of(feeds, specs))
        yield feeds


def _digest(arrays: Iterable[Array]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:32]


def _too_few(total: int) -> str:
    samples = "sample" if total == 1 else "samples"
    return (
        f"judged on the {total} {samples} that calibrated, which says little of others; {_REMEDY}, or {LEAST} or more"
    )


def _as_read(array: Array, spec: InputSpec) -> Array:
    """Floats as float32, which most models read: a float64 copy of a sample is the same sample."""
    kept: Array = array.astype(np.float32) if spec.dtype.startswith(("float", "bfloat")) else array.astype(spec.dtype)
    return kept


def _count(feeds: Feeds, specs: Sequence[InputSpec]) -> int:
    return min((len(feeds[spec.name]) for spec in specs if spec.batched), default=1)


@overload
def choose(data: Given, specs: Sequence[InputSpec], places: Array) -> Given: ...
@overload
def choose(data: Stream, specs: Sequence[InputSpec], places: Array) -> Stream: ...
def choose(data: Stream, specs: Sequence[InputSpec], places: Array) -> Stream:
    """Samples by their places; of single runs, these."""
    if isinstance(data, Numbered):
        return data.at(map(int, places))
    return choose_samples(data, specs, places) if isinstance(data, Mapping) else [data[place] for place in places]


def batches_from(data: Given, specs: Sequence[InputSpec], batch: int) -> Batches:
    """A stream of them."""
    if isinstance(data, Numbered):
        return batches_by_number(replace(data, batch=batch))
    return batches_in(data, specs, batch)


def choose_samples(data: Mapping[str, Array], specs: Sequence[InputSpec], indices: Array) -> dict[str, Array]:
    """Samples by their numbers; of a model of a fixed batch, whose samples are runs, the rows of these."""
    if not any(spec.batched for spec in specs) and not any(is_mixed(data[spec.name]) for spec in specs):
        runs = list(slice_batches(specs, data, 1))
        varying = [spec.name for spec in specs if runs[0][spec.name].shape != data[spec.name].shape]
        chosen = {name: np.concatenate([runs[index][name] for index in indices]) for name in varying}
        return {spec.name: chosen.get(spec.name, data[spec.name]) for spec in specs}
    varying = [spec.name for spec in specs if spec.batched or is_mixed(data[spec.name])]
    return {spec.name: data[spec.name][indices] if spec.name in varying else data[spec.name] for spec in specs}


def _without(batches: Batches, kept: Collection[int], specs: Sequence[InputSpec]) -> Iterator[Feeds]:
    for feeds, numbers in _number_samples(batches, specs):
        rest = np.array([place for place, number in enumerate(numbers) if number not in kept])
        if rest.size:
            yield choose_samples(feeds, specs, rest)


def _gather(batches: Batches, kept: Collection[int], specs: Sequence[InputSpec]) -> Data:
    """These samples in memory; of a model without an open batch a run each."""
    parts = []
    for feeds, numbers in _number_samples(batches, specs):
        places = np.array([place for place, number in enumerate(numbers) if number in kept])
        if places.size:
            parts.append(choose_samples(feeds, specs, places))
        if numbers.stop > max(kept, default=0):
            break
    if not parts or not any(spec.batched for spec in specs):
        return parts
    return {
        spec.name: joined_rows([part[spec.name] for part in parts]) if spec.batched else parts[0][spec.name]
        for spec in specs
    }


def _number_samples(batches: Batches, specs: Sequence[InputSpec]) -> Iterator[tuple[Feeds, range]]:
    first = 0
    for feeds in batches():
        count = _count(feeds, specs)
        yield feeds, range(first, first + count)
        first += count
