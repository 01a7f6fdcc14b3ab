"""int8 by post-training quantisation: QuantizeLinear and DequantizeLinear around every layer, integer live norms.

`insert` inserts the pairs; this file decides what is quantised and with which ranges:

- weights symmetric, a scale per output channel; activations one scale per tensor, asymmetric by default (a ReLU's 256
  levels are all above zero, and ONNX Runtime fuses the ReLU away), symmetric where an engine wants it;
- asymmetric activations are uint8: ONNX Runtime on x86-64 turns int8 pairs into uint8 where a tensor has one reader
  only, and then leaves the layers between the two kinds in float32 (ResNet-50, batch 8: 1.1 times as fast as float32
  with int8, 3.2 times with uint8). Models with live norms are int8, since the integer norms are;
- the first layer is quantised like any other; the last one's weights too, but outputs stay float32: that costs nothing;
- what combines or passes on numbers that no layer reads any more, however far down, stays float32: the decoding of a
  detector. In eight bits a concat of boxes in pixels and scores had one range for both, and steps of 1.27: NudeNet's
  scores had 1.3 dB, 7.6 so;
- sums over space (ReduceMean, softmax) and multiplications by per-channel constants (norms that could not fold) stay
  float32; live norms become integer operators (`folding.integer_norms`);
- the branches of a concat share one range, so that joining them is a copy, but for those that a ReLU or Clip makes:
  there the quantiser lets the range do the clipping, and it must not grow;
- residual adds: ONNX Runtime's integer addition rescales both operands whatever their scales are, so that sharing saves
  nothing; engines add in the accumulators of one layer, whose result is not quantised before (`pairs`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes.common import IdentityEliminationPass

from normexport import norms
from normexport.folding.constants import Constants
from normexport.folding.integer_norms import IntegerNormOutcome, absorb_norms
from normexport.graphs.constant_nodes import store_constants
from normexport.graphs.moments import KEY
from normexport.graphs.nodes import drop_unread_initializers, op, optional
from normexport.io.onnx_domain import opset_in
from normexport.norms.bodies import attach_bodies
from normexport.precision.file_precision import refuse_quantized
from normexport.precision.half.search import group_of
from normexport.precision.int8.activations import Activations
from normexport.precision.int8.clips import CLIPS
from normexport.precision.int8.corrections import NONE, Corrections
from normexport.precision.int8.float_layers import shield_float_layers
from normexport.precision.int8.insert import first_opset, insert_pairs
from normexport.precision.int8.pairs import DIRECT, LAYERS, drop_pairs_before_add, drop_pairs_before_relu
from normexport.precision.int8.ranges import Range, int8_range
from normexport.precision.int8.storage import PLAIN, Storage
from normexport.precision.int8.weights import is_stored
from normexport.precision.later_opset import in_later_opset, raise_opset, stays_in_opset

_COMBINE = ("Add", "Concat")
_PASS = (*CLIPS, *DIRECT)


@dataclass(frozen=True)
class Quantized:
    """The QDQ model, bodies attached; what became of its live norms; modules left in float32."""

    model: ir.Model
    norms: tuple[IntegerNormOutcome, ...]
    excluded: tuple[str, ...]


def quantize(
    model: ir.Model,
    ranges: Mapping[str, Range],
    *,
    symmetric: bool = False,
    exclude: Collection[str] = (),
    corrections: Corrections = NONE,
    storage: Storage = PLAIN,
) -> Quantized:
    """The int8 or fp8 model of a folded float32 one, which is not changed.

    Weights in Constant nodes count as initializers. What the norms knew of the tensors (`graphs.moments`) is left out:
    channels may have taken factors on the way here.

    Args:
        ranges: of floating tensors by name, see `calibrate`.
        symmetric: zero points of 0 throughout, as TensorRT needs.
        exclude: module paths (`group_of`) left in float32.
        corrections: what layers hold in place of weights rounded to nearest and of their own biases.
        storage: the type of eight bits; in float8 layers alone.

    Raises:
        FoldError: the model's operator set is too old, or the model is quantised already.
    """
    refuse_quantized(model)
    model = store_constants(model)
    if storage.is_float8 and opset_in(model.graph.opset_imports) == norms.OPSET and not stays_in_opset(model):
        model = in_later_opset(model, first_opset(storage))
    excluded = set(exclude)
    constants = Constants(model.graph)
    chosen = [
        node
        for node in model.graph
        if is_candidate(node, constants)
        and group_of(node) not in excluded
        and (op(node) in LAYERS or not storage.is_float8)
    ]
    if not corrections.grids:  # what training rounded is kept, wherever it lies
        chosen = _in_front_of_layers(chosen)
    if not chosen:
        plain = model.clone()
        plain.metadata_props.pop(KEY, None)
        outcomes = () if storage.is_float8 else absorb_norms(model)[1]
        return Quantized(plain, outcomes, tuple(sorted(excluded)))
    symmetric |= storage.is_float8
    limits = {name: int8_range(limit, symmetric) for name, limit in _shared_ranges(chosen, ranges, symmetric).items()}
    unsigned = not symmetric and not any(node.domain == norms.DOMAIN for node in chosen)
    quantized = insert_pairs(model, chosen, limits, Activations(symmetric, unsigned, storage), corrections)
    absorbed, outcomes = quantized, ()
    if not storage.is_float8:
        if symmetric:
            drop_pairs_before_relu(quantized)
            drop_pairs_before_add(quantized)
        absorbed, outcomes = absorb_norms(quantized)
    absorbed.metadata_props.pop(KEY, None)
    shield_float_layers(absorbed)
    if corrections.grids:
        IdentityEliminationPass()(absorbed)  # of tensors that readers of their own were given
    drop_unread_initializers(absorbed.graph)
    attach_bodies(absorbed)
    raise_opset(absorbed, opset_in(absorbed.graph.opset_imports))
    absorbed.ir_version = model.ir_version
    absorbed.producer_name, absorbed.producer_version = model.producer_name, model.producer_version
    return Quantized(absorbed, outcomes, tuple(sorted(excluded)))


def is_candidate(node: ir.Node, constants: Constants) -> bool:
    """Whether int8 is for this node: layers with weights, live norms, what combines or passes on their results."""
    if node.domain == norms.DOMAIN:
        return node.op_type in norms.live_ops()
    if op(node) in _COMBINE:  # with a constant: a bias or a norm's shift, which 8 bits per tensor would not hold
        return all(value is not None and value not in constants for value in node.inputs)
    if op(node) in LAYERS:
        weight = optional(node, 1)
        # The channels of a grouped ConvTranspose lie on no one axis of its weight.
        grouped = op(node) == "ConvTranspose" and node.attributes.get_int("group", 1) != 1
        return weight is not None and is_stored(weight) and not grouped
    return op(node) in _PASS


def _in_front_of_layers(chosen: Collection[ir.Node]) -> list[ir.Node]:
    """Those that are layers or live norms themselves, or whose result one of these reads, however far down."""
    read = {node for node in chosen if op(node) in LAYERS or node.domain == norms.DOMAIN}
    waiting = list(read)
    while waiting:
        values = waiting.pop().inputs
        makers = {node for value in values if value is not None and (node := value.producer()) is not None}
        waiting += makers - read
        read |= makers
    return [node for node in chosen if node in read]


def modules_of(model: ir.Model, storage: Storage = PLAIN) -> tuple[str, ...]:
    """Modules that may be excluded, in graph order: those that hold a layer, or in int8 a live norm or an addition."""
    heavy = LAYERS if storage.is_float8 else (*LAYERS, *_COMBINE)
    constants = Constants(model.graph)
    nodes = [
        node for node in model.graph if op(node) in heavy or (node.domain == norms.DOMAIN and not storage.is_float8)
    ]
    return tuple(dict.fromkeys(group_of(node) for node in nodes if is_candidate(node, constants)))


def _shared_ranges(nodes: Collection[ir.Node], ranges: Mapping[str, Range], symmetric: bool) -> dict[str, Range]:
    """One range for all branches of each concat, and for a live norm's result and the ReLU behind it."""
    shared = dict(ranges)
    for node in nodes:
        if node.domain == norms.DOMAIN and (relu := _relu_behind(node)) is not None:
            # Clipping at the ReLU's range first changes nothing, and the norm's own bytes are then the ReLU's.
            clipped = shared.get(str(relu.outputs[0].name))
            shared.update({str(node.outputs[0].name): clipped} if clipped is not None else {})
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
    if producer is None or op(producer) not in CLIPS:
        return True
    return whole[0] >= 0 if op(producer) == "Relu" else whole == ranges.get(str(value.name))


def _relu_behind(node: ir.Node) -> ir.Node | None:
    uses = list(node.outputs[0].uses())
    alone = len(uses) == 1 and op(uses[0].node) == "Relu" and not node.outputs[0].is_graph_output()
    return uses[0].node if alone else None
