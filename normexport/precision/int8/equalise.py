"""Cross-layer equalisation: factors between layers that even out what int8 must hold (Nagel et al. 2019, section 4.1).

One scale for a whole tensor serves its largest channel; a channel a hundred times smaller has two levels left. Factors
s_c that pass from a layer to those behind it (`links`) change no result, and are chosen so that of each channel

    r1 = its largest number, over the largest of its tensor        (what the tensor's one scale leaves of it)
    r2 = its largest weight in a layer that reads it, over the largest of the same row     (one scale for each row)

become alike: s_c = sqrt(r1 / r2), again and again until nothing moves. With r2 = 1, as of a depthwise convolution,
whose rows have one channel each, that evens out the tensor altogether. Where nothing was seen of the tensors, r1 is
the largest weight of the row that makes the channel.

Weights are divided and multiplied in float64 and stored in their own type. In float64 the result is the same to 1e-9.
What norms know of a tensor (`graphs.moments`) is divided too.

A Clip at six (ReLU6) has one end for all channels: with factors in front channels would be cut elsewhere. An end for
each channel, a Min, would be exact, but is no part of an int8 layer on any runtime. So its channels are held; or, where
asked for, those alone that come near the end: what stays below half of it on samples, with its factor and without, is
the same to 1e-9 on those samples, and on all that stay below it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from normexport.graphs.moments import divide_moments
from normexport.graphs.names import Names
from normexport.graphs.nodes import label, op, optional
from normexport.precision.int8.clips import CLIPS
from normexport.precision.int8.links import Extremes, Layer, Links
from normexport.precision.int8.pairs import LAYERS
from normexport.precision.int8.shared_factors import Indices
from normexport.precision.int8.weights import Float64s, as_stored, set_constant, stored

_STEPS = 60
_MOVED = 1e-3  # of log s: factors that move by less are found
_MOST = 2.0**10  # of a factor and of its inverse: beyond, a channel is empty rather than small


@dataclass(frozen=True)
class EqualisedLayer:
    """One layer: how many of its output channels got a factor, and why the others did not."""

    layer: str
    channels: int
    scaled: int
    reason: str = ""


@dataclass(frozen=True)
class Equalised:
    """The model with factors in its weights, and every layer's outcome; the model itself where there are none.

    Attributes:
        factors: by the name of a tensor, what each of its channels was divided by.
    """

    model: ir.Model
    layers: tuple[EqualisedLayer, ...]
    factors: Mapping[str, Float64s]

    @property
    def scaled(self) -> int:
        """How many channels have a factor."""
        return sum(layer.scaled for layer in self.layers)


def equalise(model: ir.Model, extremes: Extremes | None = None, *, past_clips: bool = False) -> Equalised:
    """Even out the channels between layers; the model is not changed.

    Args:
        model: float32 or float64, constants stored as initializers.
        extremes: what was seen of each channel (`channel_extremes`); None: weights alone.
        past_clips: also channels that were seen to stay below the ends of a Clip, see above.
    """
    links = Links(model, extremes if past_clips else None)
    roots = links.shared.roots()
    factors = _choose(links, roots, _seen_sizes(links, roots, extremes))
    outcomes = tuple(_outcome(layer, links, factors) for layer in links.layers if op(layer.node) in LAYERS)
    if np.all(factors == 1.0):
        return Equalised(model, outcomes, {})
    named = {str(value.name): factors[numbers] for value, (_, numbers) in links.channels.items()}
    return Equalised(_apply(model, links, factors), outcomes, named)


def _outcome(layer: Layer, links: Links, factors: Float64s) -> EqualisedLayer:
    changed = int(np.count_nonzero(factors[layer.outputs] != 1.0))
    held = [links.shared.why_held(number) for number in layer.outputs.tolist()]
    reason = next((each for each in held if each), "")
    if not changed and not reason:
        reason = "its channels are even"
    return EqualisedLayer(label(layer.node), len(layer.outputs), changed, reason)


@dataclass(frozen=True, eq=False)
class _Kernels:
    """A layer's largest weight of each kernel, (groups, outputs, inputs); the numbers of what it reads and makes."""

    sizes: Float64s
    reads: Indices
    makes: Indices

    @classmethod
    def of(cls, layer: Layer, roots: Indices) -> _Kernels:
        sizes = np.abs(layer.weight).max(axis=3)
        groups, made, read = sizes.shape
        reads, makes = roots[layer.inputs].reshape(groups, read), roots[layer.outputs].reshape(groups, made)
        return cls(sizes, reads, makes)

    def sizes_with(self, factors: Float64s) -> Float64s:
        return self.sizes * factors[self.reads][:, None, :] / factors[self.makes][:, :, None]


