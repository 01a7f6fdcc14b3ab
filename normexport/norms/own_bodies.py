"""Operators of our domain mean what normexport says, whatever body a file gives them.

Native kernels, plugins and the fold go by an operator's name, runtimes without them by the body in the file. A body
that computes something else would be proven on the kernels and served as itself.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from itertools import product

import onnx
import onnx.numpy_helper
import onnx_ir as ir

from normexport.errors import FoldError
from normexport.graphs.opsets import LOWEST, body_in_opset
from normexport.io.onnx_domain import plain_domain
from normexport.norms import KINDS, NormKind, functions
from normexport.norms.calls import Calls, calls_in
from normexport.norms.fitted_function import RANKS, fitted_function
from normexport.norms.function import DOMAIN, OPSET, earlier_live_function
from normexport.norms.scope import Scope

#: What versions up to 0.2 had operators for.
_EARLIER_SCOPES = (Scope.BATCH, Scope.INSTANCE)


def require_own_bodies(model: ir.Model) -> None:
    """Refuse a model in which a function of domain `normexport` is not the operator's own body, of any version or set.

    Names of values, nodes and documentation do not count. A body for some calls is the operator's own where every call
    is certain to be one of them.

    Raises:
        FoldError: naming the function.
    """
    fitted: dict[str, Calls] = {}
    for (domain, name, overload), function in model.functions.items():
        if domain != DOMAIN:
            continue
        own = _own_bodies(name, tuple(KINDS.values())) if not overload else {}
        meaning = _meaning(ir.serde.serialize_function(function))
        if meaning not in own:
            cause = "has a body that is not this operator's (somebody changed it, or a newer version wrote it)"
            raise FoldError(f"function {DOMAIN}.{name}", cause, "export the model again")
        if (served := own[meaning]) is not None:
            fitted[name] = served
    calls = calls_in(model) if fitted else {}
    for name, served in fitted.items():
        found = calls.get(name, served)
        if found is None or not found.are_served_by(served):
            cause = f"has a body for {served.rank} axes, and is called where it is not certain that it is right"
            raise FoldError(f"function {DOMAIN}.{name}", cause, "export the model again")


@cache
def _own_bodies(name: str, kinds: tuple[NormKind, ...]) -> dict[bytes, Calls | None]:
    """The meanings of the operator's bodies, those of earlier versions too; `kinds` are the registered ones.

    With each the calls that it serves, None for any. Empty where there is no such operator.
    """
    cases = [(each, scope) for each in kinds for scope in Scope if each.op(scope) == name]
    general = functions().get(name)
    current: list[tuple[onnx.FunctionProto, Calls | None]] = [] if general is None else [(general, None)]
    for (kind, scope), corrected in product(cases, (False, True)):
        served = [Calls(rank, corrected) for rank in RANKS[scope]]
        current += [(fitted_function(kind, scope, calls), calls) for calls in served]
    before = [earlier_live_function(each, scope) for each, scope in cases if scope in _EARLIER_SCOPES]
    own: dict[bytes, Calls | None] = {}
    for body, calls in (*current, *((body, None) for body in before)):
        own[_meaning(ir.serde.serialize_function(ir.serde.deserialize_function(body)))] = calls
    for opset, (body, calls) in product(range(LOWEST, OPSET), current):
        older = ir.serde.deserialize_function(body)
        with suppress(FoldError):  # one that is not to be had there
            body_in_opset(older, opset, name)
            own[_meaning(ir.serde.serialize_function(older))] = calls
    return own


def _meaning(function: onnx.FunctionProto) -> bytes:
    """What a body computes, without the names it uses: equal for bodies that compute alike, node by node."""
    names: dict[str, str] = {"": ""}

    def renamed(name: str) -> str:
        return names.setdefault(name, f"v{len(names)}")

    plain = onnx.FunctionProto(name=function.name, domain=function.domain)
    plain.input.extend(renamed(name) for name in function.input)
    plain.attribute.extend(sorted(function.attribute))
    plain.attribute_proto.extend(sorted(function.attribute_proto, key=lambda each: each.name))
    for opset in sorted(function.opset_import, key=lambda each: plain_domain(each.domain)):
        # A body is as good under a newer set of operators: half models take one that has bfloat16 throughout.
        plain.opset_import.add(domain=plain_domain(opset.domain), version=min(opset.version, OPSET))
    for node in function.node:
        made = plain.node.add(op_type=node.op_type, domain=plain_domain(node.domain))
        made.input.extend(renamed(name) for name in node.input)
        made.output.extend(renamed(name) for name in node.output)
        for attribute in sorted(node.attribute, key=lambda each: each.name):
            kept = made.attribute.add()
            kept.CopyFrom(attribute)
            kept.ClearField("doc_string")
            if kept.HasField("t"):  # numbers can stand in several fields: in one, as bytes
                kept.t.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(kept.t)))
    plain.output.extend(renamed(name) for name in function.output)
    content: bytes = plain.SerializeToString(deterministic=True)
    return content
