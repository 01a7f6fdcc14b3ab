"""What quantising a layer adds to the mean of each channel of its result, to be taken off its bias.

Rounded weights and clipped inputs move means: a depthwise kernel of nine weights that each are off by up to half a step
is off by as much for every input. With x a layer's input in the float32 model, Q(x) as int8 holds it, w' the rounded
weight, the error of channel c on samples is known,

    e_c = mean over samples and places of (w * x - w' * Q(x))_c

and is added to the bias (Nagel et al. 2019, section 4.2; the empirical form, each layer on what float32 feeds it, so
that one run of the samples serves all layers). Both sides are computed side by side in one graph on ONNX Runtime; means
of batches are summed in float64.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from normexport.graphs.names import Names
from normexport.graphs.nodes import op, optional
from normexport.graphs.shapes import Shapes
from normexport.precision.int8.corrections import Pair, why_no_shift
from normexport.precision.int8.weights import Float64s
from normexport.runtime import Array, Feeds, OnnxRuntime


def mean_errors(model: ir.Model, pairs: Iterable[Pair], batches: Iterable[Feeds]) -> dict[str, Float64s]:
    """e (C,) of each layer that has a bias to correct, by the name of its result.

    Args:
        model: the float32 model that `pairs` are layers of.
        batches: samples; one batch is in memory at a time.
    """
    probe, results = _probe(model, [pair for pair in pairs if not why_no_shift(pair.node)])
    if not results:
        return {}
    runtime = OnnxRuntime(probe)
    sums: dict[str, Float64s] = {}
    weight = 0
    for feeds in batches:
        count = max((len(array) for array in feeds.values() if array.ndim), default=1)
        values = runtime.run(feeds)
        weight += count
        for name, result in results.items():
            sums[result] = sums.get(result, np.zeros(())) + count * values[name].astype(np.float64)
    means = {result: total / weight for result, total in sums.items()} if weight else {}
    return {result: mean for result, mean in means.items() if np.isfinite(mean).all()}


def _probe(model: ir.Model, pairs: list[Pair]) -> tuple[ir.Model, dict[str, str]]:
    """A model whose outputs are the mean errors, and whose each of them is."""
    shapes = Shapes(model)
    copy = model.clone()
    ours = dict(zip(model.graph, list(copy.graph), strict=True))
    work = _Probe(copy)
    results = {}
    for pair in pairs:
        rank = shapes.rank(pair.node.outputs[0]) if op(pair.node) != "Gemm" else 2
        if rank is None:
            continue
        axis = 1 if op(pair.node) in ("Conv", "ConvTranspose") else rank - 1
        others = [each for each in range(rank) if each != axis]
        results[work.add(pair, ours[pair.node], others)] = pair.result
    copy.graph.outputs[:] = work.outputs
    return copy, results


class _Probe:
    """Adds twins of layers to a graph."""

    def __init__(self, model: ir.Model) -> None:
        self.graph = model.graph
        self.opset = model.graph.opset_imports.get("", model.graph.opset_imports.get("ai.onnx", 0))
        self.fresh = Names(model.graph).fresh
        self.outputs: list[ir.Value] = []

    def add(self, pair: Pair, node: ir.Node, others: list[int]) -> str:
        """A twin that computes as int8 does, and the mean of what it lacks; the name of the output made."""
        source = node.inputs[0]
        assert source is not None
        if pair.source is not None:
            constants = [self._constant(each) for each in pair.source]
            whole = self._node("QuantizeLinear", [source, *constants], ir.DataType(_TYPES[pair.source[1].dtype.name]))
            source = self._node("DequantizeLinear", [whole, *constants])
        weight = self._constant(pair.rounded_weight.astype(np.float32))
        bias = [optional(node, 2)] if len(node.inputs) > 2 else []
        twin = self._node(node.op_type, [source, weight, *bias], attributes=list(node.attributes.values()))
        error = self._node("Sub", [node.outputs[0], twin])
        if self.opset >= 18:
            mean = self._node("ReduceMean", [error, self._constant(np.array(others, np.int64))], keepdims=0)
        else:
            mean = self._node("ReduceMean", [error], attributes=[ir.AttrInt64s("axes", others)], keepdims=0)
        mean.shape = ir.Shape([None])
        self.outputs.append(mean)
        return str(mean.name)

    def _node(
        self,
        operator: str,
        inputs: list[ir.Value | None],
        dtype: ir.DataType = ir.DataType.FLOAT,
        attributes: list[ir.Attr] | None = None,
        keepdims: int | None = None,
    ) -> ir.Value:
        given = [*(attributes or []), *([] if keepdims is None else [ir.AttrInt64("keepdims", keepdims)])]
        node = ir.Node("", operator, inputs, given, name=self.fresh(f"probe_{operator}"))
        value = node.outputs[0]
        value.name, value.type = self.fresh(f"probe_{operator}_Output"), ir.TensorType(dtype)
        self.graph.append(node)
        return value

    def _constant(self, array: Array) -> ir.Value:
        name = self.fresh("probe_constant")
        tensor = ir.Tensor(array, name=name)
        value = ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
        self.graph.register_initializer(value)
        return value


_TYPES = {"uint8": ir.DataType.UINT8, "int8": ir.DataType.INT8}