@dataclass(frozen=True, eq=False)
class _Seen:
    """The largest numbers of a tensor's channels, and the numbers of their factors."""

    numbers: Indices
    sizes: Float64s


def _seen_sizes(links: Links, roots: Indices, extremes: Extremes | None) -> list[_Seen]:
    """The largest magnitude of each channel of what int8 holds: not of what a ReLU or Clip alone reads."""
    found = []
    for value, (_, numbers) in links.channels.items():
        uses = list(value.uses())
        if uses and all(op(use.node) in CLIPS for use in uses):
            continue
        seen = (extremes or {}).get(str(value.name))
        if seen is not None and len(seen[0]) == len(numbers):
            found.append(_Seen(roots[numbers], np.maximum(-seen[0], seen[1]).clip(0)))
    return found


def _choose(links: Links, roots: Indices, seen: list[_Seen]) -> Float64s:
    """The factor of each number."""
    free = np.array([not links.shared.why_held(number) for number in range(len(links.shared))])
    free[0] = False
    kernels = [_Kernels.of(layer, roots) for layer in links.layers]
    factors, least = np.ones(len(links.shared)), np.maximum(links.shared.least(), 1 / _MOST)
    for _ in range(_STEPS):
        makes = _of_tensors(seen, factors) if seen else _of_rows(kernels, factors)
        reads = _of_columns(kernels, factors)
        known = free & (makes > 0) & (reads > 0)
        step = np.ones(len(links.shared))
        step[known] = np.sqrt(makes[known] / reads[known])
        moved = np.clip(factors * step, least, _MOST)
        moved[~free] = 1.0
        change = np.abs(np.log(moved[roots] / factors[roots])).max()
        factors = moved
        if change < _MOVED:
            break
    return factors[roots]


def _of_tensors(seen: list[_Seen], factors: Float64s) -> Float64s:
    """By number, the largest share that a channel has of its tensor's range."""
    found = np.zeros(len(factors))
    for each in seen:
        sizes = each.sizes / factors[each.numbers]
        if sizes.size and sizes.max() > 0:
            np.maximum.at(found, each.numbers, sizes / sizes.max())
    return found


def _of_rows(kernels: list[_Kernels], factors: Float64s) -> Float64s:
    """By number, the largest weight that makes a channel."""
    found = np.zeros(len(factors))
    for each in kernels:
        np.maximum.at(found, each.makes, each.sizes_with(factors).max(axis=2))
    return found


def _of_columns(kernels: list[_Kernels], factors: Float64s) -> Float64s:
    """By number, the largest weight that reads a channel, as a share of its row."""
    found = np.zeros(len(factors))
    for each in kernels:
        sizes = each.sizes_with(factors)
        rows = sizes.max(axis=2, keepdims=True)
        shares = np.divide(sizes, rows, out=np.zeros_like(sizes), where=rows > 0)
        np.maximum.at(found, each.reads, shares.max(axis=1))
    return found


def _apply(model: ir.Model, links: Links, factors: Float64s) -> ir.Model:
    """A copy whose constants have taken the factors."""
    copy = model.clone()
    ours = dict(zip(model.graph, list(copy.graph), strict=True))
    fresh = Names(copy.graph).fresh
    for layer in links.layers:
        node, made, taken = ours[layer.node], factors[layer.outputs], factors[layer.inputs]
        held = node.inputs[1]
        assert held is not None
        assert held.const_value is not None
        if np.any(taken != 1.0) or np.any(made != 1.0):
            weight = layer.weight
            groups, _, read, _ = weight.shape
            weight = weight * taken.reshape(groups, 1, read, 1) / made.reshape(groups, -1, 1, 1)
            set_constant(node, 1, as_stored(node, weight, tuple(held.const_value.shape.numpy())), fresh)
        bias = stored(optional(layer.node, 2))
        if bias is not None and np.any(made != 1.0):
            set_constant(node, 2, bias / made, fresh)
    for shift in links.shifts:
        divisor = factors[shift.numbers].reshape(-1, *(1,) * (shift.rank - shift.axis - 1))
        array = stored(shift.node.inputs[shift.index])
        assert array is not None
        if np.any(divisor != 1.0):
            set_constant(ours[shift.node], shift.index, array / divisor, fresh)
    divide_moments(
        copy, {str(value.name): (axis, factors[numbers]) for value, (axis, numbers) in links.channels.items()}
    )
    return copy
