"""Whether nodes of our own operators have the attributes that these operators have."""

from __future__ import annotations

import onnx_ir as ir

from normexport.errors import FoldError
from normexport.graphs.nodes import label
from normexport.norms import DOMAIN, functions


def check_operators(graph: ir.Graph) -> None:
    """Compare attributes with those that the operators' own bodies declare. ONNX knows only its own.

    Raises:
        FoldError: an attribute is of another type.
    """
    for node in graph:
        known = functions().get(node.op_type) if node.domain == DOMAIN else None
        for wanted in known.attribute_proto if known is not None else ():
            found = node.attributes.get(wanted.name)
            if found is not None and found.type != wanted.type:
                cause = (
                    f"attribute {wanted.name} is of type {found.type.name}, not {ir.AttributeType(wanted.type).name}"
                )
                raise FoldError(label(node), cause, "export or download it again")
