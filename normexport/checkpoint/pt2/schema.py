"""A program's JSON, checked against PyTorch's schema and written anew from what the schema knows.

PyTorch's reader takes what it finds: a string where a list should be, a name that is an expression. Here every value
has the type of its field (`torch._export.serde.schema`), and every string, which may become source, an import or a
file, has the grammar of its field. Fields that PyTorch does not need to compute (stack traces, where a node came from,
what the exporter noted) are left out.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import re
import types
import typing
from collections.abc import Callable
from functools import cache
from typing import Any

from torch._export.serde import schema
from torch._export.serde.union import _Union

from normexport.checkpoint.names import is_identifier, is_module_path
from normexport.checkpoint.pt2.expressions import plain_guard, plain_size
from normexport.checkpoint.pt2.operators import require_plain_operator
from normexport.checkpoint.pt2.refusal import Damaged, WouldRun, quoted
from normexport.checkpoint.pt2.treespec import plain_treespec

_DEEPEST = 64
_INT64 = 1 << 63
_FLOATS = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}  # as PyTorch writes them
_VERSION = re.compile(r"[\w.+<=\-]{1,64}")
_SYMBOL = re.compile(r"[a-z]{1,4}\d{1,4}")
_LINEAR = re.compile(r"\d{1,9}\*[a-z]{1,4}\d{1,4}(?: [+-] \d{1,9})?|[a-z]{1,4}\d{1,4} [+-] \d{1,9}")
_PAYLOAD = re.compile(r"(weight|tensor)_\d{1,9}")
_CLASS = re.compile(r"[\w.<>\[\],\- ()@:]{0,512}")
#: Names that torch.fx gives to modules and values in every function that it writes.
_TAKEN = frozenset({"self", "torch", "device", "inf", "nan", "NoneType", "fx_pytree", "pytree", "operator", "math"})

#: Checks a JSON value and gives what to write in its place; the depth is that of the nesting.
Check = Callable[[Any, int], Any]


def plain_program(found: Any) -> dict[str, Any]:
    """An exported program's JSON as PyTorch may read it.

    Raises:
        WouldRun: it holds code, an import, or an operator that does more than compute.
        Damaged: it is not of the schema.
    """
    plain: dict[str, Any] = _check(schema.ExportedProgram)(found, 0)
    return plain


def plain_payloads(found: Any) -> dict[str, Any]:
    """The table of an archive's weights or constants: name -> its file, type, shape and strides.

    Raises:
        WouldRun, Damaged: see `plain_program`.
    """
    plain: dict[str, Any] = _check(schema.PayloadConfig)(found, 0)["config"]
    return plain


@cache
def _check(hint: Any) -> Check:
    """The check of a type hint of PyTorch's schema."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _check(inner[0])
    if origin in (typing.Union, types.UnionType):
        (wanted,) = (each for each in inner if each is not type(None))
        return _optional(_check(wanted))
    if origin is list:
        return _list(lambda found, depth: _check(inner[0])(found, depth))  # at its use: the schema is recursive
    if origin is dict:
        return _dict(inner[1], _is_printable)
    if isinstance(hint, type) and issubclass(hint, enum.IntEnum):
        return _member(hint)
    if isinstance(hint, type) and issubclass(hint, _Union):
        return _union(hint)
    if dataclasses.is_dataclass(hint):
        return _record(hint)
    return _SCALARS[hint]


def _record(kind: Any) -> Check:
    """All fields of a dataclass; unknown ones, of a later PyTorch, are left out, as PyTorch's reader does."""
    hints = typing.get_type_hints(kind, vars(schema), include_extras=True)
    checks: dict[str, tuple[Check, bool]] = {}

    def check(found: Any, depth: int) -> Any:
        if not checks:  # filled at the first use: the schema is recursive
            for each in dataclasses.fields(kind):
                required = each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
                checks[each.name] = (_FIELDS.get((kind.__name__, each.name)) or _check(hints[each.name]), required)
        if depth > _DEEPEST:
            raise Damaged("its graph is nested too deeply")
        if not isinstance(found, dict):
            raise Damaged(f"a {kind.__name__} is {quoted(found)}")
        plain = {}
        for name, (inner, required) in checks.items():
            if name in found:
                plain[name] = inner(found[name], depth + 1)
            elif required:
                raise Damaged(f"a {kind.__name__} has no {name}")
        return plain

    return check


