"""A chain of convolutions with ranges that cut, and samples of it: what edits and their measurements are tried on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from normexport.precision.int8.calibration import calibrate
from normexport.precision.int8.corrections import NONE, Corrections
from normexport.precision.int8.ranges import Range
from normexport.precision.samples import Batches
from tests.precision.int8.linked_graphs import Graph


@dataclass(frozen=True)
class Given:
    """A float32 model, how it is quantised, and samples (16, 4, 5, 5) of its input x."""

    model: ir.Model
    ranges: Mapping[str, Range]
    x: np.ndarray
    corrections: Corrections = NONE

    @property
    def batches(self) -> Batches:
        """The samples in one batch."""
        return Batches(lambda: iter([{"x": self.x}]), len(self.x))


def chain(seed: int, layers: int = 3, tight: float = 0.4) -> Given:
    """Convolutions with ReLUs between them, in ranges of this share of what is seen."""
    g = Graph(seed, (16, 4, 5, 5), np.float32)
    hidden = "x"
    for _ in range(layers - 1):
        hidden = g.node("Relu", [g.conv(hidden, 6, 3)], (16, 6, 5, 5))
    model = g.model(g.conv(hidden, 3))
    x = np.random.default_rng(seed).standard_normal((16, 4, 5, 5)).astype(np.float32)
    found = calibrate(model, [{"x": x}], "minmax").ranges
    return Given(model, {name: (tight * low, tight * high) for name, (low, high) in found.items()}, x)
