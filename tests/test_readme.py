"""What the README and the pages of docs/ show works as shown."""

from __future__ import annotations

import ast
import contextlib
import importlib
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import normexport
from normexport import errors

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
USE = (ROOT / "docs" / "use.md").read_text()
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "examples" / "README.md"]


def python_blocks(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_python_example_runs_and_prints_what_its_comment_says(tmp_path: Path) -> None:
    (code,) = python_blocks(USE)
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    (promised,) = re.findall(r"print\(.*\)  # (.*)", code)
    assert run.stdout.strip() == promised
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "model.layers.json",
        "model.onnx",
        "report.html",
        "report.json",
    ]


def test_the_demo_prints_what_the_readme_shows(tmp_path: Path) -> None:
    (command,) = re.findall(r"`normexport (convert examples/.*?)`", README)
    assert command in (ROOT / "Makefile").read_text()
    words = [str(ROOT / word) if word.startswith("examples/") else word for word in command.split()]
    wide = {**os.environ, "COLUMNS": "150"}
    run = subprocess.run(
        [sys.executable, "-m", "normexport_cli", *words],
        cwd=tmp_path,
        env=wide,
        capture_output=True,
        text=True,
        check=True,
    )
    (shown,) = re.findall(r"```text\n(.*?)```", README, re.DOTALL)

    def without_figures(text: str) -> list[str]:
        """Errors and times are the machine's, and so is which boundary is the worst."""
        text = re.sub(r"(?<=\d) +(?=%)", "", re.sub(r"worst: .*", "", text))
        return re.sub(r"\b\d+\.?\d*(e[+-]?\d+)?\b", "0", text).split()

    assert without_figures(run.stdout) == without_figures(shown)


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^    make (\w+)", README, re.MULTILINE):
        assert f"\n{target}:" in makefile
    assert "make test" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_named_files_and_links_exist(page: Path) -> None:
    text = page.read_text()
    for name in re.findall(r"`((?:normexport|plugins|tools|tests|docs|examples|benchmarks)/[\w./-]*)`", text):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"`((?:test|table|random)_\w+\.py|mutations\.py)`", text):
        assert list((ROOT / "tests").rglob(name)), name
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_python_examples_import_is_there(page: Path) -> None:
    for code in python_blocks(page.read_text()):
        for node in ast.walk(ast.parse(code)):
            if not isinstance(node, ast.ImportFrom):
                continue
            for alias in node.names:
                home = str(node.module)
                if home.split(".")[0] == "normexport" and not hasattr(importlib.import_module(home), alias.name):
                    importlib.import_module(f"{home}.{alias.name}")


def test_the_tree_of_errors_shows_their_exit_codes() -> None:
    tree = (ROOT / "docs" / "api" / "errors.md").read_text()
    shown = re.findall(r"── (\w+) +(\d+) ", tree)
    assert len(shown) == 6
    for name, code in shown:
        assert getattr(errors, name).exit_code == int(code)


def _exists(name: str) -> bool:
    """Whether a dotted name leads to a module, or to something in one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        with contextlib.suppress(ModuleNotFoundError):
            thing: Any = importlib.import_module(".".join(parts[:count]))
            return all((thing := getattr(thing, part, None)) is not None for part in parts[count:])
    return False


def test_names_of_the_library_in_texts_and_docstrings_are_its_names() -> None:
    floors = {module.name for module in pkgutil.iter_modules(normexport.__path__)} - {"nn"}  # torch has an `nn` too
    for file in [*PAGES, *(ROOT / "normexport").rglob("*.py"), *(ROOT / "tools").rglob("*.py")]:
        text = file.read_text()
        names = re.findall(r"`(normexport(?:\.(?!py\b)\w+)+)[`(]", text)
        names += [
            f"normexport.{name}" for name in re.findall(rf"`((?:{'|'.join(floors)})(?:\.(?!py\b)\w+)+)[`(]", text)
        ]
        for name in names:
            assert _exists(name), f"{file}: {name}"