def _union(kind: type[_Union]) -> Check:
    """One of several fields."""
    hints = typing.get_type_hints(kind, vars(schema), include_extras=True)

    def check(found: Any, depth: int) -> Any:
        if depth > _DEEPEST:
            raise Damaged("its graph is nested too deeply")
        if not isinstance(found, dict) or len(found) != 1 or next(iter(found)) not in hints:
            raise Damaged(f"a {kind.__name__} is {quoted(found)}")
        ((name, value),) = found.items()
        inner = _FIELDS.get((kind.__name__, name)) or _check(hints[name])
        return {name: inner(value, depth + 1)}

    return check


def _list(inner: Check) -> Check:
    def check(found: Any, depth: int) -> Any:
        if not isinstance(found, list):
            raise Damaged(f"a list is {quoted(found)}")
        return [inner(each, depth + 1) for each in found]

    return check


def _dict(hint: Any, is_key: Callable[[str], bool]) -> Check:
    def check(found: Any, depth: int) -> Any:
        if not isinstance(found, dict):
            raise Damaged(f"a table is {quoted(found)}")
        for key in found:
            if not is_key(key):
                raise WouldRun(f"the name {quoted(key)}")
        inner = _check(hint)
        return {key: inner(value, depth + 1) for key, value in found.items()}

    return check


def _ranges(found: Any, depth: int) -> Any:
    """Ranges of symbols. PyTorch writes those of 2*s0 and s0 + 1 too and never reads them: they are left out."""
    kept = (
        {key: value for key, value in found.items() if not _LINEAR.fullmatch(key)} if isinstance(found, dict) else found
    )
    return _dict(schema.RangeConstraint, lambda key: _SYMBOL.fullmatch(key) is not None)(kept, depth)


def _optional(inner: Check) -> Check:
    return lambda found, depth: None if found is None else inner(found, depth)


def _member(kind: type[enum.IntEnum]) -> Check:
    members = {int(each) for each in kind}

    def check(found: Any, depth: int) -> int:
        if type(found) is not int or found not in members:
            raise Damaged(f"a {kind.__name__} is {quoted(found)}")
        return found

    return check


def _integer(found: Any, depth: int) -> int:
    if type(found) is not int or not -_INT64 <= found < _INT64:
        raise Damaged(f"an integer is {quoted(found)}")
    return found


def _boolean(found: Any, depth: int) -> bool:
    if type(found) is not bool:
        raise Damaged(f"a truth value is {quoted(found)}")
    return found


def _number(found: Any, depth: int) -> float | str:
    if isinstance(found, str) and found in _FLOATS:
        return found
    if type(found) not in (int, float) or not math.isfinite(found):
        raise Damaged(f"a number is {quoted(found)}")
    return float(found)


def _text(is_right: Callable[[str], bool], what: str) -> Check:
    """A string of one grammar. Any other is taken for code, which it may become."""

    def check(found: Any, depth: int) -> str:
        if not isinstance(found, str):
            raise Damaged(f"{what} is {quoted(found)}")
        if not is_right(found):
            raise WouldRun(f"{what} {quoted(found)}")
        return found

    return check


def _rewritten(write: Callable[[str], str], what: str) -> Check:
    def check(found: Any, depth: int) -> str:
        if not isinstance(found, str):
            raise Damaged(f"{what} is {quoted(found)}")
        return write(found)

    return check


def _is_printable(text: str) -> bool:
    """Text that torch.fx writes as a literal: equations, modes, kinds of norms."""
    return len(text) <= 512 and text.isprintable() and not set(text) & set("\"'\\")


def _is_value(text: str) -> bool:
    return is_identifier(text) and text not in _TAKEN


def _target(found: Any, depth: int) -> str:
    if not isinstance(found, str):
        raise Damaged(f"an operator is {quoted(found)}")
    require_plain_operator(found)
    return found


def _on_cpu(found: Any, depth: int) -> dict[str, Any]:
    """A program exported on a GPU computes the same on the CPU."""
    if not isinstance(found, dict) or found.get("type") not in ("cpu", "cuda"):
        raise Damaged(f"a device is {quoted(found)}")
    return {"type": "cpu", "index": None}


