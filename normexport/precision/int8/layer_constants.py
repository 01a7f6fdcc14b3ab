"""The weights and biases of layers as whole numbers, each behind a DequantizeLinear.

- Weights are symmetric, a scale per output channel: s = max|w| / 127. Operator sets below 13 know one scale per tensor.
- A bias (C,) becomes int32 in units of s_x * s_w, the accumulator's own; where it would not fit, s_w of that channel is
  widened until it does (a channel whose weights are all but zero beside its bias). Others stay floating.
- A weight that training rounded keeps the grid of training.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from normexport.dtypes import FLOAT32
from normexport.graphs.initializers import fixed_tensor
from normexport.graphs.nodes import op, optional
from normexport.io.onnx_domain import opset_in
from normexport.precision.int8.activations import Activations
from normexport.precision.int8.additions import Additions, Array
from normexport.precision.int8.corrections import Corrections
from normexport.precision.int8.pairs import LAYERS
from normexport.precision.int8.value_scales import Linear
from normexport.precision.int8.weights import add_to_bias, is_stored, output_axis

#: The operator set that brought a scale for each channel.
CHANNELS_FROM = 13
_BIAS = float(2**31 - 1) / 1.0001


def note_on_scales(model: ir.Model) -> tuple[str, ...]:
    """What to know of weights where the operator set has no scale for each channel; nothing where it has.

    An OCR network in operator set 11 had 3.2 dB, and 11.2 in 13.
    """
    opset = opset_in(model.graph.opset_imports)
    if opset >= CHANNELS_FROM:
        return ()
    words = f"each weight has one scale, as operator set {opset} knows no more"
    return (f"{words}; from {CHANNELS_FROM} on each channel has one",)


class LayerConstants:
    """Stores the constants of one layer after the other; a weight that several share is stored once.

    Args:
        corrections: weights that are rounded otherwise than to nearest, and what is added to biases; by the names that
            values have when this is made, for they are renamed on the way.
        linear: the scale of what each layer reads.
    """

    def __init__(
        self,
        additions: Additions,
        corrections: Corrections,
        how: Activations,
        opset: int,
        linear: Mapping[ir.Value, Linear],
    ) -> None:
        self._additions, self._corrections, self._how = additions, corrections, how
        self._channels, self._linear = opset >= CHANNELS_FROM, linear
        self._results = {node: str(node.outputs[0].name) for node in additions.graph if op(node) in LAYERS}
        self._weights: dict[tuple[ir.Value, int | None, bytes], ir.Value] = {}

    def store(self, node: ir.Node) -> None:
        """Let a layer read its weight and bias as whole numbers."""
        shift = self._corrections.shifts.get(self._results[node])
        if shift is not None:
            add_to_bias(node, shift, self._additions.fresh)
        source, weight, bias = node.inputs[0], node.inputs[1], optional(node, 2)
        assert source is not None
        assert weight is not None
        assert weight.const_value is not None
        array = weight.const_value.numpy().astype(np.float64)
        if self._store_as_trained(node, weight, bias):
            return
        axis = output_axis(node, array.ndim) if self._channels else None
        others = None if axis is None else tuple(i for i in range(array.ndim) if i != axis)
        scale = np.abs(array).max(axis=others) / self._how.storage.largest
        scale = np.where(scale.astype(np.float32) >= FLOAT32.smallest_normal, scale, 1.0)
        numbers = self._bias_of(node, bias, array.shape[axis] if axis is not None else None)
        if numbers is not None:
            room = np.abs(numbers) / (self._linear[source].scale * _BIAS)
            scale = np.maximum(scale, room if axis is not None else room.max(initial=0.0))
        scale = self._how.storage.scale(scale)
        node.replace_input_with(1, self._weight(weight, array, scale, axis, node))
        self._store_bias(node, bias, numbers, scale)

    def _store_as_trained(self, node: ir.Node, weight: ir.Value, bias: ir.Value | None) -> bool:
        """Store a weight on the grid of training; whether there is one that int8 has."""
        grid = self._corrections.weights.get(str(weight.name))
        stored = None if grid is None else grid.stored(self._how.symmetric)
        if grid is None or stored is None or (grid.axis is not None and not self._channels):
            return False
        whole, zero = stored
        node.replace_input_with(1, self._additions.dequantized(weight, whole, grid.scale, grid.axis, node, zero))
        numbers, source = self._bias_of(node, bias, None), node.inputs[0]
        along = grid.axis in (None, output_axis(node, whole.ndim))
        if numbers is not None and source is not None and along:
            unit = self._unit(source, grid.scale)
            if unit.size in (1, numbers.size) and np.all(np.abs(numbers) <= unit * _BIAS):
                self._store_bias(node, bias, numbers, np.broadcast_to(grid.scale, numbers.shape))
        return True

    def _weight(self, weight: ir.Value, array: Array, scale: Array, axis: int | None, node: ir.Node) -> ir.Value:
        key = weight, axis, scale.tobytes()
        if key not in self._weights:
            sides = () if axis is None else [-1 if i == axis else 1 for i in range(array.ndim)]
            chosen = self._corrections.rounded.get(str(weight.name))
            whole = self._how.storage.nearest(array / scale.reshape(sides))
            if chosen is not None and chosen.scale.shape == scale.shape:
                whole = np.where((chosen.scale == scale).reshape(sides), chosen.whole, whole)
            self._weights[key] = self._additions.dequantized(weight, whole, scale, axis, node)
        return self._weights[key]

    def _bias_of(self, node: ir.Node, bias: ir.Value | None, channels: int | None) -> Array | None:
        """The bias that becomes whole numbers; None where there is none, or it stays as it is."""
        if self._how.symmetric or self._how.storage.scales != FLOAT32.name or bias is None or not is_stored(bias):
            return None
        tensor = fixed_tensor(bias)
        assert tensor is not None
        array = tensor.numpy().astype(np.float64)
        scaled = any(node.attributes.get_float(name, 1.0) != 1.0 for name in ("alpha", "beta"))
        fits = array.ndim == 1 and (channels is None or len(array) == channels) and np.isfinite(array).all()
        return array if fits and not scaled else None

    def _store_bias(self, node: ir.Node, bias: ir.Value | None, numbers: Array | None, scale: Array) -> None:
        source = node.inputs[0]
        if bias is None or numbers is None or source is None:
            return
        unit = self._unit(source, scale)
        if np.all(unit >= FLOAT32.smallest_normal):
            whole = np.clip(np.rint(numbers / unit.astype(np.float64)), -(2.0**31), 2.0**31 - 1).astype(np.int32)
            axis = 0 if unit.ndim else None
            node.replace_input_with(2, self._additions.dequantized(bias, whole, unit, axis, node))

    def _unit(self, source: ir.Value, scale: Array) -> Array:
        """What a whole number of a bias stands for."""
        return np.float32(self._linear[source].scale) * np.asarray(scale, np.float32)
