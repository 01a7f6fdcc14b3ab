"""What a half type does to a float32 model's numbers: weights that overflow or vanish, and how large its values get."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from normexport.dtypes import HALVES
from normexport.graphs.node_metadata import FOLDED, module_path
from normexport.graphs.nodes import name_of, op
from normexport.precision.half.types import halved_weights, nodes_in_half, opset_for
from normexport.runtime import Array, Feeds, OnnxRuntime
from normexport.text import bracketed

# A channel of weights rounds with a relative error of at most the unit roundoff u (RMS 0.4 u), unless small weights
# leave the normal range. Eight times u is two to three bits lost.
LOST = 8.0

_FLUSHED = "lose their small values in {}"

Float64s = npt.NDArray[np.float64]


@dataclass(frozen=True)
class WeightLoss:
    """Channels of one weight that the half type does not hold: kind "overflow" or "flush"."""

    tensor: str
    path: str
    kind: str
    channels: tuple[int, ...]
    message: str


@dataclass(frozen=True)
class Peak:
    """Largest finite magnitude of a value on the inputs that were looked at, and whether it held infinities or NaN."""

    largest: float = 0.0
    infinite: bool = False


def activation_peaks(model: ir.Model, feeds: Sequence[Feeds]) -> dict[str, Peak]:
    """The peak of every floating value that the graph computes or reads, over all `feeds`."""
    runtime = OnnxRuntime(model)
    floating = (ir.DataType.FLOAT, None)  # None: the file does not say; the array will
    names = [value.name for node in model.graph for value in node.outputs if value.dtype in floating]
    peaks: dict[str, Peak] = {}

    def look(name: str, array: Array) -> None:
        if isinstance(array, np.ndarray) and array.dtype.kind == "f":  # ONNX Runtime gives sequences as lists
            finite = np.isfinite(array)
            largest = float(np.abs(array).max(initial=0.0, where=finite))
            known = peaks.get(name, Peak())
            peaks[name] = Peak(max(known.largest, largest), known.infinite or not finite.all())

    for each in feeds:
        runtime.run(each, [name for name in names if name], look)
        for name, array in each.items():
            look(name, np.asarray(array))
    return peaks


def group_of(node: ir.Node) -> str:
    """What is kept together: the module that made the node, else the node by its name."""
    return module_path(node) or name_of(node)


def matches(node: ir.Node, pattern: str) -> bool:
    """Whether a module path pattern covers the node, or a norm that was folded into it."""
    paths = [group_of(node), *node.metadata_props.get(FOLDED, "").split(",")]
    return any(fnmatch.fnmatchcase(path, pattern) for path in with_parents(paths))


def with_parents(paths: Iterable[str]) -> list[str]:
    """Each path with those that it lies in: "a.b" gives "a" and "a.b"."""
    return [".".join(path.split(".")[: end + 1]) for path in paths if path for end in range(path.count(".") + 1)]


def weight_losses(model: ir.Model, dtype: str) -> tuple[WeightLoss, ...]:
    """Weights that become infinite, or lose their small values, by tensor and channel."""
    losses = []
    opset = opset_for(model, dtype)
    for node in nodes_in_half(model, dtype):
        for _, value in halved_weights(node, dtype, opset):
            assert value.const_value is not None
            array = _by_channel(np.asarray(value.const_value.numpy(), np.float64), node)
            losses += _losses_of(str(value.name), group_of(node), array, dtype)
    return tuple(losses)


def _by_channel(array: Float64s, node: ir.Node) -> Float64s:
    """(channels, rest): by output channel for weights, by element for vectors."""
    if array.ndim < 2 or array.size == 0:
        return array.reshape(-1, 1)
    axis = 1 if op(node) == "ConvTranspose" else 0
    transposed = node.attributes.get("transB")
    if op(node) == "MatMul" or (op(node) == "Gemm" and not (transposed is not None and transposed.as_int())):
        axis = array.ndim - 1
    return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)


def _losses_of(tensor: str, path: str, array: Float64s, dtype: str) -> list[WeightLoss]:
    with np.errstate(over="ignore"):
        rounded = array.astype(np.float32).astype(HALVES[dtype].numpy).astype(np.float64)
    over = (np.isfinite(array) & ~np.isfinite(rounded)).any(axis=1)
    size = np.sqrt(np.square(np.where(np.isfinite(array), array, 0)).sum(axis=1))
    held = np.isfinite(rounded)
    lost = np.sqrt(np.square(np.where(held, rounded, 0) - np.where(held, array, 0)).sum(axis=1))
    # Against the largest channel of the tensor as well: what is lost beside it is not missed.
    roundoff = HALVES[dtype].unit_roundoff
    flushed = ~over & (lost > LOST * roundoff * size) & (size > roundoff * size.max(initial=0.0))
    peak = np.abs(array).max(axis=1, initial=0.0, where=np.isfinite(array))
    found = []
    for kind, where in (("overflow", over), ("flush", flushed)):
        channels = tuple(int(channel) for channel in np.flatnonzero(where))
        if channels:
            does = f"overflow {dtype} (up to {peak[where].max():.3g})" if kind == "overflow" else _FLUSHED.format(dtype)
            message = f"channels {bracketed(list(channels))} of {tensor} {does}"
            found.append(WeightLoss(tensor, path, kind, channels, message))
    return found
