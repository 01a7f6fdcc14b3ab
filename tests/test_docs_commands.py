"""Every command line that the README and the pages of docs/ show has a command and options that are there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
from normexport_cli.app import app
from typer.main import get_command

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]


def command_lines(text: str) -> list[str]:
    """Lines of its blocks, indented or fenced, that begin with `normexport`; a continued line is one."""
    fenced = re.findall(r"^```(?:bash|sh|text)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    indented = re.findall(r"^ {4}.*$", text.replace("\\\n", " "), re.MULTILINE)
    lines = [*(line for block in fenced for line in block.replace("\\\n", " ").splitlines()), *indented]
    return [line.strip().removeprefix("$ ") for line in lines if re.match(r" {0,4}(\$ )?normexport ", line)]


#: (page, command line)
SHOWN = [(page.relative_to(ROOT).as_posix(), line) for page in PAGES for line in command_lines(page.read_text())]


def test_there_are_many() -> None:
    assert len(SHOWN) > 40
    assert len({page for page, _ in SHOWN}) >= 8


@pytest.mark.parametrize(("page", "line"), SHOWN, ids=[f"{page}: {line}"[:90] for page, line in SHOWN])
def test_a_command_line_shown_is_one_that_is_understood(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    command = get_command(app)
    context = typer.Context(command)
    while words and hasattr(command, "get_command"):  # a group: the next word names one of it
        if words[0].startswith("-"):
            break
        name = words.pop(0)
        command = command.get_command(context, name)
        assert command is not None, f"{name} is no command"
        context = typer.Context(command, parent=context, info_name=name)
    known = {flag for option in command.params for flag in (*option.opts, *option.secondary_opts)} | {"--help"}
    for word in words:
        if re.match(r"-{1,2}[a-zA-Z]", word):
            assert word.partition("=")[0] in known, word
