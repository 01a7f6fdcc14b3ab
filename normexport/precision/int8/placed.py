"""The placement that a config asks for, of a model whose edits and ranges are settled."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import onnx_ir as ir

from normexport.precision.config import PLACEMENTS, EightBit
from normexport.precision.int8.edits import Improved
from normexport.precision.int8.fitting import Fits
from normexport.precision.int8.placement import Placement, place
from normexport.precision.int8.quantise import quantize
from normexport.precision.int8.sensitivity import noise_alone
from normexport.precision.runs import Data, first_run
from normexport.runtime import OnnxRuntime, Opener, Runtime


def placement_of(
    model: ir.Model,
    config: EightBit,
    improved: Improved,
    fits: Fits,
    ranked_on: Data,
    judge: Callable[[ir.Model, Runtime], tuple[float, float | None, bool]],
    kept: Collection[str],
    on: Opener,
) -> tuple[Improved, Placement | None]:
    """Where int8 goes, and the corrections that fit it; None where that is wherever it can be.

    Args:
        model: float32.
        improved: its ranges and corrections.
        fits: its corrections, where modules are left out.
        ranked_on: a few samples, on which modules are ranked and models timed.
        judge: as of `sensitivity.rescue`.
        kept: modules in float32 anyway.
        on: the runtime that models are judged on.
    """
    if config.placement == PLACEMENTS[0]:
        return improved, None
    symmetric, ranges = config.symmetric, improved.ranges

    def make(left: Collection[str]) -> ir.Model:
        how = fits.without((*kept, *left))
        return quantize(model, ranges, symmetric=symmetric, exclude=(*kept, *left), corrections=how).model

    def noise(modules: Sequence[str]) -> Mapping[str, float]:
        return noise_alone(model, ranges, ranked_on, modules, symmetric=symmetric, corrections=fits.alone)

    feeds = first_run(OnnxRuntime(model), ranked_on)
    found = place(model, config.placement, make, lambda made: judge(made, on(made)), noise, feeds, kept)
    return replace(improved, corrections=fits.without((*kept, *found.excluded))), found
