"""float16 and bfloat16: what is lost in the weights, what overflows, what is kept in float32 and why.

Kept from the start are nodes whose weights do not fit the half type or whose tensors come near its end on the given
inputs. Where the result still leaves the parity budget, the modules that add the most error are kept too, the fewest
that suffice: error is measured with one module in half precision at a time, and the number by bisection.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from normexport.errors import UsageError
from normexport.module_paths import FOLDED, module_path
from normexport.passes.affine import listed
from normexport.passes.fp16 import (
    HALVES,
    HalfConfig,
    halved_values,
    halved_weights,
    nodes_in_half,
    opset_for,
    to_half,
)
from normexport.passes.fp16_masks import Masks, out_of_range, with_stand_ins
from normexport.passes.fp16_round import rounding_in_float32
from normexport.passes.nodes import name_of, op
from normexport.runtime import Array, Feeds, OnnxRuntime

#: Largest finite number of each half type.
LARGEST = {"float16": 65504.0, "bfloat16": 3.3895313892515355e38}
MARGIN = 2.0  # a tensor that comes within this factor of the largest number is kept: other inputs may be larger
# A channel of weights rounds with a relative error of at most the unit roundoff u (RMS 0.4 u), unless small weights
# leave the normal range. Eight times u is two to three bits lost.
LOST = 8.0
ROUNDOFF = {"float16": 2.0**-11, "bfloat16": 2.0**-8}

_FLUSHED = "lose their small values in {}"

Float64s = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Half:
    """How to convert: dtype "float16" or "bfloat16"; io_dtype "float32" or the same; module paths to keep.

    `keep` holds shell patterns of module paths ("layer4.*"); a pattern also covers everything below a path it matches.

    Raises:
        UsageError: an unknown dtype.
    """

    dtype: str = "float16"
    io_dtype: str = "float32"
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.dtype not in HALVES:
            raise UsageError(f"dtype {self.dtype!r}", "is not a half type", f"choose {' or '.join(HALVES)}")
        if self.io_dtype not in ("float32", self.dtype):
            raise UsageError(
                f"--io-dtype {self.io_dtype}", f"does not go with {self.dtype}", f"choose float32 or {self.dtype}"
            )


@dataclass(frozen=True)
class WeightLoss:
    """Channels of one weight that the half type does not hold: kind "overflow" or "flush"."""

    tensor: str
    path: str
    kind: str
    channels: tuple[int, ...]
    message: str


@dataclass(frozen=True)
class Kept:
    """A module (or a node of no module) computed in float32, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Halved:
    """A converted model.

    Attributes:
        kept: in float32, in graph order.
        losses: what its weights lost.
        halved: names of the float32 model's values that it stores in the half type, whole or for some readers.
        stand_ins: names of the values that hold another number for a mask's (`passes.fp16_masks`).
        notes: in words.
    """

    model: ir.Model
    kept: tuple[Kept, ...]
    losses: tuple[WeightLoss, ...]
    halved: frozenset[str] = frozenset()
    stand_ins: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


Judge = Callable[[Halved], bool]


def halve(model: ir.Model, config: Half, feeds: Sequence[Feeds] = (), judge: Judge | None = None) -> Halved:
    """Convert a float32 model.

    Args:
        model: folded, float32; not changed.
        feeds: inputs on which tensors are looked at for overflow, and errors ranked.
        judge: whether a converted model is accurate enough; None: do not ask.

    Raises:
        UsageError: a pattern of `keep` matches nothing.
        FoldError: the graph holds subgraphs.
    """
    kept = _by_pattern(model, config)
    masks = _masks(model, config, feeds)
    losses = weight_losses(masks.model, config.dtype)
    for loss in losses:
        kept.setdefault(loss.path, loss.message)
    for path, reason in _near_overflow(masks.model, config, feeds).items():
        kept.setdefault(path, reason)

    def converted(kept: Mapping[str, str]) -> Halved:
        return _halved(masks, config, kept, losses)

    found = converted(kept)
    if judge is None or judge(found):
        return found
    for path in _worst_modules(masks.model, config, kept, feeds, lambda kept: judge(converted(kept))):
        kept.setdefault(path, "adds more error than the parity budget allows")
    return converted(kept)


def _masks(model: ir.Model, config: Half, feeds: Sequence[Feeds]) -> Masks:
    largest = LARGEST[config.dtype]
    if not out_of_range(model, largest):
        return Masks(model)
    peaks = activation_peaks(model, feeds)
    return with_stand_ins(
        model, largest, {name: float("inf") if peak.infinite else peak.largest for name, peak in peaks.items()}
    )


def _halved(masks: Masks, config: Half, kept: Mapping[str, str], losses: tuple[WeightLoss, ...]) -> Halved:
    model = masks.model
    half = HalfConfig(config.dtype, config.io_dtype == config.dtype, lambda node: group_of(node) in kept)
    order = list(dict.fromkeys(group_of(node) for node in model.graph))
    listing = tuple(Kept(path, kept[path]) for path in order if path in kept)
    halved = halved_values(model, half)
    return Halved(to_half(model, half), listing, losses, halved, masks.stand_ins, masks.notes)


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


def group_of(node: ir.Node) -> str:
    """What is kept together: the module that made the node, else the node by its name."""
    return module_path(node) or name_of(node)


