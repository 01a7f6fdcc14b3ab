"""A live norm between quantised tensors becomes one integer operator.

    q -> DequantizeLinear(s_x, z_x) -> norm(scale, bias, epsilon) -> QuantizeLinear(s_y, z_y)
      =  q -> Qnorm(scale/s_y, bias/s_y + z_y, epsilon/s_x)

With x = s_x*(q - z_x): the deviation and the statistic of x are s_x times those of q, so that z_x leaves with the mean
and s_x divides epsilon alone. The identity is exact over the real numbers; the integer operator is the more accurate
side, since its sums are integers.

Refused where it would not hold: a tensor that is not int8, a scale per channel, quantisation or norm parameters that
are not constants, and a result that something besides one QuantizeLinear reads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from normexport.folding.graph import Draft
from normexport.folding.per_channel import Array
from normexport.folding.result import FoldConfig
from normexport.graphs.node_metadata import module_path
from normexport.graphs.nodes import label, name_of, op, optional, required
from normexport.graphs.refusal import Refuse
from normexport.norms import DOMAIN, EPSILON_DEFAULT, VERSION, live_ops
from normexport.norms.bodies import drop_unused_functions


@dataclass(frozen=True)
class IntegerNormOutcome:
    """What became of one live norm: `reason` is "" where it is an integer operator now, else why it is not."""

    node: str
    path: str
    reason: str


@dataclass(frozen=True)
class _Linear:
    """real = scale * (q - zero)."""

    scale: float
    zero: float


def absorb_norms(model: ir.Model) -> tuple[ir.Model, tuple[IntegerNormOutcome, ...]]:
    """A model whose live norms between quantised tensors are integer operators, without bodies; `model` stays.

    Returns the model and one outcome per live norm, in graph order.
    """
    copy = model.clone()
    draft = Draft(model, copy, FoldConfig())
    outcomes = []
    for node in [node for node in copy.graph if node.domain == DOMAIN and node.op_type in live_ops()]:
        reason = ""
        try:
            _absorb(node, draft)
        except Refuse as refusal:
            reason = refusal.reason
        outcomes.append(IntegerNormOutcome(name_of(node), module_path(node), reason))
    drop_unused_functions(copy)
    if any(not outcome.reason for outcome in outcomes):
        copy.graph.opset_imports[DOMAIN] = VERSION
    return copy, tuple(outcomes)


def _absorb(node: ir.Node, draft: Draft) -> None:
    dequantize, quantize = _before(node), _after(node)
    x, y = _linear(dequantize, draft), _linear(quantize, draft)
    scale, bias = (draft.constants.array(required(node, index)).astype(np.float64) for index in (1, 2))
    attribute = node.attributes.get("epsilon")
    epsilon = (attribute.as_float() if attribute is not None else EPSILON_DEFAULT) / x.scale
    parameters = [("scale", scale / y.scale), ("bias", bias / y.scale + y.zero)]
    if not all(np.isfinite(array.astype(np.float32)).all() for _, array in parameters) or not np.isfinite(epsilon):
        raise Refuse(f"the parameters of {label(node)} overflow in units of its quantised result")
    inputs = [required(dequantize, 0)]
    for name, array in parameters:
        inputs.append(draft.new_constant(array, ir.DataType.FLOAT, draft.fresh(f"{name_of(node)}.{name}_quantized")))
    others = [each for name, each in node.attributes.items() if name != "epsilon"]
    whole = ir.Node(
        DOMAIN,
        f"Q{node.op_type}",
        inputs,
        [ir.AttrFloat32("epsilon", float(np.float32(epsilon))), *others],
        name=node.name,
        metadata_props=dict(node.metadata_props),
    )
    result, shaped = quantize.outputs[0], node.outputs[0]
    result.type, result.shape = ir.TensorType(ir.DataType.INT8), shaped.shape
    draft.graph.insert_after(quantize, whole)
    draft.hand_over(result, whole.outputs[0], [quantize])
    draft.remove([node])
    if not any(each.uses() or each.is_graph_output() for each in dequantize.outputs):
        draft.remove([dequantize])


def _before(node: ir.Node) -> ir.Node:
    value = required(node, 0)
    producer = value.producer()
    if producer is None or op(producer) != "DequantizeLinear":
        raise Refuse(f"the input '{value.name}' of {label(node)} is not dequantised")
    return producer


def _after(node: ir.Node) -> ir.Node:
    value = node.outputs[0]
    if value.is_graph_output():
        raise Refuse(f"the result '{value.name}' of {label(node)} is a graph output")
    uses = list(value.uses())
    if len(uses) != 1 or op(uses[0].node) != "QuantizeLinear" or uses[0].idx != 0:
        readers = ", ".join(dict.fromkeys(label(use.node) for use in uses)) or "nothing"
        raise Refuse(f"the result of {label(node)} is read by {readers}, not by one QuantizeLinear")
    return uses[0].node


def _linear(node: ir.Node, draft: Draft) -> _Linear:
    scale = draft.constants.array(required(node, 1))
    zero = optional(node, 2)
    stored = zero.const_value.dtype if zero is not None and zero.const_value is not None else None
    if zero is None or stored != ir.DataType.INT8:
        raise Refuse(f"{label(node)} is of type {stored.name if stored else 'uint8'}, the integer norms are int8")
    return _Linear(_single_number(node, scale), _single_number(node, draft.constants.array(zero)))


def _single_number(node: ir.Node, array: Array) -> float:
    if array.size != 1:
        raise Refuse(f"{label(node)} has a scale per channel")
    value = float(array.reshape(-1)[0])
    if not np.isfinite(value):
        raise Refuse(f"{label(node)} has a scale that is not a number")
    return value
