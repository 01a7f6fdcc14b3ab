"""How a range of an activation becomes a scale and a zero point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from normexport.dtypes import FLOAT32
from normexport.precision.int8.grids import Grid
from normexport.precision.int8.ranges import Range
from normexport.precision.int8.storage import PLAIN, Storage


@dataclass(frozen=True)
class Activations:
    """How activations are stored: `symmetric` with zero points of 0; else `unsigned` uint8, or int8."""

    symmetric: bool = False
    unsigned: bool = False
    storage: Storage = PLAIN

    @property
    def dtype(self) -> ir.DataType:
        return ir.DataType.UINT8 if self.unsigned and not self.symmetric else self.storage.ir

    def linear(self, limits: Range) -> tuple[float, int]:
        """(scale, zero point) of a range that has zero in it; scale 1 where the range is nothing but zero."""
        lowest = 0 if self.dtype is ir.DataType.UINT8 else -self.storage.largest if self.symmetric else -128
        highest = 255 if self.dtype is ir.DataType.UINT8 else self.storage.largest
        scale = float(self.storage.scale((limits[1] - limits[0]) / (highest - lowest)))
        if not FLOAT32.smallest_normal <= scale < np.inf:
            return 1.0, 0
        return scale, 0 if self.symmetric else int(np.clip(np.rint(lowest - limits[0] / scale), lowest, highest))

    def stored(self, grid: Grid) -> Grid | None:
        """A grid of training in the type of activations; None where that has not as many integers."""
        if self.symmetric:
            return grid.about_zero()
        ends = np.iinfo(self.dtype.numpy())
        return grid.stored_from(int(ends.min), int(ends.max))
