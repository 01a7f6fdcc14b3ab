"""Size expressions and guards: PyTorch evaluates both as Python, so they are taken apart and written anew.

A size is what sympy prints: `Mul(Integer(3), Symbol('s0', positive=True, integer=True))`. A guard is a condition on the
inputs: `L['x'].size()[2] // 2 >= 2`. Both are parsed without being run; every node must be arithmetic, and the number
that it could come to must stay small (9**9**9 calls nothing and never ends).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from functools import cache

from normexport.checkpoint.pt2.refusal import WouldRun, quoted

_LONGEST, _DEEPEST, _MOST_NODES, _MOST_BITS = 20_000, 48, 4_000, 4_096
#: A size, as an operand: PyTorch's are int64.
_SIZE_BITS = 64
_SYMBOL = re.compile(r"[a-z]{1,4}\d{1,5}")
_FLOAT = re.compile(r"-?\d{1,40}(\.\d{0,40})?(e[+-]?\d{1,3})?")
_KEY = re.compile(r"[\w.\-]{1,256}")

#: What sympy and `torch.utils._sympy.functions` call; each computes a number from numbers.
_FUNCTIONS = frozenset(
    [
        "Symbol",
        "Integer",
        "Float",
        "Rational",
        "Add",
        "Mul",
        "Pow",
        "Max",
        "Min",
        "Mod",
        "floor",
        "ceiling",
        "Not",
        "And",
        "Or",
        "Equality",
        "Eq",
        "Unequality",
        "Ne",
        "GreaterThan",
        "Ge",
        "StrictGreaterThan",
        "Gt",
        "LessThan",
        "Le",
        "StrictLessThan",
        "Lt",
        "Piecewise",
        "ExprCondPair",
        "Tuple",
        "Abs",
        "FloorDiv",
        "ModularIndexing",
        "Where",
        "PythonMod",
        "CleanDiv",
        "CeilDiv",
        "CeilToInt",
        "FloorToInt",
        "IntTrueDiv",
        "FloatTrueDiv",
        "FloatPow",
        "PowByNatural",
        "LShift",
        "RShift",
        "TruncToFloat",
        "TruncToInt",
        "RoundToInt",
        "RoundDecimal",
        "ToFloat",
        "Identity",
        "IsNonOverlappingAndDenseIndicator",
    ]
)
_NAMES = frozenset(
    {"true", "false", "oo", "int_oo", "IntInfinity", "NegativeIntInfinity", "BooleanTrue", "BooleanFalse"}
)
_POWERS = frozenset({"Pow", "PowByNatural", "FloatPow", "LShift"})
_KEYWORDS = frozenset({"positive", "integer", "real", "nonnegative", "negative", "nonzero", "finite", "precision"})

#: What guards call: methods of inputs, and functions that know symbolic numbers.
_METHODS = frozenset({"size", "stride", "storage_offset", "dim", "numel"})
_FIELDS = frozenset({"shape", "ndim"})
_SYM = frozenset(
    [
        "sym_max",
        "sym_min",
        "sym_not",
        "sym_float",
        "sym_int",
        "sym_ite",
        "sym_sum",
        "sym_sqrt",
        "sym_fresh_size",
        "_sym_sqrt",
    ]
)
_MATH = frozenset({"floor", "ceil", "trunc", "sqrt"})
_BUILTINS = frozenset({"max", "min", "abs", "int", "float", "bool", "round"})

_BINARY = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.LShift, ast.RShift)
_COMPARE = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Is, ast.IsNot)


@cache
def plain_size(text: str) -> str:
    """A size expression as it may be evaluated.

    Raises:
        WouldRun: it is more than arithmetic on symbols, or too large.
    """
    return _written_anew(text, "the size", _size_call)


@cache
def plain_guard(text: str) -> str:
    """A guard as it may be compiled.

    Raises:
        WouldRun: it is more than a condition on the inputs' sizes, or too large.
    """
    return _written_anew(text, "the guard", _guard_leaf)


class _NotPlain(Exception):
    """Some node is not allowed."""


#: Bits of the largest number that a call, name, attribute or subscript can come to; raises _NotPlain.
_Leaf = Callable[[ast.expr, int], int]


def _written_anew(text: str, what: str, leaf: _Leaf) -> str:
    try:
        if len(text) > _LONGEST or not text.isprintable():
            raise _NotPlain
        tree = ast.parse(text.strip(), mode="eval").body
        if sum(1 for _ in ast.walk(tree)) > _MOST_NODES:
            raise _NotPlain
        _bits(tree, leaf, 0)
        return ast.unparse(tree)
    # Besides SyntaxError, the parser raises the others for deep, odd or overlong text.
    except (_NotPlain, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise WouldRun(f"{what} {quoted(text)}") from error


def _bits(node: ast.expr, leaf: _Leaf, depth: int) -> int:
    """How many bits the largest number under `node` can have."""
    if depth > _DEEPEST:
        raise _NotPlain

    def inner(child: ast.expr) -> int:
        return _bits(child, leaf, depth + 1)

    match node:
        case ast.Constant(value=bool() | None):
            bits = 1
        case ast.Constant(value=int() as number):
            bits = number.bit_length()
        case ast.Constant(value=float()):
            bits = _SIZE_BITS
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() | ast.Not(), operand=operand):
            bits = inner(operand)
        case ast.BoolOp(values=values):
            bits = max(inner(value) for value in values)
        case ast.Compare(left=left, ops=ops, comparators=others) if all(isinstance(op, _COMPARE) for op in ops):
            bits = max(inner(each) for each in (left, *others))
        case ast.BinOp(left=left, op=op, right=right) if isinstance(op, _BINARY):
            bits = _bits_of_result(type(op).__name__, [inner(left), inner(right)], right)
        case _:
            bits = leaf(node, depth + 1)
    if bits > _MOST_BITS:
        raise _NotPlain
    return bits


def _bits_of_result(operation: str, bits: list[int], last: ast.expr) -> int:
    """Bits of a result from the bits of its operands; a power's exponent must be a small number."""
    if operation in _POWERS:
        exponent = _small_number(last)
        return bits[0] + exponent if operation == "LShift" else bits[0] * max(1, exponent)
    if operation in ("Mult", "Mul"):
        return sum(bits)
    return max(bits, default=1) + len(bits)


