"""How a number is held in eight bits: whole, or as a float8, times a scale that is itself a number of some type.

    v = s * q      q: int8 in -127 .. 127, s = max|v| / 127;  or E4M3 (Micikevicius et al. 2022), s = max|v| / 448

E4M3 has 8 numbers in each octave from 2^-6 to 448, 2^-9 apart below: an error of at most 1/16 of the number, where
int8 has one of 1/254 of the largest. A scale of a half type is rounded up to a number of it, so that nothing is cut off
and a file that holds it in that type means the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from normexport.dtypes import FLOAT8, FLOAT32, FLOATS, INT8
from normexport.precision.config import EightBit

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Storage:
    """The type of eight bits, "int8" or "float8_e4m3fn", and the type that scales are numbers of."""

    dtype: str = INT8
    scales: str = FLOAT32.name

    @classmethod
    def of(cls, config: EightBit) -> Storage:
        """What a config asks for."""
        return cls(config.dtype, config.rest)

    @property
    def is_float8(self) -> bool:
        return self.dtype == FLOAT8.name

    @property
    def largest(self) -> float:
        """The largest number that is used, of either sign."""
        return FLOAT8.largest if self.is_float8 else 127.0

    @property
    def ir(self) -> ir.DataType:
        """The signed type in onnx_ir."""
        return FLOAT8.ir if self.is_float8 else ir.DataType.INT8

    def nearest(self, numbers: Floats) -> npt.NDArray[Any]:
        """Numbers in units of their scale, each as the nearest that is held, half to even; too large: the largest."""
        inside = np.clip(numbers, -self.largest, self.largest)
        return inside.astype(self.ir.numpy()) if self.is_float8 else np.rint(inside).astype(np.int8)

    def scale(self, scale: Any) -> npt.NDArray[np.float32]:
        """Positive scales as float32, each the next larger number of `scales`; those beyond it stay as they are."""
        single: npt.NDArray[np.float32] = np.asarray(scale, np.float32)
        if self.scales == FLOAT32.name:
            return single
        kind = FLOATS[self.scales]
        with np.errstate(over="ignore"):
            below = single.astype(kind.numpy)
        bits = np.asarray(below).view(np.uint16) + (below.astype(np.float32) < single).astype(np.uint16)
        above = np.asarray(bits, np.uint16).view(kind.numpy).astype(np.float32)
        return np.where(np.isfinite(above), above, single)


#: int8, scales in float32.
PLAIN = Storage()
