"""Exit codes have one home, and every text that names one agrees with it."""

from __future__ import annotations

import ast
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from normexport import ExitCode, Verdict, errors

ROOT = Path(__file__).parents[2]
TABLE = re.findall(r"^\| (\d+) \| `(\w+)` \| (.+) \|$", (ROOT / "docs" / "exit-codes.md").read_text(), re.MULTILINE)
SOURCES = [file for folder in ("normexport", "tools", "tests", "examples") for file in (ROOT / folder).rglob("*.py")]


def test_the_documented_table_is_that_of_the_library() -> None:
    assert [(int(number), name, meaning) for number, name, meaning in TABLE] == [
        (code.value, code.name, code.meaning) for code in ExitCode
    ]


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_a_signal_has_the_code_that_shells_give_it() -> None:
    of = ExitCode.of_signal
    assert (of(signal.SIGHUP), of(signal.SIGINT), of(signal.SIGTERM)) == (129, 130, 143)


def test_every_error_and_verdict_has_a_code_of_the_table() -> None:
    kinds: list[Any] = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)
    ]
    assert len(kinds) >= 7
    assert all(isinstance(kind.exit_code, ExitCode) for kind in kinds)
    assert [verdict.exit_code.name for verdict in Verdict] == ["GOOD", "FAILED", "INCONCLUSIVE"]


def test_no_code_is_written_as_a_number() -> None:
    found = [
        f"{file.relative_to(ROOT)}:{line}" for file in SOURCES for line in literal_codes(ast.parse(file.read_text()))
    ]
    assert not found, found


@pytest.mark.parametrize(
    "text", ["assert run().exit_code == 3", "assert (a.exit_code, b) != (0, 1)", "raise typer.Exit(2)", "exit_code = 4"]
)
def test_a_code_written_as_a_number_is_seen(text: str) -> None:
    assert list(literal_codes(ast.parse(text))) == [1]


def literal_codes(tree: ast.AST) -> Iterator[int]:
    """Lines that compare an `exit_code` with a number, leave with a number, or give one to `exit_code`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            suspect = "exit_code" in ast.dump(ast.Tuple(sides)) and any(is_number(part) for part in flat(sides))
        elif isinstance(node, ast.Call):
            suspect = ast.unparse(node.func).endswith("Exit") and any(is_number(word) for word in node.args)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            suspect = ast.unparse(target).endswith("exit_code") and is_number(node.value)
        else:
            continue
        if suspect:
            yield node.lineno


def flat(nodes: list[ast.expr]) -> Iterator[ast.expr]:
    for node in nodes:
        yield from node.elts if isinstance(node, (ast.Tuple, ast.List)) else [node]


def is_number(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is int


TEXTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "tools").rglob("*.py")]


def test_texts_name_a_verdict_with_its_own_code() -> None:
    said = {
        (word, int(number))
        for file in TEXTS
        for word, number in re.findall(
            r"\b(PASSED|FAILED|INCONCLUSIVE)`?,?\s*(?:\((?:exit code )?|\| |exit code )(\d+)\b", file.read_text()
        )
    }
    assert said
    for word, number in said:
        assert Verdict[word].exit_code == number, f"{word} is not {number}"


def test_every_exit_code_in_the_texts_is_one_of_the_table() -> None:
    for file in TEXTS:
        for number in re.findall(r"exit code (\d+)", file.read_text(), re.IGNORECASE):
            ExitCode(int(number))
