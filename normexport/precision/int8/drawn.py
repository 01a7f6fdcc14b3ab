"""Samples drawn at random that look to a network as its norms say that inputs do, where there is no data.

An input is a normal field, clipped at the input's ends. What is known of inputs decides what it looks like:

    level and width      before clipping, such that after it mean and deviation are those which the first norm implies:
                         an image of digits, mean 0.13 and deviation 0.31 within [0, 1], is black at four of five places
    texture              amplitudes of 1/f^p in space, p one of `POWERS`; photographs have about 1 (Field 1987)
    channels             alike by a share of `ALIKE`, as the colours of a photograph are

Texture and channels are those with which mean and width behind the norms come nearest to what the norms know: the
`misfit`, over channels and norms the average of ((m - M)^2 + (s - S)^2) / S^2, each at most 1. S is in the statistic of
the norm: the mean of |d| of L1, the deviation of others. It is 0.05 to 0.48 in the 20 examples, 0.37 on
EfficientNet-Lite0, where photographs have 0.06.

What they are good for is where numbers pile up and how errors of layers add up, which a spread of each channel alone
does not tell. They are not good for ranges: of 17 examples those of drawn samples cost 10 dB and more in nine.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from normexport.dtypes import FLOAT32
from normexport.graphs.moments import Moments
from normexport.graphs.probe import Probe
from normexport.graphs.refusal import Refuse
from normexport.graphs.shapes import Shapes
from normexport.norms import KINDS
from normexport.norms.bodies import attach_bodies
from normexport.norms.constants import L1_CONSTANT
from normexport.onnx_export import InputSpec
from normexport.onnx_export.inputs import ANY_BATCH
from normexport.precision.int8.from_norms import NormRanges, known_moments
from normexport.precision.int8.spreads import Array
from normexport.precision.samples import Batches, batches_in
from normexport.runtime import Array as AnyArray
from normexport.runtime import Feeds, OnnxRuntime

POWERS = (0.0, 0.5, 1.0, 1.5, 2.0)
ALIKE = (0.0, 0.9)
_MOST, _LEAST = 64, 4  # samples to fit on, and as many to judge on
_NUMBERS = 5 << 18  # of these, of all inputs: 8 images of 224 by 224
_MOST_NUMBERS = 1 << 24  # at which even four samples are too many: 4 of 1,182 by 1,182
_TRIED_NUMBERS = 1 << 19  # of what each texture is tried on
_PER_MEAN = L1_CONSTANT / KINDS["l1"].per_std  # deviations, as an L1 norm tells them, for a mean of |d|
_ROOM = 0.97  # of the largest deviation that numbers between two ends can have at their mean
_NORMAL: Array = np.linspace(-6.0, 6.0, 2001)
_DENSITY: Array = np.exp(-0.5 * np.square(_NORMAL)) / np.exp(-0.5 * np.square(_NORMAL)).sum()


@dataclass(frozen=True)
class Drawn:
    """Samples that were drawn, by input name.

    Attributes:
        fitted_on, judging: two parts of as many samples.
        power: of the texture.
        misfit: how far they are from what the norms know: 0, all as they say, to 1.
    """

    fitted_on: Batches
    judging: Mapping[str, AnyArray]
    power: float
    misfit: float

    def words(self) -> str:
        """What they are."""
        return f"{self.fitted_on.count} samples drawn to fit the norms: 1/f^{self.power:g}, misfit {self.misfit:.2f}"


def why_not_drawn(known: NormRanges, inputs: Sequence[InputSpec]) -> str:
    """Why samples can't be drawn for these inputs; "" where they can."""
    for spec in inputs:
        if spec.name not in known.inputs:
            return f"nothing tells what numbers input '{spec.name}' has"
        if spec.axes != (0,) or not spec.shape or spec.batch != ANY_BATCH:
            return f"input '{spec.name}' does not hold any number of samples along its first axis"
    if len({spec.batched for spec in inputs}) != 1:
        return "only some inputs have an open batch" if inputs else "the model has no inputs"
    return ""


