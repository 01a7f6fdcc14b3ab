"""What a float32 file computes, but for the rounding in between: in float64, handed out as float32."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx_ir as ir

from normexport.runtime.base import Array, Feeds, Sink
from normexport.runtime.float64 import Float64Runtime


class ExactFile:
    """The float64 interpreter with the types that the file declares.

    Of a graph that rounds to a grid, a runtime in float32 goes the other way at halves: that says nothing of the graph.
    """

    def __init__(self, model: ir.Model) -> None:
        self._inner = Float64Runtime(model)
        self.name = "float64 interpreter, results in float32"
        self.inputs = self._inner.inputs
        self.input_names, self.output_names = self._inner.input_names, self._inner.output_names
        self.passive_capture = self._inner.passive_capture
        self.dropped: Mapping[str, str] = {}

    def run(self, feeds: Feeds, capture: Collection[str] = (), sink: Sink | None = None) -> dict[str, Array]:
        """The interpreter's values, floating-point ones as float32."""
        narrowed = None if sink is None else lambda name, value: sink(name, _narrow(value))
        values = self._inner.run(feeds, capture, narrowed)
        self.dropped = self._inner.dropped
        return {name: _narrow(value) for name, value in values.items()}


def _narrow(value: Array) -> Array:
    return value.astype(np.float32) if value.dtype == np.float64 else value
