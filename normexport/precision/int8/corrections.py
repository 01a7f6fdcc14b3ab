"""What the layers of an int8 model may hold in place of weights rounded to nearest and of their own biases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from normexport.graphs.nodes import label, op, optional
from normexport.precision.int8.grids import Grid, WeightGrid
from normexport.precision.int8.pairs import LAYERS
from normexport.precision.int8.weights import Float64s, stored

Int8s = npt.NDArray[np.int8]
EightBits = npt.NDArray[Any]  # int8, or the float8 of ml_dtypes


@dataclass(frozen=True, eq=False)
class Rounded:
    """A weight in whole numbers of the grid `scale`; channels that are given another grid do not count."""

    scale: npt.NDArray[np.float32]
    whole: Int8s


@dataclass(frozen=True)
class Corrections:
    """What is to be another than the ranges of tensors and the rounding to nearest make it.

    Attributes:
        rounded: weights by the name of the initializer.
        shifts: what is added to the bias, by the name of a layer's result.
        grids: integers that a tensor was trained on, by its name; they come before its range.
        weights: those of weights, by the name of the initializer.
    """

    rounded: Mapping[str, Rounded] = field(default_factory=dict)
    shifts: Mapping[str, Float64s] = field(default_factory=dict)
    grids: Mapping[str, Grid] = field(default_factory=dict)
    weights: Mapping[str, WeightGrid] = field(default_factory=dict)


NONE = Corrections()


@dataclass(frozen=True, eq=False)
class Pair:
    """A layer of the float32 model and what it became.

    Attributes:
        node: in the float32 model.
        scale, axis: of its weight's grid, and the axis of the weight that the scales lie along; None: one scale.
        whole: its weight in units of the grid: int8, or float8.
        source: (scale, zero point) of what it reads; None where it reads numbers themselves.
    """

    node: ir.Node
    scale: npt.NDArray[np.float32]
    axis: int | None
    whole: EightBits
    source: tuple[npt.NDArray[np.float32], EightBits] | None

    @property
    def result(self) -> str:
        return str(self.node.outputs[0].name)

    @property
    def read(self) -> str:
        """The name of what the layer reads in the float32 model."""
        value = self.node.inputs[0]
        assert value is not None
        return str(value.name)

    @property
    def rounded_weight(self) -> Float64s:
        """The weight that the int8 model computes with."""
        weight: Float64s = self.whole.astype(np.float64) * self.grid
        return weight

    @property
    def grid(self) -> Float64s:
        """The scale of each entry of the weight, to broadcast."""
        shape = [-1 if index == self.axis else 1 for index in range(self.whole.ndim)]
        return self.scale.astype(np.float64).reshape(shape if self.axis is not None else (1,) * self.whole.ndim)


def pairs_of(model: ir.Model, quantised: ir.Model) -> list[Pair]:
    """The layers that are in eight bits in the model made of `model`, in graph order."""
    ours, theirs = ([node for node in each.graph if op(node) in LAYERS] for each in (model, quantised))
    found = []
    for node, other in zip(ours, theirs, strict=True):
        weight = _dequantized(optional(other, 1))
        if weight is None:
            continue
        whole, scale, _, axis = weight
        entry = _quantizer(other.inputs[0])
        found.append(Pair(node, scale, axis if scale.size > 1 or scale.ndim else None, whole, entry))
    return found


def why_no_shift(node: ir.Node) -> str:
    """Why nothing can be added to a layer's bias; "" where it can."""
    if op(node) == "MatMul":
        return f"{label(node)} has no bias"
    if any(node.attributes.get_float(name, 1.0) != 1.0 for name in ("alpha", "beta")):
        return f"{label(node)} scales its bias"
    bias = optional(node, 2)
    if bias is not None and ((array := stored(bias)) is None or array.ndim != 1):
        return f"the bias of {label(node)} is no constant of one number for each channel"
    return ""


def _dequantized(value: ir.Value | None) -> tuple[EightBits, npt.NDArray[np.float32], EightBits, int] | None:
    node = value.producer() if value is not None else None
    if node is None or op(node) != "DequantizeLinear":
        return None
    tensors = [None if each is None else each.const_value for each in node.inputs]
    if len(tensors) < 3 or any(tensor is None for tensor in tensors):
        return None
    whole, scale, zero = (tensor.numpy() for tensor in tensors if tensor is not None)
    return whole, scale, zero, node.attributes.get_int("axis", 1)


def _quantizer(value: ir.Value | None) -> tuple[npt.NDArray[np.float32], EightBits] | None:
    node = value.producer() if value is not None else None
    if node is None or op(node) != "DequantizeLinear":
        return None
    tensors = [None if each is None else each.const_value for each in node.inputs[1:3]]
    scale, zero = (None if tensor is None else tensor.numpy() for tensor in tensors)
    return None if scale is None or zero is None else (scale, zero)
