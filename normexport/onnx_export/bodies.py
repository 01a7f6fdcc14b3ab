"""Attach to a model the bodies of the `normexport` operators it uses, so that any runtime can run it."""

from __future__ import annotations

import onnx_ir as ir

from normexport import norms


def attach_bodies(model: ir.Model) -> None:
    """Add, in place, one function per used operator and the opset import; drop those no longer used."""
    functions = norms.functions()
    used = {node.op_type for node in model.graph.all_nodes() if node.domain == norms.DOMAIN}
    for key in [key for key in model.functions if key[0] == norms.DOMAIN and key[1] not in used]:
        del model.functions[key]
    for name in sorted(used & functions.keys()):
        model.functions.setdefault((norms.DOMAIN, name, ""), ir.serde.deserialize_function(functions[name]))
    if used:
        model.graph.opset_imports[norms.DOMAIN] = norms.VERSION
    else:
        model.graph.opset_imports.pop(norms.DOMAIN, None)
