"""Operators of ONNX, and of ONNX Runtime's optimiser, that normalise by what they compute at inference.

They divide by a root with epsilon inside it, or subtract no mean: none of this library's operators stands for them.
"""

from __future__ import annotations

import onnx_ir as ir

from normexport.folding import NormOutcome
from normexport.folding.constants import Constants
from normexport.graphs.node_metadata import module_path
from normexport.graphs.nodes import name_of, op

_INSIDE = "computes the statistics of {} at inference, with its epsilon inside the root"
_NO_MEAN = "divides by {} that it computes at inference, and subtracts no mean"
_LAYER, _GROUPS = _INSIDE.format("each sample's layer"), _INSIDE.format("each sample's groups")
_RMS, _LP = _NO_MEAN.format("a root mean square"), _NO_MEAN.format("a p-norm")
_MICROSOFT = "com.microsoft::"

#: By operator: what the norm is called, and why it stays.
_STANDARD = {
    "InstanceNormalization": ("l2", _INSIDE.format("each sample")),
    "LayerNormalization": ("l2", _LAYER),
    "GroupNormalization": ("l2", _GROUPS),
    "MeanVarianceNormalization": ("l2", "computes the statistics of its axes at inference"),
    "RMSNormalization": ("rms", _RMS),
    "LpNormalization": ("lp", _LP),
    "SimplifiedLayerNormalization": ("rms", _RMS),  # ONNX Runtime writes it into ONNX's own domain
    f"{_MICROSOFT}SkipSimplifiedLayerNormalization": ("rms", _RMS),
    f"{_MICROSOFT}SkipLayerNormalization": ("l2", _LAYER),
    f"{_MICROSOFT}EmbedLayerNormalization": ("l2", _LAYER),
    f"{_MICROSOFT}GroupNorm": ("l2", _GROUPS),
    f"{_MICROSOFT}SkipGroupNorm": ("l2", _GROUPS),
}


def standard_norms(graph: ir.Graph) -> tuple[NormOutcome, ...]:
    """An outcome for every such operator of a graph that normalises something else than a constant."""
    nodes = [node for node in graph if op(node) in _STANDARD]
    constants = Constants(graph) if nodes else ()
    found = []
    for node in nodes:
        if node.outputs and node.outputs[0] not in constants:  # a standardised weight is none of the network's norms
            kind, reason = _STANDARD[op(node)]
            told = f"{node.op_type} '{name_of(node)}' {reason}"
            found.append(NormOutcome(name_of(node), module_path(node), kind, "live", "", (), told))
    return tuple(found)
