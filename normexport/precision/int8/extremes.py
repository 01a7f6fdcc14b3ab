"""What was seen of each channel of a model's tensors on samples: its lowest and highest number."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from normexport.graphs.probe import Probe
from normexport.graphs.shapes import Shapes
from normexport.precision.int8.links import Extremes, Links
from normexport.precision.int8.weights import Float64s
from normexport.runtime import Feeds, OnnxRuntime, release_memory


def channel_extremes(model: ir.Model, batches: Iterable[Feeds]) -> Extremes:
    """The extremes of every channel that can have a factor (`links`), by tensor name.

    ONNX Runtime reduces each tensor as it makes it: those of a ResNet-50 together are 87 MB a sample. A tensor of
    unknown rank, with a NaN in it, or of which nothing was seen, is left out. One batch is in memory at a time.
    """
    probe, reduced = _reducing(model)
    if not reduced:
        return {}
    found: dict[str, tuple[Float64s, Float64s]] = {}
    release_memory()
    runtime = OnnxRuntime(probe)
    spoiled: set[str] = set()
    for feeds in batches:
        results = runtime.run(feeds)
        for name, outputs in reduced.items():
            low, high, mean = (results[each].astype(np.float64).reshape(-1) for each in outputs)
            if not all(np.isfinite(each).all() for each in (low, high, mean)):  # a mean alone is NaN wherever one is
                spoiled.add(name)
            if name in found:
                low, high = np.minimum(low, found[name][0]), np.maximum(high, found[name][1])
            found[name] = low, high
    return {name: ends for name, ends in found.items() if name not in spoiled}


def _reducing(model: ir.Model) -> tuple[ir.Model, dict[str, tuple[str, str, str]]]:
    """A model whose outputs are the least, the largest number and the mean of each channel, by the tensor's name."""
    shapes, copy = Shapes(model), model.clone()
    ours = dict(zip(model.graph, list(copy.graph), strict=True))
    probe, reduced = Probe(copy.graph), {}
    outputs: list[ir.Value] = []
    for value, (axis, _) in reversed(Links(model).channels.items()):  # what ends last is computed first
        node, rank = value.producer(), shapes.rank(value)
        axes = [each for each in range(rank or 0) if each != axis]
        if node is None or rank is None or not axes or not value.name:
            continue
        twin = ours[node].outputs[value.index() or 0]
        ends = [probe.reduced(operator, twin, axes) for operator in ("ReduceMin", "ReduceMax", "ReduceMean")]
        for end in ends:
            end.shape = ir.Shape([None] * rank)
        outputs += ends
        reduced[value.name] = (str(ends[0].name), str(ends[1].name), str(ends[2].name))
    copy.graph.outputs[:] = outputs
    return copy, reduced
