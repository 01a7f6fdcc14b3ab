"""Layers that stay float32 between int8 ones: kept from what ONNX Runtime would make of them.

ONNX Runtime (1.21 to 1.32, its optimisations on, as they are by default) quantises the float32 weight of a Conv,
ConvTranspose or Gemm that reads a DequantizeLinear, to int8 and with **one scale for all channels**: what was left out
of int8 is computed in it all the same, and worse. EfficientNet-Lite0 with its depthwise layers left out had 23 dB as
written and 7 dB as run. With a node in front of the layer that hands on what it reads, and that its optimisations know
nothing of, the pattern is not there: a Max of one input, one copy of the layer's input at inference.
"""

from __future__ import annotations

import onnx_ir as ir

from normexport.graphs.names import Names
from normexport.graphs.node_metadata import FOLDED
from normexport.graphs.nodes import name_of, op, optional
from normexport.precision.int8.pairs import LAYERS
from normexport.precision.int8.weights import is_stored

#: What DequantizeLinear is moved through.
_MOVES = ("MaxPool", "Pad", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Slice", "Gather")


def shield_float_layers(model: ir.Model) -> None:
    """Put a Max in front of each layer with a float32 weight that reads what int8 layers made; in place."""
    names = Names(model.graph)
    for node in list(model.graph):
        read, weight = optional(node, 0), optional(node, 1)
        if op(node) not in LAYERS or read is None or weight is None or not is_stored(weight):
            continue
        if not _is_dequantised(read):
            continue
        shield = ir.Node("", "Max", [read], name=names.fresh(f"{name_of(node)}_float"))
        # Of the same module; what was folded into the layer was not into this.
        shield.metadata_props.update({key: value for key, value in node.metadata_props.items() if key != FOLDED})
        (made,) = shield.outputs
        made.name, made.type, made.shape = names.fresh(f"{read.name}_float"), read.type, read.shape
        model.graph.insert_before(node, shield)
        node.replace_input_with(0, made)


def _is_dequantised(value: ir.Value | None) -> bool:
    """Whether it comes from a DequantizeLinear, through nothing that computes."""
    while value is not None and (node := value.producer()) is not None:
        if op(node) == "DequantizeLinear":
            return True
        if op(node) not in _MOVES:
            return False
        value = node.inputs[0]
    return False
