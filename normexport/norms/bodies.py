"""The bodies of our operators in a model: attached, so that any runtime can run it, and taken out again."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from normexport.graphs.opsets import LOWEST, body_in_opset
from normexport.io.onnx_domain import opset_in
from normexport.norms import DOMAIN, OPSET, VERSION, functions, live_ops
from normexport.norms.calls import Calls, calls_in
from normexport.norms.fitted_function import RANKS, fitted_function
from normexport.norms.scope import Scope


def attach_bodies(model: ir.Model) -> None:
    """Add, in place, one function per used operator and the opset import; drop those no longer used.

    A live norm of whose calls enough is certain gets the body for them, others the one for every rank.
    """
    used = {node.op_type for node in model.graph.all_nodes() if node.domain == DOMAIN}
    for key in [key for key in model.functions if key[0] == DOMAIN and key[1] not in used]:
        del model.functions[key]
    opset = min(OPSET, opset_in(model.graph.opset_imports, OPSET))
    for name, calls in calls_in(model).items():
        body = ir.serde.deserialize_function(_body(name, calls)) if name in functions() else None
        if body is not None and (name in live_ops() or (DOMAIN, name, "") not in model.functions):
            if opset >= LOWEST:
                body_in_opset(body, opset, f"{DOMAIN}.{name}")
            model.functions[DOMAIN, name, ""] = body
    if used:
        model.graph.opset_imports[DOMAIN] = VERSION
    else:
        model.graph.opset_imports.pop(DOMAIN, None)


def _body(name: str, calls: Calls | None) -> onnx.FunctionProto:
    """The body of an operator that serves such calls best, the one for every rank where it has no other."""
    kind = live_ops().get(name)
    if kind is None or calls is None or calls.rank not in RANKS[Scope.of_op(name)]:
        return functions()[name]
    return fitted_function(kind, Scope.of_op(name), calls)


def drop_unused_functions(model: ir.Model) -> None:
    """Remove functions of domain `normexport` that nothing calls, and then the domain's import if it is unused."""
    called = {node.op_identifier() for graph in model.graphs() for node in graph}
    called |= {node.op_identifier() for function in model.functions.values() for node in function}
    for identifier in [each for each in model.functions if each[0] == DOMAIN and each not in called]:
        del model.functions[identifier]
    if not any(each[0] == DOMAIN for each in (*called, *model.functions)):
        model.graph.opset_imports.pop(DOMAIN, None)
