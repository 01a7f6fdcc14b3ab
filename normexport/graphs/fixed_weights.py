"""Weights that a caller may override: old exporters list them among the inputs, and then nothing may count on them."""

from __future__ import annotations

import onnx_ir as ir

from normexport.graphs.port_names import read_inputs


def fix_weights(model: ir.Model) -> ir.Model:
    """A copy that has each weight as a constant; the model itself where none is listed among the inputs."""
    if len(read_inputs(model)) == len(model.graph.inputs):
        return model
    copy = model.clone()
    fed = read_inputs(copy)
    copy.graph.inputs.clear()
    copy.graph.inputs.extend(fed)
    return copy
