"""A model in operator set 21 or 22, which add types to operators and change no meaning that these graphs use."""

from __future__ import annotations

import onnx_ir as ir

from normexport import norms
from normexport.graphs.nodes import op
from normexport.io.onnx_domain import import_opset, opset_in

# From 21 on the scale of the first is one per channel; ONNX Runtime 1.32 has none of 22 of the second.
_NOT_LATER = ("GroupNormalization", "GlobalLpPool")


def in_later_opset(model: ir.Model, opset: int) -> ir.Model:
    """A copy of the model that says operator set `opset`, its functions too, where that is 20 to 22 and it is as new.

    Nothing is rewritten: `stays_in_opset` tells the models for which that would not do.
    """
    copy = model.clone()
    raise_opset(copy, opset)
    return copy


def raise_opset(model: ir.Model, opset: int) -> None:
    """As `in_later_opset`, in place."""
    own = opset_in(model.graph.opset_imports, norms.OPSET)
    import_opset(model.graph.opset_imports, opset)
    for function in model.functions.values():  # the checker wants one version of an operator throughout
        theirs = opset_in(function.opset_imports, opset)
        if function.domain == norms.DOMAIN or theirs == own:
            import_opset(function.opset_imports, max(opset, theirs))


def stays_in_opset(model: ir.Model) -> bool:
    """Whether an operator keeps the model from a later operator set."""
    return any(op(node) in _NOT_LATER for graph in model.graphs() for node in graph)
