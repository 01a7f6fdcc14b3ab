"""The floating-point types that networks are stored and computed in: one row each, and every name that others give it.

A further precision is one more row, and its arithmetic where it has some of its own. This module imports nothing: what
belongs to numpy, onnx_ir or torch is fetched from there when it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir
    import torch as torch_


@dataclass(frozen=True)
class DType:
    """One floating-point type.

    Attributes:
        name: what numpy and torch call it, and files and options of ours: "float16".
        short: what the command line calls it: "fp16".
        onnx_name: of ONNX's enumeration: "FLOAT16".
        onnx: its number there (`onnx.TensorProto.FLOAT16`).
        tensorrt: what TensorRT calls it, in lower case; "" where it has no such type.
        bits: of one number.
        largest: the largest finite number.
        unit_roundoff: the largest relative error of rounding a number in the normal range.
        smallest_normal: below it the spacing of numbers shrinks no further.
        is_numpys: whether numpy itself has the type, and so files of numpy and ONNX Runtime's arrays.
    """

    name: str
    short: str
    onnx_name: str
    onnx: int
    tensorrt: str
    bits: int
    largest: float
    unit_roundoff: float
    smallest_normal: float
    is_numpys: bool = True

    @property
    def is_half(self) -> bool:
        """Whether it is one of the types of 16 bits that a float32 network is reduced to."""
        return self.bits == 16

    @property
    def array_name(self) -> str:
        """The numpy type that arrays of it travel in: its own, or float32, which holds every number of it."""
        return self.name if self.is_numpys else FLOAT32.name

    @property
    def numpy(self) -> np.dtype[Any]:
        """The type in numpy, of `ml_dtypes` where numpy has none."""
        dtype: np.dtype[Any] = self.ir.numpy()
        return dtype

    @property
    def ir(self) -> ir.DataType:
        """The type in onnx_ir."""
        import onnx_ir

        return onnx_ir.DataType(self.onnx)

    @property
    def torch(self) -> torch_.dtype:
        """The type in torch."""
        import torch

        dtype: torch_.dtype = getattr(torch, self.name)
        return dtype


FLOAT32 = DType("float32", "fp32", "FLOAT", 1, "float", 32, float.fromhex("0x1.fffffep127"), 2.0**-24, 2.0**-126)
FLOAT64 = DType("float64", "fp64", "DOUBLE", 11, "", 64, float.fromhex("0x1.fffffffffffffp1023"), 2.0**-53, 2.0**-1022)
FLOAT16 = DType("float16", "fp16", "FLOAT16", 10, "half", 16, 65504.0, 2.0**-11, 2.0**-14)
BFLOAT16 = DType("bfloat16", "bf16", "BFLOAT16", 16, "bf16", 16, float.fromhex("0x1.fep127"), 2.0**-8, 2.0**-126, False)
#: E4M3: a sign, four bits of exponent, three of mantissa; it has NaN and no infinity.
FLOAT8 = DType("float8_e4m3fn", "fp8", "FLOAT8E4M3FN", 17, "fp8", 8, 448.0, 2.0**-4, 2.0**-6, False)

#: Every type that a network computes in by its name. `FLOAT8` is none: it is stored between two factors of a scale.
FLOATS = {each.name: each for each in (FLOAT32, FLOAT64, FLOAT16, BFLOAT16)}
#: The types of 16 bits that a float32 network is reduced to.
HALVES = {name: each for name, each in FLOATS.items() if each.is_half}
#: The first operator set in which convolutions and pools take a half type.
CONVOLVED_FROM = {FLOAT16.name: 1, BFLOAT16.name: 22}
#: The first operator set in which QuantizeLinear says its type in an attribute, so that float8 needs no zero point.
FLOAT8_FROM = 21
#: The type of integer tensors that networks are quantised to.
INT8 = "int8"
#: What networks are quantised to: numbers of eight bits, each times a scale.
EIGHT_BITS = (INT8, FLOAT8.name)
#: What a network can be made to compute in, by name and by the command line's name.
PRECISIONS = (FLOAT32.name, *HALVES, *EIGHT_BITS)
SHORT = {each.name: each.short for each in (FLOAT32, *HALVES.values())} | {INT8: INT8, FLOAT8.name: FLOAT8.short}

_BY_NUMBER = {each.onnx: each for each in FLOATS.values()}
_BY_TENSORRT = {each.tensorrt: each for each in (*FLOATS.values(), FLOAT8) if each.tensorrt}


def of_onnx(number: int | None) -> DType | None:
    """The floating-point type of a number of ONNX's enumeration, of `ir.DataType` too; None for all others."""
    return None if number is None else _BY_NUMBER.get(int(number))


def of_tensorrt(name: str) -> str:
    """TensorRT's "half" -> "float16"; names of other types as they are."""
    return _BY_TENSORRT[name].name if name in _BY_TENSORRT else name


def of_torch(dtype: object) -> DType | None:
    """The floating-point type of a `torch.dtype`; None for all others."""
    return FLOATS.get(str(dtype).removeprefix("torch."))


def array_name(name: str) -> str:
    """The numpy type in which arrays of a type travel: `DType.array_name`; types that are not floating as they are."""
    return FLOATS[name].array_name if name in FLOATS else name


def onnx_numbers(types: Mapping[str, DType]) -> frozenset[int]:
    """ONNX's numbers of some types; members of `ir.DataType` are such numbers too."""
    return frozenset(each.onnx for each in types.values())


def torch_dtypes(types: Mapping[str, DType]) -> frozenset[torch_.dtype]:
    """The same types in torch."""
    return frozenset(each.torch for each in types.values())


def as_numpys(tensor: torch_.Tensor) -> torch_.Tensor:
    """A tensor in a type that numpy has: itself, or float32 where numpy lacks its own."""
    kind = of_torch(tensor.dtype)
    return tensor if kind is None or kind.is_numpys else tensor.float()
