"""The covariance of what each row of a layer's weight reads, over samples and places: patches of a convolution's input.

Inputs are those of the float32 model, rounded as int8 rounds them. Of a convolution with more places than are needed
some are drawn, the same at each call. Layers are taken a few at a time, each few in a run of their own over the
samples, so that their matrices fit into `MOST` bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from normexport.graphs.nodes import label, op
from normexport.precision.int8.corrections import Pair
from normexport.precision.int8.weights import Float64s, by_group, groups_of
from normexport.runtime import Array, Feeds, OnnxRuntime

MOST = 1 << 29  # bytes of all matrices of one run: half a gigabyte
_WAITING = 0.25  # patches for each weight of a row that are multiplied at once, at least
_BYTES = 8 + 4 + 1  # for each product of two weights: the sum, what is added to it, patches that wait
_ROWS_EACH = 4  # patches for each weight of a row, at least
_ROWS_LEAST = 8192  # patches at least, where there are as many


@dataclass
class Moments:
    """Sums over patches: of what each weight of a row meets, (groups, K), and of products of two, (groups, K, K)."""

    total: Float64s
    products: Float64s
    count: int = 0
    _waiting: list[Array] = field(default_factory=list)

    def covariance(self, *, about_mean: bool) -> Float64s:
        """(groups, K, K), about the mean or about zero."""
        self._multiply()
        count = max(self.count, 1)
        mean = self.total / count
        off = mean[:, :, None] * mean[:, None, :] if about_mean else 0.0
        found: Float64s = self.products / count - off
        return found

    def add(self, patches: Array) -> None:
        """Patches (groups, rows, K) in float32.

        They wait until there are enough of them that multiplying takes longer than adding what comes of it: a K of 4608
        has 170 MB of products, and a sample 49 patches.
        """
        self._waiting.append(patches)
        self.count += patches.shape[1]
        if sum(each.shape[1] for each in self._waiting) >= self.total.shape[1] * _WAITING:
            self._multiply()

    def _multiply(self) -> None:
        if not self._waiting:
            return
        patches = np.concatenate(self._waiting, axis=1)
        self._waiting = []
        self.total += patches.sum(axis=1, dtype=np.float64)
        self.products += patches.swapaxes(1, 2) @ patches  # in float32 twice as fast; of so many rows good to 1e-6


def why_no_moments(pair: Pair) -> str:
    """Why a layer's patches are not taken; "" where they are."""
    node = pair.node
    if op(node) == "ConvTranspose":
        return f"{label(node)} is transposed: each place has another part of its kernel"
    if op(node) == "Conv" and node.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return f"{label(node)} pads by itself"
    if op(node) == "Gemm" and node.attributes.get_int("transA", 0) != 0:
        return f"{label(node)} transposes what it reads"
    weight = node.inputs[1]
    if weight is None or len(weight.uses()) > 1:
        return f"the weight of {label(node)} has other readers"
    if by_group(node, pair.rounded_weight) is None:
        return f"the weight of {label(node)} is no matrix"
    return ""


def moments_of(
    model: ir.Model, pairs: Sequence[Pair], batches: Callable[[], Iterable[Feeds]], samples: int
) -> Iterator[tuple[Pair, Moments]]:
    """The moments of each layer, a few layers at a time.

    Args:
        pairs: layers whose patches can be taken (`why_no_moments`).
        batches: makes the samples, once for each few layers.
        samples: how many these are.
    """
    runtime = OnnxRuntime(model)
    for some in _in_parts(pairs):
        work = [_Collector(pair, samples) for pair in some]
        by_name: dict[str, list[_Collector]] = {}
        for each in work:
            by_name.setdefault(each.name, []).append(each)

        def look(name: str, array: Array, by_name: dict[str, list[_Collector]] = by_name) -> None:
            for each in by_name[name]:
                each.look(array)

        for feeds in batches():
            for name in by_name.keys() & set(feeds):
                look(name, np.asarray(feeds[name]))
            runtime.run(feeds, sorted(by_name.keys() - set(feeds)), look)
        for each in work:
            if each.moments.count:
                yield each.pair, each.moments