def matches(node: ir.Node, pattern: str) -> bool:
    """Whether a module path pattern covers the node, or a norm that was folded into it."""
    paths = [group_of(node), *node.metadata_props.get(FOLDED, "").split(",")]
    parents = [".".join(path.split(".")[: end + 1]) for path in paths if path for end in range(path.count(".") + 1)]
    return any(fnmatch.fnmatchcase(path, pattern) for path in parents)


def _by_pattern(model: ir.Model, config: Half) -> dict[str, str]:
    kept: dict[str, str] = {}
    for pattern in config.keep:
        found = [group_of(node) for node in model.graph if matches(node, pattern)]
        if not found:
            some = ", ".join(list(dict.fromkeys(group_of(node) for node in model.graph))[:4])
            raise UsageError(f"--keep-fp32 {pattern}", "matches no module", f"modules are called {some}, ...")
        kept.update(dict.fromkeys(found, f"asked for by {pattern}"))
    return kept


def _by_channel(array: Float64s, node: ir.Node) -> Float64s:
    """(channels, rest): by output channel for weights, by element for vectors."""
    if array.ndim < 2:
        return array.reshape(-1, 1)
    axis = 1 if op(node) == "ConvTranspose" else 0
    transposed = node.attributes.get("transB")
    if op(node) == "MatMul" or (op(node) == "Gemm" and not (transposed is not None and transposed.as_int())):
        axis = array.ndim - 1
    return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)


def _losses_of(tensor: str, path: str, array: Float64s, dtype: str) -> list[WeightLoss]:
    with np.errstate(over="ignore"):
        rounded = array.astype(np.float32).astype(HALVES[dtype].numpy()).astype(np.float64)
    over = (np.isfinite(array) & ~np.isfinite(rounded)).any(axis=1)
    size = np.sqrt(np.square(np.where(np.isfinite(array), array, 0)).sum(axis=1))
    held = np.isfinite(rounded)
    lost = np.sqrt(np.square(np.where(held, rounded, 0) - np.where(held, array, 0)).sum(axis=1))
    # Against the largest channel of the tensor as well: what is lost beside it is not missed.
    flushed = ~over & (lost > LOST * ROUNDOFF[dtype] * size) & (size > ROUNDOFF[dtype] * size.max(initial=0.0))
    peak = np.abs(array).max(axis=1, initial=0.0, where=np.isfinite(array))
    found = []
    for kind, where in (("overflow", over), ("flush", flushed)):
        channels = tuple(int(channel) for channel in np.flatnonzero(where))
        if channels:
            does = f"overflow {dtype} (up to {peak[where].max():.3g})" if kind == "overflow" else _FLUSHED.format(dtype)
            message = f"channels {listed(list(channels))} of {tensor} {does}"
            found.append(WeightLoss(tensor, path, kind, channels, message))
    return found


def _near_overflow(model: ir.Model, config: Half, feeds: Sequence[Feeds]) -> dict[str, str]:
    """Groups that make or read a tensor near the end of the type, with the reason."""
    peaks = activation_peaks(model, feeds)
    kept: dict[str, str] = {}
    for value in [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]:
        peak = peaks.get(str(value.name), Peak()).largest  # infinities are infinities in the half type too
        if peak * MARGIN <= LARGEST[config.dtype]:
            continue
        reason = f"'{value.name}' reaches {peak:.3g}"
        producer = value.producer()
        for node in [*([producer] if producer is not None else []), *(use.node for use in value.uses())]:
            kept.setdefault(group_of(node), reason)
    return kept


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
        if array.dtype.kind == "f":
            finite = np.isfinite(array)
            largest = float(np.abs(array).max(initial=0.0, where=finite))
            known = peaks.get(name, Peak())
            peaks[name] = Peak(max(known.largest, largest), known.infinite or not finite.all())

    for each in feeds:
        runtime.run(each, [name for name in names if name], look)
        for name, array in each.items():
            look(name, np.asarray(array))
    return peaks


def _emulated(model: ir.Model, config: Half, kept: Mapping[str, str]) -> ir.Model:
    half = HalfConfig(config.dtype, keep=lambda node: group_of(node) in kept)
    return rounding_in_float32(to_half(model, half))


def _worst_modules(
    model: ir.Model, config: Half, kept: dict[str, str], feeds: Sequence[Feeds], accepts: Callable[[dict[str, str]], bool]
) -> list[str]:
    """The fewest modules, of those that add most error, whose keeping is accepted; all where no number is."""
    groups = [group for group in dict.fromkeys(map(group_of, nodes_in_half(model, config.dtype))) if group not in kept]
    runtime = OnnxRuntime(model)
    exact = [runtime.run(each) for each in feeds]

    def error(group: str) -> float:
        others = dict.fromkeys((each for each in groups if each != group), "")
        alone = OnnxRuntime(_emulated(model, config, {**kept, **others}))
        return sum(_distance(ours, alone.run(each)) for ours, each in zip(exact, feeds, strict=True))

    ranked = sorted(groups, key=error, reverse=True)

    def passes(count: int) -> bool:
        return accepts({**kept, **dict.fromkeys(ranked[:count], "")})

    low, high = 0, len(ranked)  # `low` fails, `high` is taken to pass: the model is float32 there
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    return ranked[:high]


def _distance(ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> float:
    """Squared error of all floating outputs, each relative to its size; infinite where one is not finite."""
    error = 0.0
    for name, array in ours.items():
        if array.dtype.kind == "f":
            exact = array.astype(np.float64)
            off = float(np.square(theirs[name].astype(np.float64) - exact).sum())
            error += off / (float(np.square(exact).sum()) or 1.0) if np.isfinite(off) else float("inf")
    return error
