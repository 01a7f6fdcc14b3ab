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
from normexport.norms import KINDS, NormKind, functions
from normexport.norms.function import DOMAIN, OPSET, earlier_live_function
from normexport.norms.scope import Scope

#: What versions up to 0.2 had operators for.
_EARLIER_SCOPES = (Scope.BATCH, Scope.INSTANCE)


def require_own_bodies(model: ir.Model) -> None:
    """Refuse a model in which a function of domain `normexport` is not the operator's own body, of any version or set.

    Names of values, nodes and documentation do not count.

    Raises:
        FoldError: naming the function.
    """
    for (domain, name, overload), function in model.functions.items():
        if domain != DOMAIN:
            continue
        own = _own_bodies(name, tuple(KINDS.values())) if not overload else ()
        if _meaning(ir.serde.serialize_function(function)) not in own:
            raise FoldError(
                f"function {DOMAIN}.{name}",
                "has a body that is not this operator's (somebody changed it, or a newer version wrote it)",
                "export the model again",
            )


@cache
def _own_bodies(name: str, kinds: tuple[NormKind, ...]) -> tuple[bytes, ...]:
    """The operator's body as `onnx_ir` writes it, that of earlier versions too; `kinds` are the registered ones.

    Empty where there is no such operator.
    """
    now = functions().get(name)
    before = [earlier_live_function(k, scope) for k in kinds for scope in _EARLIER_SCOPES if k.op(scope) == name]
    written = [ir.serde.deserialize_function(body) for body in (*([now] if now is not None else []), *before)]
    for opset, body in product(range(LOWEST, OPSET), [now] if now is not None else []):
        older = ir.serde.deserialize_function(body)
        with suppress(FoldError):  # one that is not to be had there
            body_in_opset(older, opset, name)
            written.append(older)
    return tuple(_meaning(ir.serde.serialize_function(body)) for body in written)


def _meaning(function: onnx.FunctionProto) -> bytes:
    """What a body computes, without the names it uses: equal for bodies that compute alike, node by node."""
    names: dict[str, str] = {"": ""}

    def renamed(name: str) -> str:
        return names.setdefault(name, f"v{len(names)}")

    plain = onnx.FunctionProto(name=function.name, domain=function.domain)
    plain.input.extend(renamed(name) for name in function.input)
    plain.attribute.extend(sorted(function.attribute))
    plain.attribute_proto.extend(sorted(function.attribute_proto, key=lambda each: each.name))
    for opset in sorted(function.opset_import, key=lambda each: each.domain):
        # A body is as good under a newer set of operators: half models take one that has bfloat16 throughout.
        plain.opset_import.add(domain=opset.domain, version=min(opset.version, OPSET))
    for node in function.node:
        made = plain.node.add(op_type=node.op_type, domain=node.domain)
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
