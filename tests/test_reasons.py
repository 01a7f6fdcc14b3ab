"""What a reader would stumble over says why it is there: silenced checks, handlers that catch everything, skips."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("normexport", "tools", "plugins", "tests", "benchmarks", "examples")

_SKIPS = ("skip", "skipif", "xfail", "importorskip")

_SILENCED = re.compile(r"# (?:type: ignore\[[\w, -]+\]|noqa: \w+)")


def unspoken(text: str) -> Iterator[str]:
    """Lines that silence a check or catch everything with no comment behind that, and none on a line of its own above.

    A handler that does no more than tidy up and raise again needs none. A test that is left out has its reason as text.
    """
    lines = ["", *text.splitlines()]
    for number, line in enumerate(lines):
        silenced = list(_SILENCED.finditer(line))
        if silenced and not line[silenced[-1].end() :].strip(" #-()") and not _is_comment(lines[number - 1]):
            yield f"{number}: {line.strip()}"
    nodes = list(ast.walk(ast.parse(text)))
    called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    for node in nodes:
        if id(node) not in called and _skips(node) and not _has_reason(node):
            yield f"{node.lineno}: {lines[node.lineno].strip()}"
        if not isinstance(node, ast.ExceptHandler) or _raises_again(node):
            continue
        line = lines[node.lineno]
        if _catches_everything(node) and "#" not in line and not _is_comment(lines[node.lineno - 1]):
            yield f"{node.lineno}: {line.strip()}"


def _skips(node: ast.AST) -> TypeGuard[ast.expr]:
    """Whether it leaves out a test: a call, or a mark that stands without one."""
    function = node.func if isinstance(node, ast.Call) else node
    names = ast.unparse(function).split(".") if isinstance(function, ast.Attribute) else [""]
    return names[0] == "pytest" and names[-1] in _SKIPS and (isinstance(node, ast.Call) or "mark" in names)


def _has_reason(node: ast.expr) -> bool:
    """Whether a call has one: a reason by its name, or what pytest.skip takes at once."""
    if not isinstance(node, ast.Call):
        return False
    at_once = ast.unparse(node.func) == "pytest.skip" and bool(node.args)
    return at_once or any(keyword.arg == "reason" for keyword in node.keywords)


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")


def _catches_everything(handler: ast.ExceptHandler) -> bool:
    names = [] if handler.type is None else [each.id for each in ast.walk(handler.type) if isinstance(each, ast.Name)]
    return handler.type is None or bool({"Exception", "BaseException"}.intersection(names))


def _raises_again(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def test_every_silenced_check_and_every_wide_handler_says_why() -> None:
    files = [file for folder in FOLDERS for kind in ("*.py", "*.pyi") for file in (ROOT / folder).rglob(kind)]
    assert len(files) > 1000
    found = {str(file.relative_to(ROOT)): list(unspoken(file.read_text())) for file in files if file != Path(__file__)}
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("x = 1  # type: ignore[misc]", 1),
        ("x = 1  # type: ignore[misc, arg-type]  # torch says no types", 0),
        ("import x  # noqa: F401", 1),
        ("import x  # noqa: F401  (registers operators)", 0),
        ("import x  # noqa: F401 # registers operators", 0),
        ("# No stubs.\nimport x  # type: ignore[import-not-found]", 0),
        ("try:\n    x()\nexcept Exception as error:\n    raise E(1) from error", 1),
        ("try:\n    x()\nexcept (ValueError, Exception):\n    pass", 1),
        ("try:\n    x()\nexcept:\n    pass", 1),
        ("try:\n    x()\nexcept BaseException:\n    tidy()\n    raise", 0),
        ("try:\n    x()\nexcept Exception:  # vendors raise anything\n    pass", 0),
        ("try:\n    x()\nexcept ValueError:\n    pass", 0),
        ("pytest.skip()", 1),
        ("pytest.skip('no GPU')", 0),
        ("ray = pytest.importorskip('ray')", 1),
        ("ray = pytest.importorskip('ray', reason='Ray is not installed')", 0),
        ("@pytest.mark.skip\ndef test(): ...", 1),
        ("@pytest.mark.skipif(True)\ndef test(): ...", 1),
        ("@pytest.mark.skipif(True, reason=why)\ndef test(): ...", 0),
        ("x = pytest.param(1, marks=pytest.mark.xfail(strict=True))", 1),
    ],
)
def test_what_is_not_spoken_is_seen(text: str, found: int) -> None:
    assert len(list(unspoken(text))) == found
