"""Whether the attributes of a node hold what their types say, and are of the types that the operator wants."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache

import onnx

from normexport.errors import FoldError
from normexport.io.external_data import quote
from normexport.io.onnx_domain import is_onnx_domain
from normexport.io.onnx_tensors import AGAIN

_A = onnx.AttributeProto
#: The field that holds the value of a type.
FIELD = {
    _A.FLOAT: "f",
    _A.INT: "i",
    _A.STRING: "s",
    _A.TENSOR: "t",
    _A.GRAPH: "g",
    _A.TYPE_PROTO: "tp",
    _A.FLOATS: "floats",
    _A.INTS: "ints",
    _A.STRINGS: "strings",
    _A.TENSORS: "tensors",
    _A.GRAPHS: "graphs",
    _A.TYPE_PROTOS: "type_protos",
}
_SPARSE = (_A.SPARSE_TENSOR, _A.SPARSE_TENSORS)
_LISTS = (_A.FLOATS, _A.INTS, _A.STRINGS, _A.TENSORS, _A.GRAPHS, _A.TYPE_PROTOS)
_ZERO_IS_LEFT_OUT = (_A.FLOAT, _A.INT, _A.STRING)  # by writers that use proto3
_VALUES = (*FIELD.values(), "sparse_tensor", "sparse_tensors")
_HIGHEST_OPSET = 1 << 20


def check_attributes(
    node: onnx.NodeProto, where: str, opsets: Mapping[str, int], parameters: Collection[str] | None
) -> None:
    """Whether each attribute is there once, and is what it says it is.

    Args:
        where: what begins the message of an error.
        opsets: versions of the operator sets in use here, by domain.
        parameters: attributes of the function that the node stands in; None outside of functions.

    Raises:
        FoldError: names the attribute.
    """
    seen: set[str] = set()
    wanted = attribute_types(node.op_type, opsets.get("", 0)) if is_onnx_domain(node.domain) else {}
    for attribute in node.attribute:
        name = attribute.name
        if not name or name in seen:
            raise FoldError(where, f"has {'two attributes' if name else 'an attribute'} named '{quote(name)}'", AGAIN)
        seen.add(name)
        check_attribute(attribute, where, parameters)
        if wanted.get(name, attribute.type) != attribute.type:
            found, right = _A.AttributeType.Name(attribute.type), _A.AttributeType.Name(wanted[name])
            raise FoldError(where, f"attribute {quote(name)} is of type {found}, not {right}", AGAIN)


def check_attribute(attribute: onnx.AttributeProto, where: str, parameters: Collection[str] | None) -> None:
    """Whether an attribute holds a value of its own type and nothing else.

    Raises:
        FoldError: it does not, or stands for a parameter that nothing declares.
    """
    name, kind = quote(attribute.name), attribute.type
    filled = {each for each in _VALUES if (_is_list(each) and getattr(attribute, each)) or _is_set(attribute, each)}
    if kind in _SPARSE or filled & {"sparse_tensor", "sparse_tensors"}:
        raise FoldError(where, f"attribute {name} is a sparse tensor, which is not read", "store it dense")
    if kind not in FIELD:
        raise FoldError(where, f"attribute {name} is of the unknown type {kind}", AGAIN)
    if attribute.ref_attr_name:
        if parameters is None or attribute.ref_attr_name not in parameters:
            cause = f"attribute {name} stands for {quote(attribute.ref_attr_name)}, which is no parameter here"
            raise FoldError(where, cause, AGAIN)
        if filled:
            raise FoldError(where, f"attribute {name} is a parameter and has a value too", AGAIN)
        return
    missing = not filled and kind not in _LISTS and kind not in _ZERO_IS_LEFT_OUT
    if missing or filled - {FIELD[kind]}:
        holds = ", ".join(sorted(filled)) or "nothing"
        raise FoldError(where, f"attribute {name} is of type {_A.AttributeType.Name(kind)} and holds {holds}", AGAIN)
    for text in (attribute.s, *attribute.strings):
        _check_text(text, name, where)


@cache
def attribute_types(operator: str, opset: int) -> Mapping[str, int]:
    """Types of a standard operator's attributes by name; empty for operators that ONNX does not know."""
    if not 0 < opset < _HIGHEST_OPSET:
        return {}
    try:
        schema = onnx.defs.get_schema(operator, opset, "")
    except (onnx.defs.SchemaError, TypeError):  # TypeError: its name is no text
        return {}
    types = {name: str(attribute.type).rpartition(".")[2] for name, attribute in schema.attributes.items()}
    return {name: _A.AttributeType.Value(kind) for name, kind in types.items()}


def _is_list(field: str) -> bool:
    return field.endswith("s") and field != "s"


def _is_set(attribute: onnx.AttributeProto, field: str) -> bool:
    return not _is_list(field) and attribute.HasField(field)


def _check_text(text: bytes, name: str, where: str) -> None:
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise FoldError(where, f"attribute {name} is text that is no UTF-8", AGAIN) from error
