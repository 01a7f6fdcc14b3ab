"""What a wheel holds, and what its metadata says, is what the repository promises."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
#: Of the licence as the Apache Software Foundation publishes it.
APACHE = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The wheel without libraries, made of a copy of the sources, where there is no compiler."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("normexport", "plugins", "tools"):
        shutil.copytree(ROOT / name, folder / "sources" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "sources" / name)
    code = "import sys; from scikit_build_core.build import build_wheel; build_wheel(sys.argv[1])"
    bare = {**os.environ, "PATH": str(folder / "no compiler")}
    command = [sys.executable, "-c", code, str(folder)]
    subprocess.run(command, cwd=folder / "sources", env=bare, capture_output=True, check=True)
    (file,) = folder.glob("*.whl")
    with zipfile.ZipFile(file) as opened:
        yield opened


def _member(wheel: zipfile.ZipFile, end: str) -> str:
    (name,) = [name for name in wheel.namelist() if name.endswith(end)]
    return wheel.read(name).decode()


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    return Parser().parsestr(_member(wheel, ".dist-info/METADATA"))


def test_what_pages_are_made_of_travels_with_the_wheel(wheel: zipfile.ZipFile) -> None:
    folder = ROOT / "normexport" / "reports" / "page"
    parts = [path for path in folder.iterdir() if path.suffix in (".html", ".css", ".js")]
    assert len(parts) == 5
    for path in parts:
        assert _member(wheel, f"reports/page/{path.name}") == path.read_text("utf-8")


def test_the_licence_is_apaches_text_and_travels_with_the_wheel(wheel: zipfile.ZipFile, metadata: Message) -> None:
    text = (ROOT / "LICENSE").read_bytes()
    assert hashlib.sha256(text).hexdigest() == APACHE
    assert _member(wheel, ".dist-info/licenses/LICENSE").encode() == text
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE"]


def test_the_wheel_holds_every_module_and_says_that_it_is_typed(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    modules = {file.relative_to(ROOT).as_posix() for file in (ROOT / "normexport").rglob("*.py")}
    assert modules <= names
    assert {"normexport/py.typed", "normexport/nn/kinds.pyi"} <= names
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {
        "normexport",
        "normexport_cli",
        "normexport_plugin_sources",
    }


def test_without_libraries_it_is_for_every_system_and_holds_their_sources(wheel: zipfile.ZipFile) -> None:
    assert str(wheel.filename).endswith("-py3-none-any.whl")
    assert "Root-Is-Purelib: true" in _member(wheel, ".dist-info/WHEEL")
    sources = {
        f"normexport_plugin_sources/{file.relative_to(ROOT / 'plugins').as_posix()}"
        for file in (ROOT / "plugins").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert len(sources) > 80
    assert sources == {name for name in wheel.namelist() if name.startswith("normexport_plugin_sources/")}


def test_classifiers_list_exactly_the_pythons_that_are_allowed(metadata: Message) -> None:
    allowed = SpecifierSet(metadata["Requires-Python"])
    prefix = "Programming Language :: Python :: 3."
    listed = {text.removeprefix(prefix) for text in metadata.get_all("Classifier") if text.startswith(prefix)}
    assert listed == {str(minor) for minor in range(30) if f"3.{minor}.0" in allowed}


def test_the_authors_are_the_developers_together(metadata: Message) -> None:
    assert metadata["Author"] == "The normexport developers"
