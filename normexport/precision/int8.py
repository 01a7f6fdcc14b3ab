"""int8 by post-training quantisation: QuantizeLinear and DequantizeLinear around every layer, integer live norms.

onnxruntime.quantization inserts the pairs; this file decides what is quantised and with which ranges:

- weights symmetric, a scale per output channel; activations one scale per tensor, asymmetric by default (a ReLU's 256
  levels are all above zero, and ONNX Runtime fuses the ReLU away), symmetric where an engine wants it;
- asymmetric activations are uint8: ONNX Runtime on x86-64 turns int8 pairs into uint8 where a tensor has one reader
  only, and then leaves the layers between the two kinds in float32 (ResNet-50, batch 8: 1.1 times as fast as float32
  with int8, 3.2 times with uint8). Models with live norms are int8, since the integer norms are;
- the first layer is quantised like any other; the last one's weights too, but outputs stay float32: that costs nothing;
- sums over space (ReduceMean, softmax) and multiplications by per-channel constants (norms that could not fold) stay
  float32; live norms become integer operators (`passes.qdq_absorb`);
- the branches of a concat share one range, so that joining them is a copy, but for those that a ReLU or Clip makes:
  there the quantiser lets the range do the clipping, and it must not grow;
- residual adds: ONNX Runtime's integer addition rescales both operands whatever their scales are, so that sharing saves
  nothing; engines add in the accumulators of one layer, whose result is not quantised before (`passes.qdq`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from normexport import norms
from normexport.errors import MissingComponent
from normexport.onnx_export.bodies import attach_bodies
from normexport.passes.nodes import op
from normexport.passes.qdq import LAYERS, drop_output_pairs, drop_pairs_before_add, drop_pairs_before_relu
from normexport.passes.qdq_absorb import Absorbed, absorb_norms
from normexport.precision.half import group_of
from normexport.precision.ranges import Range, settled

_COMBINE = ("Add", "Concat")
_PASS = ("Relu", "Clip", "MaxPool", "AveragePool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze")


@dataclass(frozen=True)
class Quantized:
    """The QDQ model, bodies attached; what became of its live norms; modules left in float32."""

    model: ir.Model
    norms: tuple[Absorbed, ...]
    excluded: tuple[str, ...]


def quantize(
    model: ir.Model, ranges: Mapping[str, Range], *, symmetric: bool = False, exclude: Collection[str] = ()
) -> Quantized:
    """The int8 model of a folded float32 one, which is not changed.

    Args:
        ranges: of floating tensors by name, see `calibrate`.
        symmetric: zero points of 0 throughout, as TensorRT needs.
        exclude: module paths (`group_of`) left in float32.

    Raises:
        MissingComponent: onnxruntime is not installed.
    """
    excluded = set(exclude)
    chosen = [node for node in model.graph if is_candidate(node) and group_of(node) not in excluded]
    if not chosen:  # to onnxruntime's quantiser no names are all names
        return Quantized(model.clone(), absorb_norms(model)[1], tuple(sorted(excluded)))
    limits = {name: settled(limit, symmetric) for name, limit in _shared(chosen, ranges, symmetric).items()}
    unsigned = not symmetric and not any(node.domain == norms.DOMAIN for node in chosen)
    proto = _insert_pairs(model, [str(node.name) for node in chosen], limits, symmetric, unsigned)
    quantized = ir.from_proto(proto)
    quantized.graph.sort()  # the quantiser appends at the end
    _annotate(quantized.graph)
    drop_output_pairs(quantized)
    if symmetric:
        drop_pairs_before_relu(quantized)
        drop_pairs_before_add(quantized)
    absorbed, outcomes = absorb_norms(quantized)
    _drop_unread(absorbed.graph)
    attach_bodies(absorbed)
    absorbed.ir_version = model.ir_version
    absorbed.producer_name, absorbed.producer_version = model.producer_name, model.producer_version
    return Quantized(absorbed, outcomes, tuple(sorted(excluded)))


def is_candidate(node: ir.Node) -> bool:
    """Whether int8 is for this node: layers with weights, live norms, what combines or passes on their results."""
    if node.domain == norms.DOMAIN:
        return node.op_type in norms.live_ops()
    if op(node) in _COMBINE:  # with a constant: a bias or a norm's shift, which 8 bits per tensor would not hold
        return all(value is not None and value.const_value is None for value in node.inputs)
    if op(node) == "MatMul":
        return len(node.inputs) > 1 and node.inputs[1] is not None and node.inputs[1].const_value is not None
    if op(node) == "ConvTranspose":  # onnxruntime's quantiser gives the bias of a grouped one a scale of the wrong size
        group = node.attributes.get("group")
        return group is None or group.as_int() == 1
    if op(node) in ("Relu", "Clip") and node.outputs[0].is_graph_output():
        return False  # the quantiser leaves the clipping to the pair behind it, which an output does not keep
    return op(node) in (*LAYERS, *_PASS)


def modules_of(model: ir.Model) -> tuple[str, ...]:
    """Modules that may be excluded, in graph order: those that hold a layer, a live norm or an addition."""
    heavy = (*LAYERS, *_COMBINE)
    nodes = [node for node in model.graph if is_candidate(node) and (op(node) in heavy or node.domain == norms.DOMAIN)]
    return tuple(dict.fromkeys(group_of(node) for node in nodes))


def _shared(nodes: Collection[ir.Node], ranges: Mapping[str, Range], symmetric: bool) -> dict[str, Range]:
    """One range for all branches of each concat, and for a live norm's result and the ReLU behind it."""
    shared = dict(ranges)
    for node in nodes:
        if node.domain == norms.DOMAIN and (relu := _relu_behind(node)) is not None:
            # Clipping at the ReLU's range first changes nothing, and the norm's own bytes are then the ReLU's.
            shared[str(node.outputs[0].name)] = shared[str(relu.outputs[0].name)]
        if op(node) != "Concat":
            continue
        values = [value for value in (*node.inputs, *node.outputs) if value is not None]
        known = [shared[str(value.name)] for value in values if str(value.name) in shared]
        if not known:
            continue
        whole = min(low for low, _ in known), max(high for _, high in known)
        if symmetric or all(_outlives(value, whole, shared) for value in values):
            shared.update(dict.fromkeys((str(value.name) for value in values), whole))
    return shared