def _small_number(node: ast.expr) -> int:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool) and abs(number) <= 64:
            return int(abs(number)) + 1
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _small_number(operand)
        case ast.Call(func=ast.Name(id="Integer" | "Rational"), args=[first, *_]):
            return _small_number(first)
    raise _NotPlain


def _size_call(node: ast.expr, depth: int) -> int:
    match node:
        case ast.Name(id=name) if name in _NAMES or _SYMBOL.fullmatch(name):
            return _SIZE_BITS
        case ast.Call(func=ast.Name(id="Symbol"), args=[ast.Constant(value=str() as name)], keywords=keywords):
            _require_keywords(keywords)
            if _SYMBOL.fullmatch(name):
                return _SIZE_BITS
        case ast.Call(func=ast.Name(id="Float"), args=[ast.Constant(value=str() as number)], keywords=keywords):
            _require_keywords(keywords)
            if _FLOAT.fullmatch(number):
                return _SIZE_BITS
        case ast.Call(func=ast.Name(id=name), args=[*arguments], keywords=keywords) if name in _FUNCTIONS and arguments:
            _require_keywords(keywords)
            if name == "RoundDecimal":
                _small_number(arguments[-1])
            return _bits_of_result(name, [_bits(each, _size_call, depth) for each in arguments], arguments[-1])
        case ast.Tuple(elts=[*values]) if values:
            return max(_bits(value, _size_call, depth) for value in values)
    raise _NotPlain


def _require_keywords(keywords: list[ast.keyword]) -> None:
    for each in keywords:
        plain = isinstance(each.value, ast.Constant) and isinstance(each.value.value, (bool, int))
        if each.arg not in _KEYWORDS or not plain or abs(each.value.value) > 64:  # type: ignore[attr-defined]  # plain
            raise _NotPlain


def _guard_leaf(node: ast.expr, depth: int) -> int:
    match node:
        case ast.Call(func=func, args=[*arguments], keywords=[]):
            bits = [_bits(each, _guard_leaf, depth) for each in arguments]
            if isinstance(func, ast.Attribute) and func.attr in _METHODS and len(arguments) <= 1:
                _require_input(func.value, depth)
                return _SIZE_BITS
            if not _is_function(func):
                raise _NotPlain
            return _bits_of_result("call", [*bits, 1], func)
        case ast.Attribute(value=value, attr=name) if name in _FIELDS:
            _require_input(value, depth)
            return _SIZE_BITS
        case ast.Subscript(
            value=ast.Call() | ast.Attribute() as value, slice=ast.Constant(value=int()) | ast.UnaryOp() as at
        ):
            _bits(at, _guard_leaf, depth)
            return _bits(value, _guard_leaf, depth)
        case ast.Subscript():
            _require_input(node, depth)
            return _SIZE_BITS
    raise _NotPlain


def _is_function(func: ast.expr) -> bool:
    match func:
        case ast.Name(id=name):
            return name in _BUILTINS
        case ast.Attribute(value=ast.Name(id="torch"), attr=name):
            return name in _SYM
        case ast.Attribute(value=ast.Name(id="math"), attr=name):
            return name in _MATH
    return False


def _require_input(node: ast.expr, depth: int) -> None:
    """L['x'], and what lies in it: L['x'][0]['mask']."""
    if depth > _DEEPEST:
        raise _NotPlain
    match node:
        case ast.Name(id="L"):
            return
        case ast.Subscript(value=value, slice=ast.Constant(value=str() | int() as key)):
            if isinstance(key, str) and not _KEY.fullmatch(key):
                raise _NotPlain
            _require_input(value, depth + 1)
            return
        case ast.Attribute(value=value, attr=name) if _KEY.fullmatch(name) and not name.startswith("_"):
            _require_input(value, depth + 1)  # a field of a named tuple
            return
    raise _NotPlain
