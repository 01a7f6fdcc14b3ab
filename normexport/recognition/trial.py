"""A part of a graph run by itself, on any numbers, in float64."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import onnx_ir as ir

from normexport.errors import NormExportError
from normexport.graphs.refusal import Refuse
from normexport.graphs.shapes import Shapes
from normexport.norms.kind import Array
from normexport.recognition.flow import Region

_INPUT = "x"
#: Values on the way are at most so many times as large as the input (rows are copied), or of so many numbers where that
#: is more: a file of a few bytes takes no gigabytes to look at.
_GROWTH, _LEAST = 64, 1 << 20
_MOST_KNOWN = 4  # results
Sizes = tuple[int | str | None, ...]


class Runner(Protocol):
    """What a sub-graph makes of numbers."""

    def run(self, x: Array) -> Array:
        """The output for an input, float64."""


class Trial:
    """Runs a region: `run(x)` is its output, float64, for any input x."""

    def __init__(self, region: Region, opsets: Mapping[str, int], shapes: Shapes) -> None:
        from normexport.runtime.float64 import Float64Runtime

        self.sizes = shapes.named(region.input) or ()
        self.runs = 0
        self._known: dict[int, tuple[Array, Array]] = {}
        copies: dict[ir.Value, ir.Value] = {}
        inputs = [_input(region.input, _INPUT, copies)]
        self._sized: dict[str, Sizes] = {}
        for index, value in enumerate(region.sized):
            name = f"sized_{index}"
            inputs.append(_input(value, name, copies))
            self._sized[name] = shapes.named(value) or ()
        stored = [copy for value in _read(region) if (copy := _stored(value, copies)) is not None]
        nodes = [_copy(node, copies) for node in region.nodes]
        graph = ir.Graph(inputs, [copies[region.output]], nodes=nodes, initializers=stored, opset_imports=dict(opsets))
        try:
            self._runtime = Float64Runtime(ir.Model(graph, ir_version=10), torch=False)
        except NormExportError as error:
            raise Refuse(str(error)) from error

    def run(self, x: Array) -> Array:
        """The output for an input, float64; that of an array which can't be written to is computed once.

        Raises:
            Refuse: it can't be computed from an input of this shape.
        """
        if x.flags.writeable:
            return self._run(x)
        if id(x) not in self._known:
            result = self._run(x).view()
            result.setflags(write=False)
            self._known[id(x)] = x, result  # the array itself, too: another one has another id while it lives
            if len(self._known) > _MOST_KNOWN:
                del self._known[next(iter(self._known))]
        return self._known[id(x)][1]

    def _run(self, x: Array) -> Array:
        from normexport.runtime.float64.room import at_most

        most = max(_LEAST, _GROWTH * x.size)
        known = {name: size for name, size in zip(self.sizes, x.shape, strict=True) if isinstance(name, str)}
        feeds = {_INPUT: x}
        for name, sizes in self._sized.items():
            shape = [_size(size, known) for size in sizes]
            if math.prod(shape) > most:
                raise Refuse("it reads the sizes of a much larger tensor")
            feeds[name] = np.zeros(shape)
        self.runs += 1
        try:
            with at_most(most):
                (result,) = self._runtime.run(feeds).values()
        except (NormExportError, MemoryError) as error:
            raise Refuse(str(error)) from error
        return np.asarray(result, np.float64)


def _size(size: int | str | None, known: Mapping[str, int]) -> int:
    if isinstance(size, int):
        return size
    if size is None or size not in known:
        raise Refuse("it reads sizes of another tensor that are not stored in the file")
    return known[size]


def _input(value: ir.Value, name: str, copies: dict[ir.Value, ir.Value]) -> ir.Value:
    copies[value] = ir.Value(name=name, type=ir.TensorType(ir.DataType.DOUBLE))
    return copies[value]


def _read(region: Region) -> Sequence[ir.Value]:
    return list(dict.fromkeys(value for node in region.nodes for value in node.inputs if value is not None))


def _stored(value: ir.Value, copies: dict[ir.Value, ir.Value]) -> ir.Value | None:
    if value in copies or value.producer() is not None:
        return None
    copies[value] = ir.Value(name=f"constant_{len(copies)}", type=value.type, const_value=value.const_value)
    return copies[value]


def _copy(node: ir.Node, copies: dict[ir.Value, ir.Value]) -> ir.Node:
    inputs = [None if value is None else copies[value] for value in node.inputs]
    copy = ir.Node(node.domain, node.op_type, inputs, node.attributes.values(), num_outputs=len(node.outputs))
    for old, new in zip(node.outputs, copy.outputs, strict=True):
        new.name = f"value_{len(copies)}" if old.name else ""
        copies[old] = new
    return copy
