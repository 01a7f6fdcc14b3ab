"""Which of the given samples calibrate, fit, rank modules and judge: none does that has calibrated before."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from normexport.io.data_sources import source_at
from normexport.onnx_export import InputSpec
from normexport.precision.config import ALL, NORMS, EightBit, require_samples
from normexport.precision.int8.first_samples import first_samples
from normexport.precision.int8.held_out import (
    Parted,
    batches_from,
    choose,
    digests_of,
    part_judged,
    part_numbered,
    part_stream,
    without_known,
)
from normexport.precision.labels import Labelled
from normexport.precision.numbered import Numbered
from normexport.precision.reduced import Judged
from normexport.precision.runs import Data, Stream
from normexport.precision.samples import Batches, batches_of
from normexport.precision.streams import batches_by_number, stream_of, without_unreadable
from normexport.proof.inputs.batches import fixed_batches_in
from normexport.proof.inputs.folders import FolderRead, samples_for
from normexport.proof.inputs.mixed import numbers_in
from normexport.workers import LOCAL

RANKED_ON = 16  # samples at least, on which models are timed
#: Numbers of all inputs on which modules are ranked, each in a run of its own: 13 images of 224 by 224, 1 of 640.
#: With half as many a detector of 320 by 320 keeps 36 of its 99 modules in float32 in place of 32.
_MOST_NUMBERS = 1 << 21
_CHOSEN_ON, _IMAGES = 64, 4  # samples at most that edits are measured on, and how many times those that modules are


@dataclass(frozen=True)
class Roles:
    """Samples by what they are for, once it is known which have calibrated.

    Attributes:
        fresh: those that judge, and why they can't where none is new.
        labelled: their labels.
        few: those of them that models are timed on.
        ranked_on: those that modules are ranked on.
        chosen_on: those that edits are measured on.
        fitted_on: those that edits are fitted on; none of them judges.
    """

    fresh: Parted
    labelled: Labelled | None
    few: Data
    ranked_on: Data
    chosen_on: Data
    fitted_on: Batches


def part_samples(config: EightBit, inputs: Sequence[InputSpec], judged: Judged | None) -> Parted:
    """Which samples calibrate and which judge."""
    require_samples(config, judged is not None)
    if config.method == NORMS and judged is not None:
        return Parted(Batches(lambda: iter(())), judged.data)
    if config.calibration is not None:
        return _part_calibration(config, inputs, judged)
    assert judged is not None
    if is_cached(config):  # the cache says which samples it has seen
        return Parted(Batches(lambda: iter(())), judged.data)
    return part_judged(judged.data, inputs, config.batch)


def calibration_stream(config: EightBit, inputs: Sequence[InputSpec]) -> Numbered | None:
    """The samples to calibrate on by their numbers; None where they are not picked one by one.

    Raises:
        UsageError: see `stream_of`.
    """
    draw, given = config.draw or ALL, config.calibration
    if given is None or (not isinstance(given, str | Path) and not draw.option and config.on is None):
        return None
    return stream_of(given, inputs, config.batch, draw, config.preprocess)


def _part_calibration(config: EightBit, inputs: Sequence[InputSpec], judged: Judged | None) -> Parted:
    """Samples that were given to calibrate on; where no others judge, a part of them does."""
    stream = calibration_stream(config, inputs)
    if stream is None:
        batches = batches_of(config.calibration or (), inputs, config.batch, config.preprocess)
        return part_stream(batches, inputs) if judged is None else Parted(batches, judged.data)
    readable, skipped = without_unreadable(stream, config.on or LOCAL)
    read = _read(config, inputs)
    if judged is None:
        return replace(part_numbered(readable, read), given=readable, skipped=skipped)
    return Parted(batches_by_number(readable, read), judged.data, given=readable, skipped=skipped)


def _read(config: EightBit, inputs: Sequence[InputSpec]) -> FolderRead | None:
    """What is said of a folder of samples."""
    source = source_at(config.calibration) if isinstance(config.calibration, str | Path) else None
    return None if source is None or not source.by_file else samples_for(source, inputs, config.preprocess).read()


def roles_of(
    parted: Parted,
    seen: Collection[str],
    config: EightBit,
    inputs: Sequence[InputSpec],
    judged: Judged | None,
    was_cached: bool,
) -> Roles:
    """What each sample is for.

    Args:
        seen: digests of the samples that have calibrated, by a cache too.
        was_cached: whether a cache was there before this run, and no samples to calibrate with.
    """
    fresh = without_known(parted, seen, inputs)
    few = first_samples(fresh.judging, inputs, max(config.batch, RANKED_ON))
    return Roles(
        fresh,
        _labels_of_judging(judged, inputs, fresh),
        few,
        first_samples(few, inputs, _most_ranked(few, inputs)),
        first_samples(fresh.judging, inputs, min(_CHOSEN_ON, _IMAGES * _most_ranked(fresh.judging, inputs))),
        _known(parted, seen, config, inputs) if was_cached else parted.calibration,
    )


def is_cached(config: EightBit) -> bool:
    """Whether a cache is there to read ranges from."""
    return config.cache is not None and config.cache.exists()


def _labels_of_judging(judged: Judged | None, inputs: Sequence[InputSpec], parted: Parted) -> Labelled | None:
    """The labels of the samples that judge; of a model of a fixed batch, of all samples of the runs that do."""
    if judged is None or judged.labelled is None or judged.labels is None or parted.kept is None:
        return None if judged is None else judged.labelled
    runs = fixed_batches_in(inputs, judged.data) if isinstance(judged.data, Mapping) else 1
    each = 1 if any(spec.batched for spec in inputs) else len(judged.labels) // runs
    rows = [number * each + place for number in parted.kept for place in range(each)]
    return replace(judged.labelled, labels=judged.labels[rows])


def _known(parted: Parted, seen: Collection[str], config: EightBit, inputs: Sequence[InputSpec]) -> Batches:
    """The samples given to judge on that a cache says calibrated: those that a run without it calibrates on."""
    known = [index for index, digest in enumerate(digests_of(parted.judging, inputs)) if digest in seen]
    if not known or not isinstance(parted.judging, Mapping | Numbered):
        return Batches(lambda: iter(()), 0)
    return batches_from(choose(parted.judging, inputs, np.array(known)), inputs, config.batch)


def _most_ranked(data: Stream, inputs: Sequence[InputSpec]) -> int:
    """How many samples have at most `_MOST_NUMBERS` numbers, and at least one."""
    one = first_samples(data, inputs, 1)
    runs = one if not isinstance(one, Mapping) else [one]
    return max(1, _MOST_NUMBERS // max(1, sum(map(numbers_in, runs))))
