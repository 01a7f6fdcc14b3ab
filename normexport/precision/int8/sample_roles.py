"""Which of the given samples calibrate, fit, rank modules and judge: none does that has calibrated before."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from normexport.onnx_export import InputSpec
from normexport.precision.config import NORMS, EightBit, require_samples
from normexport.precision.int8.first_samples import first_samples
from normexport.precision.int8.held_out import (
    Parted,
    choose_samples,
    digests_of,
    part_arrays,
    part_stream,
    without_known,
)
from normexport.precision.labels import Labelled
from normexport.precision.reduced import Judged
from normexport.precision.runs import Data
from normexport.precision.samples import Batches, batches_in, batches_of
from normexport.proof.inputs.batches import fixed_batches_in
from normexport.proof.inputs.mixed import numbers_in

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
        return Parted(Batches(lambda: iter(())), dict(judged.data))
    if config.calibration is not None:
        batches = batches_of(config.calibration, inputs, config.batch, config.preprocess)
        return part_stream(batches, inputs) if judged is None else Parted(batches, dict(judged.data))
    assert judged is not None
    if is_cached(config):  # the cache says which samples it has seen
        return Parted(Batches(lambda: iter(())), dict(judged.data))
    return part_arrays(judged.data, inputs, config.batch)


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
    each = 1 if any(spec.batched for spec in inputs) else len(judged.labels) // fixed_batches_in(inputs, judged.data)
    rows = [number * each + place for number in parted.kept for place in range(each)]
    return replace(judged.labelled, labels=judged.labels[rows])


def _known(parted: Parted, seen: Collection[str], config: EightBit, inputs: Sequence[InputSpec]) -> Batches:
    """The samples given to judge on that a cache says calibrated: those that a run without it calibrates on."""
    known = [index for index, digest in enumerate(digests_of(parted.judging, inputs)) if digest in seen]
    if not known or not isinstance(parted.judging, Mapping):
        return Batches(lambda: iter(()), 0)
    return batches_in(choose_samples(parted.judging, inputs, np.array(known)), inputs, config.batch)


def _most_ranked(data: Data, inputs: Sequence[InputSpec]) -> int:
    """How many samples have at most `_MOST_NUMBERS` numbers, and at least one."""
    one = first_samples(data, inputs, 1)
    runs = one if not isinstance(one, Mapping) else [one]
    return max(1, _MOST_NUMBERS // max(1, sum(map(numbers_in, runs))))
