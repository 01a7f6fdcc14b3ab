"""What quantising a layer takes from the mean of each channel of its result, for what the float32 model feeds it.

With x a layer's input in the float32 model, Q(x) as int8 holds it, w' the rounded weight, the error of channel c is

    e_c = mean over samples and places of (w * x - w' * Q(x))_c

and is added to the bias (Nagel et al. 2019, section 4.2). Unlike the correction in sequence (`bias_correction`) it
takes in nothing of what other layers do, which depends on the samples more than what rounding does to one.

A layer is linear, and the mean over samples passes through it: w' * Q(x) is computed once for each batch, of the mean
of Q(x).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from normexport.dtypes import FLOAT8, FLOAT8_FROM
from normexport.graphs.nodes import op, optional
from normexport.graphs.probe import Probe
from normexport.graphs.shapes import Shapes
from normexport.io.onnx_domain import opset_in
from normexport.precision.int8.bias_correction import average_of, axes_but_channels
from normexport.precision.int8.corrections import Pair, why_no_shift
from normexport.precision.int8.weights import Float64s
from normexport.precision.later_opset import raise_opset
from normexport.runtime import Feeds


def mean_errors_by_layer(model: ir.Model, pairs: Iterable[Pair], batches: Iterable[Feeds]) -> dict[str, Float64s]:
    """e (C,) of each layer that has a bias to correct, by the name of its result.

    Args:
        model: the float32 model that `pairs` are layers of.
        batches: samples; one batch is in memory at a time.
    """
    shapes = Shapes(model)
    copy, pairs = model.clone(), list(pairs)
    if any(pair.source is not None and pair.source[1].dtype == FLOAT8.numpy for pair in pairs):
        raise_opset(copy, max(FLOAT8_FROM, opset_in(copy.graph.opset_imports)))
    ours = dict(zip(model.graph, list(copy.graph), strict=True))
    probe = Probe(copy.graph)
    results = {}
    for pair in reversed(pairs):  # ONNX Runtime computes what ends last first, and keeps nothing for the others
        axes = axes_but_channels(pair.node, shapes)
        if axes is not None and not why_no_shift(pair.node):
            node = ours[pair.node]
            exact = probe.mean(node.outputs[0], [0])
            mean = probe.mean_error(exact, _twin(probe, pair, node), axes)
            results[str(mean.name)] = pair.result
    copy.graph.outputs[:] = probe.outputs
    return average_of(copy, results, batches) if results else {}


def _twin(probe: Probe, pair: Pair, node: ir.Node) -> ir.Value:
    """The mean over samples, axis 0, of what a layer computes of the same input as int8 does."""
    source = node.inputs[0]
    assert source is not None
    if pair.source is not None:
        scale, zero = (probe.constant(each) for each in pair.source)
        dtype = zero.dtype
        assert dtype is not None
        if dtype is FLOAT8.ir:  # without a zero point, see `insert`
            told = [ir.AttrInt64("output_dtype", int(dtype))]
            whole = probe.node("QuantizeLinear", [source, scale], told, dtype)
        else:
            whole = probe.node("QuantizeLinear", [source, scale, zero], dtype=dtype)
        source = probe.node("DequantizeLinear", [whole, scale, zero])
    transposed = op(node) == "Gemm" and node.attributes.get_int("transA", 0) != 0
    source = probe.mean(source, [int(transposed)])
    weight = probe.constant(pair.rounded_weight.astype(np.float32))
    bias = [optional(node, 2)] if len(node.inputs) > 2 else []
    return probe.node(node.op_type, [source, weight, *bias], list(node.attributes.values()))
