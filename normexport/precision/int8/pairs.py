"""What happens to QuantizeLinear / DequantizeLinear pairs after they were inserted: where one costs and gives nothing.

- Between a layer and the ReLU that alone reads it (symmetric quantisation keeps ReLUs): the pair behind the ReLU rounds
  once; a second scale in between would only keep engines from fusing the two. A live norm keeps its pair, which makes
  it an integer operator.
- Between one layer and the addition that alone reads it: engines add in the accumulators of one layer.
"""

from __future__ import annotations

import onnx_ir as ir

from normexport.graphs.nodes import op
from normexport.graphs.shapes import Shapes
from normexport.norms import DOMAIN

#: Operators with weights.
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
#: Operators that choose or move numbers: their result has the numbers of their input, and so its scale.
DIRECT = ("MaxPool", "AveragePool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze")


def drop_pairs_before_relu(model: ir.Model) -> None:
    """Let a ReLU read a layer's own result where only a pair of Q and DQ stands between the two; in place."""
    for node in [node for node in model.graph if op(node) == "Relu"]:
        value = node.inputs[0]
        pair = _pair_of(value) if value is not None else None
        if value is None or pair is None or len(value.uses()) != 1 or value.is_graph_output():
            continue
        quantize, dequantize = pair
        layer = quantize.inputs[0].producer() if quantize.inputs[0] is not None else None
        if layer is not None and layer.domain == DOMAIN:
            continue
        node.replace_input_with(0, quantize.inputs[0])
        _remove(model.graph, dequantize, quantize)


def drop_pairs_before_add(model: ir.Model) -> None:
    """Let an addition read one layer's own result where only a pair of Q and DQ stands between the two; in place.

    The other operand keeps its pair. Of two layers it is the later one whose result is still at hand. A MatMul keeps
    its pair before an addend of another rank: ONNX Runtime makes one Gemm of the two, and of a pair before it, with
    int8 from operator set 21 on, a file that it refuses.
    """
    shapes = Shapes(model)
    position = {node: index for index, node in enumerate(model.graph)}
    for node in [node for node in model.graph if op(node) == "Add"]:
        found = []
        for index, value in enumerate(node.inputs):
            pair = _pair_of(value) if value is not None else None
            source = pair[0].inputs[0] if pair is not None else None
            layer = source.producer() if source is not None else None
            if value is None or pair is None or source is None or layer is None:
                break
            alone = len(value.uses()) == len(source.uses()) == len(pair[0].outputs[0].uses()) == 1
            stays = op(layer) == "MatMul" and not _ranks_agree(node, shapes)
            if (
                alone
                and op(layer) in LAYERS
                and not stays
                and not (value.is_graph_output() or source.is_graph_output())
            ):
                found.append((position[layer], index, pair))
        else:
            for _, index, (quantize, dequantize) in sorted(found, key=lambda each: each[0])[-1:]:
                node.replace_input_with(index, quantize.inputs[0])
                _remove(model.graph, dequantize, quantize)


def is_quantized(node: ir.Node) -> bool:
    """Whether a node can compute on eight bits: its first two operands are int8 or come out of a DequantizeLinear.

    A bias, and what is no floating number (shapes, axes), does not count.
    """
    operands = [value for value in node.inputs[:2] if value is not None and value.dtype != ir.DataType.INT64]
    if op(node) in ("QuantizeLinear", "DequantizeLinear") or not operands:
        return False
    if node.domain == DOMAIN:
        return operands[0].dtype == ir.DataType.INT8
    return all(_is_dequantized(value) for value in operands)


def _is_dequantized(value: ir.Value) -> bool:
    """Whether a DequantizeLinear makes it, a Cast to the type of the remainder between or not."""
    producer = value.producer()
    if producer is not None and op(producer) == "Cast" and producer.inputs[0] is not None:
        producer = producer.inputs[0].producer()
    return producer is not None and op(producer) == "DequantizeLinear"


def _ranks_agree(node: ir.Node, shapes: Shapes) -> bool:
    """Whether all operands are known to be of one rank."""
    ranks = {shapes.rank(value) if value is not None else None for value in node.inputs}
    return len(ranks) == 1 and None not in ranks


def _pair_of(value: ir.Value) -> tuple[ir.Node, ir.Node] | None:
    dequantize = value.producer()
    if dequantize is None or op(dequantize) != "DequantizeLinear" or dequantize.inputs[0] is None:
        return None
    quantize = dequantize.inputs[0].producer()
    if quantize is None or op(quantize) != "QuantizeLinear":
        return None
    return quantize, dequantize


def _remove(graph: ir.Graph, dequantize: ir.Node, quantize: ir.Node) -> None:
    graph.remove(dequantize, safe=True)
    if not quantize.outputs[0].uses() and not quantize.outputs[0].is_graph_output():
        graph.remove(quantize, safe=True)