def _in_parts(pairs: Sequence[Pair]) -> Iterator[list[Pair]]:
    part: list[Pair] = []
    size = 0
    for pair in pairs:
        groups, length = _row_shape(pair)
        needed = _BYTES * groups * length * length
        if part and size + needed > MOST:
            yield part
            part, size = [], 0
        part, size = [*part, pair], size + needed
    if part:
        yield part


def _row_shape(pair: Pair) -> tuple[int, int]:
    """(groups, weights a row)."""
    grouped = by_group(pair.node, pair.rounded_weight)
    assert grouped is not None
    return grouped.shape[0], grouped.shape[2] * grouped.shape[3]


@dataclass
class _Collector:
    """Takes the patches of one layer."""

    pair: Pair
    samples: int
    moments: Moments = field(init=False)
    drawn: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        groups, length = _row_shape(self.pair)
        self.moments = Moments(np.zeros((groups, length)), np.zeros((groups, length, length)))
        self.drawn = np.random.default_rng(0)
        self.each = -(-max(_ROWS_LEAST, _ROWS_EACH * length) // max(self.samples, 1))

    @property
    def name(self) -> str:
        return self.pair.read

    def look(self, array: Array) -> None:
        if not array.size or not np.isfinite(array).all():
            return
        node = self.pair.node
        if op(node) == "Conv":
            for sample in range(len(array)):  # of all at once the patches would take gigabytes
                self.moments.add(self._as_held(self._patches(array[sample : sample + 1])))
            return
        rows = array.reshape(-1, array.shape[-1])
        most = self.each * max(1, len(array))
        if len(rows) > most:
            rows = rows[self.drawn.choice(len(rows), most, replace=False)]
        self.moments.add(self._as_held(rows[None]))

    def _as_held(self, array: Array) -> Array:
        """The numbers that int8 holds in place of these."""
        if self.pair.source is None:
            return array
        scale, zero = self.pair.source
        limits = np.iinfo(zero.dtype)
        offset = np.float32(zero)
        whole = np.clip(np.rint(array / scale) + offset, limits.min, limits.max)
        held: Array = (whole - offset) * scale
        return held

    def _patches(self, array: Array) -> Array:
        """(groups, rows, K) of (N, C, *space), at places that are drawn."""
        node = self.pair.node
        space = array.ndim - 2
        kernel = self.pair.whole.shape[2:]
        strides = node.attributes.get_ints("strides", (1,) * space)
        dilations = node.attributes.get_ints("dilations", (1,) * space)
        pads = node.attributes.get_ints("pads", (0,) * (2 * space))
        padded = np.pad(array, [(0, 0), (0, 0), *((pads[i], pads[i + space]) for i in range(space))])
        sizes = [(padded.shape[2 + i] - dilations[i] * (kernel[i] - 1) - 1) // strides[i] + 1 for i in range(space)]
        places = int(np.prod(sizes))
        if places <= 0:
            return np.zeros((groups_of(node), 0, self.moments.total.shape[1]), array.dtype)
        chosen = np.arange(places) if places <= self.each else self.drawn.choice(places, self.each, replace=False)
        index: list[Any] = [slice(None), slice(None)]
        for i, place in enumerate(np.unravel_index(chosen, sizes)):
            taps = place[:, None] * strides[i] + dilations[i] * np.arange(kernel[i])
            index.append(taps.reshape(len(chosen), *(kernel[i] if j == i else 1 for j in range(space))))
        taken = padded[tuple(index)]  # (N, C, places, *kernel)
        groups = groups_of(node)
        count, channels = taken.shape[:2]
        split = taken.reshape(count, groups, channels // groups, len(chosen), -1)
        patches: Array = split.transpose(1, 0, 3, 2, 4).reshape(groups, count * len(chosen), -1)
        return patches
