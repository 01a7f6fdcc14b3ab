"""What the README and the pages of docs/ name is there. That their blocks run is `tests/docs`."""

from __future__ import annotations

import ast
import contextlib
import importlib
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest

import normexport
from normexport import errors

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "examples" / "README.md"]


def python_blocks(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^    make (\w+)", README, re.MULTILINE):
        assert f"\n{target}:" in makefile
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    (demo,) = re.findall(r"^    (normexport convert .* -o demo .*)$", re.sub(r" *\\\n *", " ", README), re.MULTILINE)
    assert demo in makefile


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
