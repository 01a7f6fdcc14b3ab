"""Prove that opening a `.pt2` archive runs no code of its author, before `torch.export.load` opens it.

PyTorch's reader falls back to full unpickling for sample inputs and pickled tensors, resolves operators by any
dotted name under `torch`, evaluates size expressions with sympy and compiles guards: an archive can carry code in
each. Programs that `torch.export.save` writes of ordinary models use none of it.
"""

from __future__ import annotations

import ast
import io
import json
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils._sympy import functions as sympy_functions

from normexport.errors import CheckpointError

#: One part of a dotted name: no dunder but those of bitwise operators, which aten has.
_PART = r"(?:__i?(?:and|or|xor|lshift|rshift)__|(?!__)\w+)"
_ARITHMETIC = (
    "add|sub|mul|truediv|floordiv|mod|pow|neg|pos|eq|ne|lt|le|gt|ge|and_|or_|not_|is_|is_not|getitem|lshift|rshift"
)
_TARGET = re.compile(rf"torch\.ops\.{_PART}(?:\.{_PART})+|torch\._?sym_\w+|math\.(?!_)\w+|_operator\.(?:{_ARITHMETIC})")
_SYMBOL = re.compile(r"[A-Za-z]+\d+")
_FUNCTIONS = frozenset(sympy_functions.__all__) | {
    "Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Pow", "Max", "Min", "Mod", "floor", "ceiling", "Not",
    "And", "Or", "Equality", "Eq", "Unequality", "Ne", "GreaterThan", "Ge", "StrictGreaterThan", "Gt", "LessThan",
    "Le", "StrictLessThan", "Lt", "Piecewise", "ExprCondPair", "Tuple", "Abs", "true", "false", "oo", "int_oo",
    "IntInfinity", "NegativeIntInfinity",
}  # fmt: skip
_GUARD_CALLS = frozenset({"size", "stride", "storage_offset", "dim", "numel"})
_GUARD_FUNCTIONS = frozenset({"max", "min", "abs"})
_PLAIN = (
    ast.Expression, ast.Constant, ast.Load, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop, ast.Compare, ast.cmpop,
    ast.BoolOp, ast.boolop, ast.Subscript, ast.Tuple, ast.List, ast.keyword,
)  # fmt: skip


def require_plain_program(path: Path) -> None:
    """Refuse an archive that would run code when it is opened.

    Raises:
        CheckpointError: naming what would run, or that the archive is not readable.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for found in _code_in(archive):
                raise CheckpointError(
                    str(path), f"would run code to be opened: {found}", "pass --trust if you trust its author"
                )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(str(path), "is a damaged exported program", "export it again") from error


def _code_in(archive: zipfile.ZipFile) -> Iterator[str]:
    for info in archive.infolist():
        name = info.filename.partition("/")[2]
        if name.endswith(("weights_config.json", "constants_config.json")):
            yield from _pickled_payloads(json.loads(archive.read(info)))
        elif name.startswith("models/"):
            yield from _code_in_program(json.loads(archive.read(info)))
        elif name.startswith("data/") and name.endswith(".pt"):
            yield from _code_in_pickle(name, archive.read(info))


def _pickled_payloads(config: dict[str, Any]) -> Iterator[str]:
    for name, payload in config["config"].items():
        if payload.get("use_pickle") or not str(payload["path_name"]).startswith(("weight_", "tensor_")):
            yield f"the pickled constant {name}"


def _code_in_pickle(name: str, data: bytes) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        # Damaged or malicious, torch.export.load would now unpickle it in full.
        except Exception:
            yield f"the pickle {name}"


def _code_in_program(program: dict[str, Any]) -> Iterator[str]:
    for guard in program.get("guards_code") or ():
        if not _is_plain(guard, _guard_node):
            yield f"the guard {guard[:80]!r}"
    for key, value in _strings(program):
        if key == "target" and not _TARGET.fullmatch(value):
            yield f"the operator {value[:80]!r}"
        elif key == "expr_str" and not _is_plain(value, _size_node):
            yield f"the size {value[:80]!r}"
        elif key in ("in_spec", "out_spec") and ("default_factory" in value or "__enum__" in value):
            yield "a type imported for the inputs or outputs"


def _strings(found: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every string of nested JSON with the key it stands under."""
    if isinstance(found, dict):
        for name, value in found.items():
            yield from _strings(value, name)
    elif isinstance(found, list):
        for value in found:
            yield from _strings(value, key)
    elif isinstance(found, str):
        yield key, found


def _is_plain(text: str, allows: Any) -> bool:
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError:
        return False
    return all(isinstance(node, _PLAIN) or allows(node) for node in ast.walk(tree)) and "__" not in text


def _size_node(node: ast.AST) -> bool:
    """Arithmetic on symbols: Symbol('s16', positive=True), Max(Integer(1), s0 - 2). No strings but names."""
    if isinstance(node, ast.Call):
        strings = [each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        return isinstance(node.func, ast.Name) and all(_SYMBOL.fullmatch(each) or _number(each) for each in strings)
    return isinstance(node, ast.Name) and (node.id in _FUNCTIONS or bool(_SYMBOL.fullmatch(node.id)))


def _number(text: str) -> bool:
    """sympy writes floats as Float('0.5', precision=53)."""
    return bool(re.fullmatch(r"[-+.\de]+", text))


def _guard_node(node: ast.AST) -> bool:
    """Conditions on input shapes: L['x'].size()[2] >= 3."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, (ast.Attribute, ast.Name))  # judged as nodes of their own, below
    if isinstance(node, ast.Attribute):
        return node.attr in _GUARD_CALLS | {"shape", "ndim"}
    return isinstance(node, ast.Name) and (node.id == "L" or node.id in _GUARD_FUNCTIONS)
