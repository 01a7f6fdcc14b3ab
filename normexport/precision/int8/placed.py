"""The placement that a config asks for, of a model whose edits and ranges are settled."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import onnx_ir as ir

from normexport.precision.config import PLACEMENTS, EightBit
from normexport.precision.int8.corrections import Corrections
from normexport.precision.int8.edits import Improved, corrections_without
from normexport.precision.int8.placement import Placement, place
from normexport.precision.int8.quantise import quantize
from normexport.precision.int8.sensitivity import noise_alone
from normexport.precision.runs import Data, first_run
from normexport.precision.samples import Batches
from normexport.runtime import OnnxRuntime, Opener, Runtime


def placement_of(
    model: ir.Model,
    config: EightBit,
    improved: Improved,
    batches: Batches,
    level: Callable[[ir.Model], float],
    ranked_on: Data,
    judge: Callable[[ir.Model, Runtime], tuple[float, float | None, bool]],
    kept: Collection[str],
    on: Opener,
) -> tuple[Improved, Placement | None]:
    """Where int8 goes, and the corrections that fit it; None where that is wherever it can be.

    Args:
        model: float32.
        improved: its ranges and corrections.
        batches, level: what corrections are fitted on and chosen by.
        ranked_on: a few samples, on which modules are ranked and models timed.
        judge: as of `sensitivity.rescue`.
        kept: modules in float32 anyway.
        on: the runtime that models are judged on.
    """
    if config.placement == PLACEMENTS[0]:
        return improved, None
    symmetric, ranges = config.symmetric, improved.ranges
    fitted: dict[frozenset[str], Corrections] = {frozenset(): improved.corrections}

    def fit(left: Collection[str]) -> Corrections:
        key = frozenset(left)
        if key not in fitted:
            fitted[key] = corrections_without(improved, config, batches, level, (*kept, *left))
        return fitted[key]

    def make(left: Collection[str]) -> ir.Model:
        return quantize(model, ranges, symmetric=symmetric, exclude=(*kept, *left), corrections=fit(left)).model

    def noise(modules: Sequence[str]) -> Mapping[str, float]:
        corrections = improved.corrections
        return noise_alone(model, ranges, ranked_on, modules, symmetric=symmetric, corrections=corrections)

    feeds = first_run(OnnxRuntime(model), ranked_on)
    found = place(model, config.placement, make, lambda made: judge(made, on(made)), noise, feeds, kept)
    return replace(improved, corrections=fit(found.excluded)), found
