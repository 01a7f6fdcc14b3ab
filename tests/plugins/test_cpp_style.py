"""What clang-format does not see in C++ and CUDA: a statement does one thing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    file
    for folder in ("plugins", "tests")
    for ending in ("h", "c", "cpp", "cu", "cuh")
    for file in (ROOT / folder).rglob(f"*.{ending}")
)

_NOISE = re.compile(
    r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|^[ \t]*\#(?:[^\n\\]|\\.|\\\n)*""", re.S | re.M
)
#: A name with what is asked of it, and something that changes it: unlike a declaration, which begins with a type.
_CHANGE = re.compile(
    r"(?:\+\+|--|\*)?[A-Za-z_][\w:]*(?:\[[^][]*\]|\.\w+|->\w+|\([^()]*\))*\s*"
    r"(?:(?:[-+*/|&^%]|<<|>>)?=(?!=)|\+\+|--|,)"
)
_HEAD = re.compile(r"(?:(?:if|while|for|switch)\s*(?:constexpr\s*)?(?=\()|else\b|do\b)\s*")


def comma_statements(source: str) -> list[int]:
    """The lines of statements that a comma joins: `a = 1, b = 2;`. Declarations and heads of loops may have one."""
    text = _NOISE.sub(lambda found: re.sub(r"[^\n]", " ", found.group()), source)
    return [text[:start].count("\n") + 1 for start, statement in _statements(text) if _is_joined(statement)]


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """What ends in a semicolon, with its place; what ends in a brace is a head, or a list of values."""
    depth, start = 0, 0
    for index, letter in enumerate(text):
        depth += (letter in "([") - (letter in ")]")
        if letter in ";{}" and depth == 0:
            statement = text[start:index]
            if letter == ";":
                yield start + len(statement) - len(statement.lstrip()), statement.strip()
            start = index + 1


def _is_joined(statement: str) -> bool:
    while head := _HEAD.match(statement):
        statement = statement[head.end() :]
        statement = statement[_closed(statement) :].lstrip() if statement.startswith("(") else statement
    depth, commas = 0, 0
    for letter in statement:
        depth += (letter in "([{") - (letter in ")]}")
        commas += letter == "," and depth == 0
    return commas > 0 and _CHANGE.match(statement) is not None


def _closed(text: str) -> int:
    """The index behind the bracket that closes the first one."""
    depth = 0
    for index, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return index + 1
    return len(text)


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_comma_joins_two_statements(file: Path) -> None:
    assert comma_statements(file.read_text()) == []


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("void f() {\n  a = 1, b = 2;\n}", [2]),
        ("void f() {\n  if (x)\n    p->a[i] += g(1, 2), ++n;\n}", [2]),
        ("void f() {\n  *p++, q = 2;\n  for (;;) i++, j--;\n}", [2, 3]),
        ("void f() {\n  g(x), h(y);\n  x.first, y;\n}", [2, 3]),
        ("enum E { A = 0, B = 1 };\nint a = 1, b = 2;\nstd::size_t c = 0, d;", []),
        ("void f() {\n  for (i = 0, j = 1; i < j; i++, j--) a[i] = g(i, j);\n  b = {1, 2};  // c = 1, d = 2;\n}", []),
        ('template <int A, int B>\nvoid f() {\n  static const char* s = "a = 1, b";\n  Vec<int, 2> v;\n}', []),
    ],
)
def test_joined_statements_are_told_from_declarations(source: str, lines: list[int]) -> None:
    assert comma_statements(source) == lines
