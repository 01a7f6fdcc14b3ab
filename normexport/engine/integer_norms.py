"""int8 norms for TensorRT: one integer operator where a plugin computes it, else a float norm between scales of 1."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from normexport import norms
from normexport.folding.integer_norms import absorb_norms
from normexport.graphs.initializers import add_initializer

_PAIR = ("QuantizeLinear", "DequantizeLinear")


def spell_out_integer_norms(model: ir.Model, served: Collection[str]) -> ir.Model:
    """A model whose int8 norms are what TensorRT can build; `model` stays.

    Norms between Q and DQ are absorbed where the plugin library has integer operators. An integer operator that no
    plugin serves becomes DQ(1) -> norm -> Q(1): its parameters are in units of the quantised tensors already.
    """
    if any(name.startswith("Q") for name in served) and any(node.op_type in _PAIR for node in model.graph):
        model = absorb_norms(model)[0]
    unserved = [node for node in model.graph if _is_integer(node) and node.op_type not in served]
    if not unserved:
        return model
    copy = model.clone()
    for node in [node for node in copy.graph if _is_integer(node) and node.op_type not in served]:
        _spell_out(copy.graph, node)
    return copy


def _is_integer(node: ir.Node) -> bool:
    return node.domain == norms.DOMAIN and node.op_type.removeprefix("Q") in norms.live_ops() and node.op_type[0] == "Q"


def _spell_out(graph: ir.Graph, node: ir.Node) -> None:
    x, *parameters = node.inputs
    name = node.name or str(node.outputs[0].name)
    one = add_initializer(graph, f"{name}/one", np.array(1, np.float32))
    real = ir.node("DequantizeLinear", [x, one], name=f"{name}/dequantize")
    op = node.op_type.removeprefix("Q")
    norm = ir.node(op, [real.outputs[0], *parameters], node.attributes, domain=norms.DOMAIN, name=name)
    norm.metadata_props.update(node.metadata_props)
    # without a zero point the result would be uint8
    zero = add_initializer(graph, f"{name}/zero", np.array(0, np.int8))
    whole = ir.node("QuantizeLinear", [norm.outputs[0], one, zero], name=f"{name}/quantize")
    for made, suffix in ((real, "real"), (norm, "normalized")):
        made.outputs[0].name = f"{name}/{suffix}"
        made.outputs[0].dtype = ir.DataType.FLOAT
        made.outputs[0].shape = node.outputs[0].shape
    graph.insert_before(node, [real, norm, whole])
    ir.convenience.replace_nodes_and_values(graph, node, [node], [], node.outputs, whole.outputs)
