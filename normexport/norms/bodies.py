"""The bodies of our operators in a model: attached, so that any runtime can run it, and taken out again."""

from __future__ import annotations

import onnx_ir as ir

from normexport.graphs.opsets import LOWEST, body_in_opset
from normexport.norms import DOMAIN, OPSET, VERSION, functions


def attach_bodies(model: ir.Model) -> None:
    """Add, in place, one function per used operator and the opset import; drop those no longer used."""
    bodies = functions()
    used = {node.op_type for node in model.graph.all_nodes() if node.domain == DOMAIN}
    for key in [key for key in model.functions if key[0] == DOMAIN and key[1] not in used]:
        del model.functions[key]
    opset = min(OPSET, model.graph.opset_imports.get("", OPSET))
    for name in sorted(used & bodies.keys()):
        if (DOMAIN, name, "") not in model.functions:
            body = ir.serde.deserialize_function(bodies[name])
            if opset >= LOWEST:
                body_in_opset(body, opset, f"{DOMAIN}.{name}")
            model.functions[DOMAIN, name, ""] = body
    if used:
        model.graph.opset_imports[DOMAIN] = VERSION
    else:
        model.graph.opset_imports.pop(DOMAIN, None)


def drop_unused_functions(model: ir.Model) -> None:
    """Remove functions of domain `normexport` that nothing calls, and then the domain's import if it is unused."""
    called = {node.op_identifier() for graph in model.graphs() for node in graph}
    called |= {node.op_identifier() for function in model.functions.values() for node in function}
    for identifier in [each for each in model.functions if each[0] == DOMAIN and each not in called]:
        del model.functions[identifier]
    if not any(each[0] == DOMAIN for each in (*called, *model.functions)):
        model.graph.opset_imports.pop(DOMAIN, None)
