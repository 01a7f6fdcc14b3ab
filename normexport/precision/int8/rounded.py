"""Weights of an int8 model rounded by least squares on samples, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import onnx_ir as ir

from normexport.precision.int8.corrections import Pair, Rounded, why_no_shift
from normexport.precision.int8.moments import Moments, moments_of, why_no_moments
from normexport.precision.int8.rounding import round_by_least_squares
from normexport.precision.int8.weights import as_stored, by_group, stored
from normexport.progress import counted
from normexport.runtime import Feeds


def round_weights(
    model: ir.Model, pairs: Sequence[Pair], batches: Callable[[], Iterable[Feeds]], samples: int
) -> dict[str, Rounded]:
    """The weights of all layers that can be rounded so, by the name of the initializer.

    Args:
        model: the float32 model that `pairs` are layers of.
        batches: makes the samples, any number of times.
        samples: how many these are.
    """
    chosen = [pair for pair in pairs if not why_no_moments(pair)]
    return {
        str(pair.node.inputs[1].name): _rounded(pair, moments)
        for pair, moments in counted("rounding weights", moments_of(model, chosen, batches, samples), len(chosen))
        if pair.node.inputs[1] is not None
    }


def _rounded(pair: Pair, moments: Moments) -> Rounded:
    weight = stored(pair.node.inputs[1])
    assert weight is not None
    grouped = by_group(pair.node, weight / pair.grid)
    assert grouped is not None
    covariance = moments.covariance(about_mean=not why_no_shift(pair.node))
    flat = grouped.reshape(*grouped.shape[:2], -1)
    whole = round_by_least_squares(flat, covariance).reshape(grouped.shape)
    return Rounded(pair.scale, np.ascontiguousarray(as_stored(pair.node, whole, weight.shape)).astype(np.int8))