def _outlives(value: ir.Value, whole: Range, ranges: Mapping[str, Range]) -> bool:
    """Whether a tensor with another range is still the same: of a ReLU or Clip the range alone does the clipping."""
    producer = value.producer()
    if producer is None or op(producer) not in ("Relu", "Clip"):
        return True
    return whole[0] >= 0 if op(producer) == "Relu" else whole == ranges.get(str(value.name))


def _relu_behind(node: ir.Node) -> ir.Node | None:
    uses = list(node.outputs[0].uses())
    alone = len(uses) == 1 and op(uses[0].node) == "Relu" and not node.outputs[0].is_graph_output()
    return uses[0].node if alone else None


def _insert_pairs(
    model: ir.Model, nodes: list[str], limits: Mapping[str, Range], symmetric: bool, unsigned: bool
) -> Any:
    """ONNX model proto with the pairs, by onnxruntime's quantiser."""
    try:
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
        from onnxruntime.quantization.registry import QDQRegistry
    except ImportError as error:
        raise MissingComponent.of("onnxruntime", "cpu") from error
    for name in norms.live_ops():
        QDQRegistry.setdefault(name, _OnlyActivations)
    data = {
        name: TensorData(lowest=np.float32(low), highest=np.float32(high if high > low else low + 1e-6))
        for name, (low, high) in limits.items()
    }
    types = [*LAYERS, *_COMBINE, *_PASS, *norms.live_ops()]
    norms.register_schemas()
    quantizer = _quietly(
        lambda: QDQQuantizer(
            ir.to_proto(model),
            True,  # weights per channel
            False,
            QuantType.QInt8,
            QuantType.QUInt8 if unsigned else QuantType.QInt8,
            TensorsData(CalibrationMethod.MinMax, data),
            nodes,
            [],
            types,
            {"ActivationSymmetric": symmetric, "QuantizeBias": not symmetric},
        )
    )
    _quietly(quantizer.quantize_model)
    return quantizer.model.model


class _OnlyActivations:
    """How a live norm is quantised: its tensor and its result; scale and bias are no weights."""

    def __init__(self, quantizer: Any, node: Any) -> None:
        self.quantizer, self.node = quantizer, node

    def quantize(self) -> None:
        """Called by onnxruntime's quantiser."""
        for name in (self.node.input[0], self.node.output[0]):
            self.quantizer.quantize_activation_tensor(name)


def _annotate(graph: ir.Graph) -> None:
    """Types and shapes of what the pairs compute, which the quantiser leaves out."""
    for node in graph:
        if op(node) not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        source, zero, result = node.inputs[0], node.inputs[2], node.outputs[0]
        assert source is not None
        assert zero is not None
        dtype = ir.DataType.FLOAT if op(node) == "DequantizeLinear" else zero.dtype
        result.type = None if dtype is None else ir.TensorType(dtype)
        stored = source.const_value.shape if source.const_value is not None else None
        result.shape = result.shape or source.shape or (None if stored is None else ir.Shape(stored.numpy()))


def _drop_unread(graph: ir.Graph) -> None:
    """Take out scales and zero points of pairs that went."""
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output() and not value.is_graph_input():
            del graph.initializers[name]


def _quietly(call: Callable[[], Any]) -> Any:
    """Run without the root logger's warnings: each is a decision that this file took."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        return call()
    finally:
        logging.disable(before)
