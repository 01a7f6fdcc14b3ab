"""float16 and bfloat16: what is lost in the weights, what overflows, what is kept in float32 and why.

Kept from the start are nodes whose weights do not fit the half type or whose tensors come near its end on the given
inputs. Where the result still leaves the parity budget, the modules that add the most error are kept too, the fewest
that suffice: error is measured with one module in half precision at a time, and the number by bisection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from normexport.dtypes import HALVES
from normexport.errors import UsageError
from normexport.precision.config import Half
from normexport.precision.half.graph import HalfConfig, to_half
from normexport.precision.half.losses import (
    Peak,
    WeightLoss,
    activation_peaks,
    group_of,
    matches,
    weight_losses,
)
from normexport.precision.half.masks import Masks, out_of_range, with_stand_ins
from normexport.precision.half.rounding import rounding_in_float32
from normexport.precision.half.types import halved_values, nodes_in_half, opset_for, refuse_subgraphs
from normexport.progress import counted, doing
from normexport.runtime import Array, Feeds, OnnxRuntime, release_memory

__all__ = ["Halved", "Judge", "KeptModule", "WeightLoss", "group_of", "halve", "matches", "weight_losses"]

MARGIN = 2.0  # a tensor that comes within this factor of the largest number is kept: other inputs may be larger


@dataclass(frozen=True)
class KeptModule:
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
        stand_ins: names of the values that hold another number for a mask's (`masks`).
        notes: in words.
        source: the float32 model that it was made of, with those numbers; None: not known.
    """

    model: ir.Model
    kept: tuple[KeptModule, ...]
    losses: tuple[WeightLoss, ...]
    halved: frozenset[str] = frozenset()
    stand_ins: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    source: ir.Model | None = None


Judge = Callable[[Halved], bool]


def halve(model: ir.Model, config: Half, feeds: Sequence[Feeds] = (), judge: Judge | None = None) -> Halved:
    """Convert a float32 model.

    Args:
        model: folded, float32; not changed.
        feeds: inputs on which tensors are looked at for overflow, and errors ranked.
        judge: whether a converted model is accurate enough; None: do not ask.

    Raises:
        UsageError: a pattern of `keep` matches nothing; an input or output that is to be half does not fit.
        FoldError: the graph holds subgraphs, or its operator set knows no bfloat16.
    """
    kept = asked_for(model, config)
    masks = _masks(model, config, feeds)
    losses = weight_losses(masks.model, config.dtype)
    for loss in losses:
        kept.setdefault(loss.path, loss.message)
    peaks = activation_peaks(masks.model, feeds)
    _refuse_large_ends(model, config, peaks)
    for path, reason in _near_overflow(masks.model, config, peaks).items():
        kept.setdefault(path, reason)

    def convert(kept: Mapping[str, str]) -> Halved:
        release_memory()
        return _convert_to_half(masks, config, kept, losses)

    found = convert(kept)
    if judge is None or judge(found):
        return found
    for path in _worst_modules(masks.model, config, kept, feeds, lambda kept: judge(convert(kept))):
        kept.setdefault(path, "adds more error than the parity budget allows")
    return convert(kept)


def asked_for(model: ir.Model, config: Half) -> dict[str, str]:
    """Modules that the caller keeps in float32, each with its pattern; what can't be halved at all is refused.

    Raises:
        UsageError: a pattern matches nothing.
        FoldError: the graph holds subgraphs, or its operator set knows no bfloat16.
    """
    refuse_subgraphs(model)
    opset_for(model, config.dtype)
    return _by_pattern(model, config)


def _masks(model: ir.Model, config: Half, feeds: Sequence[Feeds]) -> Masks:
    largest = HALVES[config.dtype].largest
    if not out_of_range(model, largest):
        return Masks(model)
    peaks = activation_peaks(model, feeds)
    return with_stand_ins(
        model, largest, {name: float("inf") if peak.infinite else peak.largest for name, peak in peaks.items()}
    )