def draw_samples(model: ir.Model, known: NormRanges, inputs: Sequence[InputSpec], batch: int) -> Drawn:
    """Samples for a folded float32 model.

    Args:
        known: of the model.
        batch: samples in a batch of what is to be fitted on.

    Raises:
        Refuse: none can be drawn, or no norm tells whether they fit.
    """
    if why := why_not_drawn(known, inputs):
        raise Refuse(why)
    gauge = _Gauge.of(model)
    if gauge is None:
        raise Refuse("no norm tells whether they would fit")
    drawing = [_Input.of(spec, known) for spec in inputs]
    numbers = max(1, sum(math.prod(spec.shape) for spec in inputs))
    least = max(1, min(_LEAST, _MOST_NUMBERS // numbers))
    count = min(_MOST, max(least, _NUMBERS // numbers))
    tried = min(count, max(1, _TRIED_NUMBERS // numbers))

    def drawn(runs: int, power: float, alike: float) -> dict[str, AnyArray]:
        return {each.name: each.draw(runs, power, alike, seed) for seed, each in enumerate(drawing)}

    found = []
    for power, alike in _textures(drawing):
        some = batches_in(drawn(tried, power, alike), inputs, batch)
        found.append((gauge.misfit(some()), power, alike))
    misfit, power, alike = min(found)
    if not math.isfinite(misfit):
        raise Refuse("no norm tells whether they fit")
    whole = drawn(2 * count, power, alike)
    halves = [{each.name: each.half(whole[each.name], part) for each in drawing} for part in (0, 1)]
    return Drawn(batches_in(halves[0], inputs, batch), halves[1], power, misfit)


@dataclass(frozen=True)
class _Input:
    """What is known of an input: its numbers lie between `low` and `high`, mean and deviation are shares of that.

    Attributes:
        rows: samples in a run: 1, or the batch where that is fixed.
        shape: of a sample.
        level, width: of the normal numbers before they are clipped.
    """

    name: str
    rows: int
    shape: tuple[int, ...]
    low: float
    high: float
    level: float
    width: float

    @classmethod
    def of(cls, spec: InputSpec, known: NormRanges) -> _Input:
        points = known.tensors[spec.name].spread.points
        low, high = float(points.min()), float(points.max())
        size = max(high - low, FLOAT32.smallest_normal)
        mean, deviation = known.inputs[spec.name]
        level, width = before_clipping((mean - low) / size, deviation / size)
        rows, shape = (1, spec.shape) if spec.batched else (spec.shape[0], spec.shape[1:])
        return cls(spec.name, rows, shape, low, high, level, width)

    def draw(self, runs: int, power: float, alike: float, seed: int) -> AnyArray:
        """(runs times rows, *shape), float32."""
        field = texture((runs * self.rows, *self.shape), power, alike, np.random.default_rng(seed))
        shares = np.clip(self.level + self.width * field, 0.0, 1.0)
        return np.asarray(self.low + (self.high - self.low) * shares, np.float32)

    def half(self, rows: AnyArray, part: int) -> AnyArray:
        size = len(rows) // 2
        return rows[part * size : (part + 1) * size]


def texture(shape: Sequence[int], power: float, alike: float, dice: np.random.Generator) -> Array:
    """Normal fields (N, C, *space) of deviation 1 in all: amplitudes 1/f^power in space, channels alike by a share.

    What has no space is white. The lowest frequency, of the mean of a field, is that of the longest wave that fits.
    """
    white = dice.normal(size=shape)
    space = tuple(range(2, len(shape)))
    if not space or not white.size:
        return white
    if shape[1] > 1:
        common = dice.normal(size=(shape[0], 1, *shape[2:]))
        white = math.sqrt(alike) * common + math.sqrt(1 - alike) * white
    squares = np.meshgrid(*(np.square(np.fft.fftfreq(shape[axis])) for axis in space), indexing="ij")
    frequency = np.sqrt(np.sum(squares, axis=0))
    frequency.flat[0] = 1 / max(shape[axis] for axis in space)
    within = tuple(axis - 1 for axis in space)
    for row in white:  # one at a time: of complex numbers all together would take four times as much
        row[...] = np.fft.ifftn(np.fft.fftn(row, axes=within) * frequency**-power, axes=within).real
    return np.asarray(white / white.std())


def before_clipping(mean: float, deviation: float) -> tuple[float, float]:
    """(level, width) of the normal numbers that have this mean and deviation once they are clipped to [0, 1].

    A deviation that no numbers in [0, 1] of this mean have is taken for the largest that they have, nearly.
    """
    mean = min(max(mean, 1e-3), 1 - 1e-3)
    deviation = min(max(deviation, 1e-3), _ROOM * math.sqrt(mean * (1 - mean)))
    low, high = 1e-3, 1e3
    for _ in range(50):
        width = math.sqrt(low * high)
        level = _level(mean, width)
        found = math.sqrt(float(np.square(np.clip(level + width * _NORMAL, 0, 1) - mean) @ _DENSITY))
        low, high = (width, high) if found < deviation else (low, width)
    return level, width


def _level(mean: float, width: float) -> float:
    """That of normal numbers of this width whose mean is this once they are clipped."""
    low, high = -7 * width, 1 + 7 * width
    for _ in range(50):
        level = (low + high) / 2
        found = float(np.clip(level + width * _NORMAL, 0, 1) @ _DENSITY)
        low, high = (level, high) if found < mean else (low, level)
    return level


def _textures(drawing: Sequence[_Input]) -> Iterator[tuple[float, float]]:
    """What is tried: of inputs without space, or with one channel, there is less to choose."""
    in_space = any(len(each.shape) > 1 for each in drawing)
    in_colours = any(len(each.shape) > 1 and each.shape[0] > 1 for each in drawing)
    return itertools.product(POWERS if in_space else POWERS[:1], ALIKE if in_colours else ALIKE[:1])


@dataclass(frozen=True)
class _Gauge:
    """Measures how far samples are from what the norms know, inside the graph: tensors are reduced as they are made.

    Attributes:
        outputs: of each norm's tensor the names of its mean and of its width.
    """

    runtime: OnnxRuntime
    known: Mapping[str, Moments]
    outputs: Mapping[str, tuple[str, str]]

    @classmethod
    def of(cls, model: ir.Model) -> _Gauge | None:
        """None where no norm knows a tensor that is computed."""
        copy, shapes, outputs, known = model.clone(), Shapes(model), dict[str, tuple[str, str]](), known_moments(model)
        probe = Probe(copy.graph)
        for node, twin in zip(model.graph, list(copy.graph), strict=True):
            for value, ours in zip(node.outputs, twin.outputs, strict=True):
                moments, rank = known.get(str(value.name)), shapes.rank(value)
                if moments is None or moments.per_sample or rank is None or moments.axis >= rank:
                    continue
                axes = [axis for axis in range(rank) if axis != moments.axis]
                mean = probe.mean(ours, axes)
                away = probe.node("Sub", [ours, mean])
                far = probe.node("Abs", [away]) if moments.kind == "l1" else probe.node("Mul", [away, away])
                outputs[str(value.name)] = str(mean.name), str(probe.mean(far, axes).name)
                probe.outputs += [mean, probe.graph[-1].outputs[0]]
        if not outputs:
            return None
        for value in probe.outputs:
            value.shape = None
        copy.graph.outputs[:] = probe.outputs
        copy.graph.sort()
        attach_bodies(copy)
        return cls(OnnxRuntime(copy), known, outputs)

    def misfit(self, batches: Iterator[Feeds]) -> float:
        """See the top; of batches the average."""
        found = [self._of_one(self.runtime.run(feeds)) for feeds in batches]
        return float(np.mean(found)) if found else math.inf

    def _of_one(self, values: Mapping[str, AnyArray]) -> float:
        misfits = []
        for name, (mean, width) in self.outputs.items():
            moments = self.known[name]
            center, size = (values[each].astype(np.float64).reshape(-1) for each in (mean, width))
            size = size * _PER_MEAN if moments.kind == "l1" else np.sqrt(size)
            if size.shape != moments.std.shape:
                continue
            # Channels that training switched off are of no width; they count by that of the others.
            unit = np.square(moments.std) + 1e-6 * np.square(moments.std).mean() + FLOAT32.smallest_normal
            off = (np.square(center - moments.mean) + np.square(size - moments.std)) / unit
            misfits.append(float(np.minimum(np.nan_to_num(off, nan=1.0, posinf=1.0), 1.0).mean()))
        return float(np.mean(misfits)) if misfits else math.inf
