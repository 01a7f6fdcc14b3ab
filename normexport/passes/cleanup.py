"""Takes the bodies of operators that no longer occur out of a folded model."""

from __future__ import annotations

import onnx_ir as ir

from normexport.norms import DOMAIN


def drop_unused_functions(model: ir.Model) -> None:
    """Remove functions of domain `normexport` that nothing calls, and then the domain's import if it is unused."""
    called = {node.op_identifier() for graph in model.graphs() for node in graph}
    called |= {node.op_identifier() for function in model.functions.values() for node in function}
    for identifier in [each for each in model.functions if each[0] == DOMAIN and each not in called]:
        del model.functions[identifier]
    if not any(each[0] == DOMAIN for each in (*called, *model.functions)):
        model.graph.opset_imports.pop(DOMAIN, None)