def _module_stack(found: Any, depth: int) -> dict[str, str]:
    """Of a node's notes only the modules that it stands in: "key,path,class;key,path,class"."""
    if not isinstance(found, dict):
        raise Damaged(f"a node's notes are {quoted(found)}")
    stack = found.get("nn_module_stack")
    if stack is None or stack == "":
        return {}
    if not isinstance(stack, str) or len(stack) > 1 << 16:
        raise Damaged(f"a node's modules are {quoted(stack)}")
    for entry in stack.split(";"):
        if not _CLASS.fullmatch(entry) or entry.count(",") < 2:
            raise WouldRun(f"the module {quoted(entry)}")
    return {"nn_module_stack": stack}


def _left_out(value: Any) -> Check:
    return lambda found, depth: value


def _refuse_any(what: str) -> Check:
    def check(found: Any, depth: int) -> Any:
        raise WouldRun(what)

    return check


_value = _text(_is_value, "the name")
_path = _text(is_module_path, "the name")

_SCALARS: dict[Any, Check] = {
    int: _integer,
    bool: _boolean,
    float: _number,
    str: _text(_is_printable, "the text"),
}

#: Fields whose value is more than its type; what is a `str` in the schema has its grammar here.
_FIELDS: dict[tuple[str, str], Check] = {
    **{(kind, "name"): _value for kind in ("TensorArgument", "GraphArgument", "InputToConstantInputSpec")},
    **{(f"Sym{kind}Argument", "as_name"): _value for kind in ("Int", "Float", "Bool")},
    **{("Graph", name): _dict(kind, _is_value) for name, kind in (
        ("tensor_values", schema.TensorMeta), ("sym_int_values", schema.SymInt), ("sym_bool_values", schema.SymBool),
        ("sym_float_values", schema.SymFloat))},
    ("Graph", "custom_obj_values"): _dict(schema.CustomObjArgument, lambda key: False),
    ("CustomObjArgument", "name"): _refuse_any("an object of the author's own class"),
    ("TokenArgument", "name"): _refuse_any("operators with effects"),
    ("Node", "target"): _target,
    ("Node", "name"): _optional(_value),
    ("Node", "metadata"): _module_stack,
    ("NamedArgument", "name"): _text(lambda text: text == "self" or text == "" or is_identifier(text), "the argument"),
    ("Argument", "as_operator"): _target,
    ("Argument", "as_string_to_argument"): _dict(schema.Argument, is_identifier),
    ("Argument", "as_device"): _on_cpu,
    ("TensorMeta", "device"): _on_cpu,
    ("SymExpr", "expr_str"): _rewritten(plain_size, "a size"),
    ("InputToParameterSpec", "parameter_name"): _path,
    ("InputToBufferSpec", "buffer_name"): _path,
    ("InputToTensorConstantSpec", "tensor_constant_name"): _path,
    ("InputToCustomObjSpec", "custom_obj_name"): _path,
    ("BufferMutationSpec", "buffer_name"): _path,
    ("ParameterMutationSpec", "parameter_name"): _path,
    ("GradientToParameterSpec", "parameter_name"): _path,
    ("GradientToUserInputSpec", "user_input_name"): _value,
    ("UserInputMutationSpec", "user_input_name"): _value,
    ("ModuleCallEntry", "fqn"): _text(lambda text: text == "" or is_module_path(text.replace("@", ".")), "the name"),
    ("ModuleCallSignature", "in_spec"): _rewritten(lambda text: plain_treespec(text, arguments=True)[0], "a structure"),
    ("ModuleCallSignature", "out_spec"): _rewritten(lambda text: plain_treespec(text)[0], "a structure"),
    ("ModuleCallSignature", "forward_arg_names"): _optional(_list(_value)),
    ("GraphModule", "metadata"): _left_out({}),
    ("GraphModule", "treespec_namedtuple_fields"): _left_out({}),
    ("ExportedProgram", "range_constraints"): _ranges,
    ("ExportedProgram", "torch_version"): _text(lambda text: _VERSION.fullmatch(text) is not None, "the version"),
    ("ExportedProgram", "guards_code"): _list(_rewritten(plain_guard, "a guard")),
    ("PayloadConfig", "config"): _dict(schema.PayloadMeta, is_module_path),
    ("PayloadMeta", "path_name"): _text(lambda text: _PAYLOAD.fullmatch(text) is not None, "the pickled constant in"),
}  # fmt: skip
