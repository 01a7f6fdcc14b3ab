"""What was seen of each channel of a model's tensors on samples: its lowest and highest number."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from normexport.precision.int8.links import Extremes, Links
from normexport.precision.int8.weights import Float64s
from normexport.runtime import Array, Feeds, OnnxRuntime


def channel_extremes(model: ir.Model, batches: Iterable[Feeds]) -> Extremes:
    """The extremes of every channel that can have a factor (`links`), by tensor name.

    A tensor with a NaN in it, or of which nothing was seen, is left out. One batch is in memory at a time.
    """
    axes = {str(value.name): axis for value, (axis, _) in Links(model).channels.items() if value.name}
    found: dict[str, tuple[Float64s, Float64s]] = {}
    runtime = OnnxRuntime(model)

    def look(name: str, array: Array) -> None:
        if not array.size:
            return
        others = tuple(axis for axis in range(array.ndim) if axis != axes[name])
        low, high = array.min(axis=others).astype(np.float64), array.max(axis=others).astype(np.float64)
        if name in found:
            low, high = np.minimum(low, found[name][0]), np.maximum(high, found[name][1])
        found[name] = low, high

    for feeds in batches:
        results = runtime.run(feeds, sorted(set(axes) - set(runtime.output_names)), look)
        for name in set(axes) & set(results):
            look(name, results[name])
    return {name: ends for name, ends in found.items() if all(np.isfinite(each).all() for each in ends)}
