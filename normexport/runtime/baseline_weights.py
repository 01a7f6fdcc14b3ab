"""Weights moved by up to one unit roundoff: PyTorch's own error must contain what rounding a weight once does.

Why: see `normexport.proof.tolerance`. w becomes w + u*xi*w with xi uniform in [-1, 1], rounded: w itself or a
neighbour, 0.6 u in RMS, against the 0.3 to 0.6 u of rounding a folded weight. Zeros stay zero.

What is no weight stays: infinities and the largest numbers of masks, and constants that a size follows from (a scale of
2.0 that becomes 1.9999999 makes another size).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from normexport.dtypes import FLOATS, HALVES, onnx_numbers

if TYPE_CHECKING:
    import torch
    from torch import nn

_MOVED = onnx_numbers({name: each for name, each in FLOATS.items() if each.is_numpys})
_BLOCK = 65_537  # numbers drawn, a prime, then repeated: 25 million weights take 30 ms instead of 300

#: Inputs of operators, in floating point, that sizes and counts follow from.
_SIZES = {
    *(("Resize", index) for index in (1, 2, 3)),
    ("Upsample", 1),
    *(("Range", index) for index in (0, 1, 2)),
    *((op, 0) for op in ("Cast", "Floor", "Ceil", "Round")),
}


def jitter_module(model: nn.Module, seed: int) -> None:
    """Replace each floating parameter and buffer of `model` by a moved copy; shared memory is not written."""
    import torch

    draw = _Draw(seed)

    def moved(tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_floating_point():
            return tensor
        xi = torch.from_numpy(draw(tensor.numel())).to(tensor.dtype).view(tensor.shape)
        moved = torch.addcmul(tensor, tensor, xi, value=torch.finfo(tensor.dtype).eps / 2)
        finite = torch.isfinite(moved)
        return moved if bool(finite.all()) else torch.where(finite, moved, tensor)

    model._apply(moved)


def jitter_model(model: ir.Model, seed: int, halved: Mapping[str, str] | None = None) -> ir.Model:
    """A shallow copy of an ONNX model whose floating initializers are moved. Shapes (integers) are not.

    Args:
        halved: the half type that a float32 initializer is to be stored in, by its name: it moves by that type's
            roundoff, where it has to be rounded for it: 1, a mask of 0 and -10000 or an exponent of 2 need not be.
    """
    copy = model.clone()
    draw = _Draw(seed)
    for value in copy.graph.initializers.values():
        tensor = value.const_value
        if tensor is None or tensor.dtype not in _MOVED:
            continue
        if any((use.node.op_type, use.idx) in _SIZES for use in value.uses()):
            continue
        array = tensor.numpy()
        half = (halved or {}).get(str(value.name))
        roundoff = FLOATS[array.dtype.name if half is None else half].unit_roundoff
        xi = draw(array.size).astype(array.dtype).reshape(array.shape) * array.dtype.type(roundoff)
        if half is not None:
            value.const_value = ir.Tensor(_moved_in_half(array, xi, half), name=value.name)
            continue
        with np.errstate(all="ignore"):
            moved = (array + array * xi).astype(array.dtype)
        finite = np.isfinite(moved)
        moved = moved if finite.all() else np.where(finite, moved, array)
        value.const_value = ir.Tensor(moved, name=value.name)
    return copy


def _moved_in_half(array: npt.NDArray[Any], xi: npt.NDArray[Any], half: str) -> npt.NDArray[Any]:
    """Moved where the half type does not hold the number, and holds the moved one."""
    narrow = HALVES[half].numpy
    with np.errstate(all="ignore"):
        moved = array + array * xi
        moves = (array.astype(narrow).astype(array.dtype) != array) & np.isfinite(moved.astype(narrow))
    return np.where(moves, moved, array).astype(array.dtype)


class _Draw:
    """Numbers in [-1, 1] out of one repeated block, each tensor starting where the last one ended.

    Never twice at the same place: a bias and a running mean moved alike would cancel in x + bias - mean.
    """

    def __init__(self, seed: int) -> None:
        self._block = np.random.default_rng(seed).uniform(-1.0, 1.0, _BLOCK).astype(np.float32)
        self._at = 0

    def __call__(self, count: int) -> npt.NDArray[np.float32]:
        repeated = np.resize(np.roll(self._block, -self._at), count)
        self._at = (self._at + count) % _BLOCK
        return repeated
