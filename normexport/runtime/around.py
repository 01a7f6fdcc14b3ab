"""Runtimes around another: they take what it takes, under its names, and hand out something else."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np
import onnx_ir as ir

from normexport.runtime.base import Array, Feeds, Port, Runtime, Sink
from normexport.runtime.float64 import Float64Runtime


class Around:
    """What a runtime around `inner` says of itself; it runs as that does."""

    def __init__(self, inner: Runtime, name: str = "") -> None:
        self.inner = inner
        self.name = name or inner.name
        self.inputs: tuple[Port, ...] = inner.inputs
        self.input_names, self.output_names = inner.input_names, inner.output_names
        self.passive_capture = inner.passive_capture
        self.dropped: Mapping[str, str] = {}

    def run(self, feeds: Feeds, capture: Collection[str] = (), sink: Sink | None = None) -> dict[str, Array]:
        """See `normexport.runtime.Runtime`."""
        values = self.inner.run(feeds, capture, sink)
        self.dropped = self.inner.dropped
        return values


class Converted(Around):
    """A runtime whose values are handed out as `change` makes them of their names and arrays."""

    def __init__(self, inner: Runtime, change: Callable[[str, Array], Array], name: str = "") -> None:
        super().__init__(inner, name)
        self._change = change

    def run(self, feeds: Feeds, capture: Collection[str] = (), sink: Sink | None = None) -> dict[str, Array]:
        """The inner runtime's values, changed."""
        changed = None if sink is None else lambda name, value: sink(name, self._change(name, value))
        values = super().run(feeds, capture, changed)
        return {name: self._change(name, value) for name, value in values.items()}


def in_float32(inner: Runtime, name: str = "") -> Converted:
    """A runtime whose half types are handed out as float32: a candidate then differs from float32 in rounding alone."""
    return Converted(inner, lambda _, value: _widened(value), name)


def exact_file(model: ir.Model) -> Converted:
    """What a float32 file computes but for the rounding in between: by the float64 interpreter, handed out as float32.

    Of a graph that rounds to a grid, a runtime in float32 goes the other way at halves: that says nothing of the graph.
    """
    inner = Float64Runtime(model)
    return Converted(inner, lambda _, value: _narrowed(value), "float64 interpreter, results in float32")


def _widened(value: Array) -> Array:
    return value.astype(np.float32) if value.dtype.kind == "f" and value.dtype != np.float64 else value


def _narrowed(value: Array) -> Array:
    return value.astype(np.float32) if value.dtype == np.float64 else value