def _convert_to_half(masks: Masks, config: Half, kept: Mapping[str, str], losses: tuple[WeightLoss, ...]) -> Halved:
    model = masks.model
    half = HalfConfig(config.dtype, config.io_dtype == config.dtype, lambda node: group_of(node) in kept)
    order = list(dict.fromkeys(group_of(node) for node in model.graph))
    listing = tuple(KeptModule(path, kept[path]) for path in order if path in kept)
    halved = halved_values(model, half)
    return Halved(to_half(model, half), listing, losses, halved, masks.stand_ins, masks.notes, model)


def _by_pattern(model: ir.Model, config: Half) -> dict[str, str]:
    kept: dict[str, str] = {}
    for pattern in config.keep:
        found = [group_of(node) for node in model.graph if matches(node, pattern)]
        if not found:
            some = ", ".join(list(dict.fromkeys(group_of(node) for node in model.graph))[:4])
            raise UsageError(f"--keep-fp32 {pattern}", "matches no module", f"modules are called {some}, ...")
        kept.update(dict.fromkeys(found, f"asked for by {pattern}"))
    return kept


def _refuse_large_ends(model: ir.Model, config: Half, peaks: Mapping[str, Peak]) -> None:
    """Inputs and outputs in a half type have to fit in it."""
    if config.io_dtype != config.dtype:
        return
    largest = HALVES[config.dtype].largest
    for word, values in (("input", model.graph.inputs), ("output", model.graph.outputs)):
        for value in values:
            peak = peaks.get(str(value.name), Peak()).largest
            if value.dtype == ir.DataType.FLOAT and peak > largest:
                cause = f"{word} {value.name} reaches {peak:.3g}, and {config.dtype} ends at {largest:.3g}"
                raise UsageError(f"--io-dtype {config.io_dtype}", cause, "leave it at float32")


def _near_overflow(model: ir.Model, config: Half, peaks: Mapping[str, Peak]) -> dict[str, str]:
    """Groups that make or read a tensor near the end of the type, with the reason."""
    kept: dict[str, str] = {}
    for value in [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]:
        peak = peaks.get(str(value.name), Peak()).largest  # infinities are infinities in the half type too
        if peak * MARGIN <= HALVES[config.dtype].largest:
            continue
        reason = f"'{value.name}' reaches {peak:.3g}"
        producer = value.producer()
        for node in [*([producer] if producer is not None else []), *(use.node for use in value.uses())]:
            kept.setdefault(group_of(node), reason)
    return kept


def _emulate_in_float32(model: ir.Model, config: Half, kept: Mapping[str, str]) -> ir.Model:
    half = HalfConfig(config.dtype, keep=lambda node: group_of(node) in kept)
    return rounding_in_float32(to_half(model, half))


def _worst_modules(
    model: ir.Model,
    config: Half,
    kept: dict[str, str],
    feeds: Sequence[Feeds],
    accepts: Callable[[dict[str, str]], bool],
) -> list[str]:
    """The fewest modules, of those that add most error, whose keeping is accepted; all where no number is."""
    groups = [group for group in dict.fromkeys(map(group_of, nodes_in_half(model, config.dtype))) if group not in kept]
    runtime = OnnxRuntime(model)
    exact = [runtime.run(each) for each in feeds]

    def error(group: str) -> float:
        others = dict.fromkeys((each for each in groups if each != group), "")
        alone = OnnxRuntime(_emulate_in_float32(model, config, {**kept, **others}))
        return sum(_distance(ours, alone.run(each)) for ours, each in zip(exact, feeds, strict=True))

    errors = {group: error(group) for group in counted("ranking modules by their error", groups)}
    ranked = sorted(groups, key=errors.__getitem__, reverse=True)

    def passes(count: int) -> bool:
        with doing(f"judging it with {len(kept) + count} modules in float32"):
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
