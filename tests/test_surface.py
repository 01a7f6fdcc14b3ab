"""The library's face: what it exports is what a caller meets, what the documentation lists, and what type-checks."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import typer.main
from normexport_cli.app import app

import normexport
from normexport import capsule, errors

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PROGRAM = ROOT / "tests" / "user_program.py"
REFERENCE = ROOT / "docs" / "api"

VERBS = [name for name in normexport.__all__ if inspect.isfunction(getattr(normexport, name))]


def documented(package: str) -> list[str]:
    """Names of a package that the API reference shows: by a directive, `::: package.name`, or as kind and form."""
    pages = [page.read_text() for page in sorted(REFERENCE.rglob("*.md"))]
    names = [name for text in pages for name in re.findall(rf"^::: {re.escape(package)}\.(\w+)$", text, re.MULTILINE)]
    for text in pages:
        if text.startswith(f"# `{package}`\n"):
            lists = dict(re.findall(r"^- (\w+): (.*)$", text, re.MULTILINE))
            kinds, forms = (re.findall(r"`(\w+)`", lists.get(title, "")) for title in ("kinds", "forms"))
            names += [kind + form for kind in kinds for form in forms]
    return names


def own_classes(annotation: Any) -> Iterator[type]:
    """The library's classes in an evaluated annotation, wherever they stand in it."""
    if inspect.isclass(annotation) and annotation.__module__.startswith("normexport."):
        yield annotation
    # The arguments of a callable come as a list.
    for part in annotation if isinstance(annotation, list) else typing.get_args(annotation):
        yield from own_classes(part)


def hints(thing: Any) -> dict[str, Any]:
    """Annotations, evaluated with what their module imports for type checkers alone."""
    module = sys.modules[thing.__module__]
    names = {"torch": torch, **vars(module)}
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            exec("\n".join(map(ast.unparse, node.body)), names)
    return typing.get_type_hints(thing, names)


def parts_of(cls: type) -> Iterator[tuple[str, Any]]:
    """What a caller reaches from an instance: public fields, properties and what methods return."""
    yield from hints(cls).items()
    for name, member in vars(cls).items():
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if isinstance(function, types.FunctionType):
            yield name, hints(function).get("return")


def reached() -> dict[type, str]:
    """Every class of the library that a caller of the verbs meets, with a way there."""
    met: dict[type, str] = {}
    open_ends = [(cls, f"{verb}: {name}") for verb in VERBS for name, cls in _of_verb(verb)]
    while open_ends:
        cls, way = open_ends.pop()
        if cls not in met:
            met[cls] = way
            parts = [(name, part) for name, part in parts_of(cls) if not name.startswith("_")]
            open_ends += [(own, f"{way} > {name}") for name, part in parts for own in own_classes(part)]
    return met


def _of_verb(verb: str) -> Iterator[tuple[str, type]]:
    for name, annotation in hints(getattr(normexport, verb)).items():
        yield from ((name, cls) for cls in own_classes(annotation))


def test_every_class_that_a_caller_meets_is_exported() -> None:
    # What a capsule is made of has a public package of its own.
    public = {id(getattr(package, name)) for package in (normexport, capsule) for name in package.__all__}
    met = reached()
    assert len(met) > 30
    assert not {cls.__name__: way for cls, way in met.items() if id(cls) not in public}


def test_every_error_is_exported_and_verbs_raise_no_others() -> None:
    def below(cls: type[Exception]) -> list[str]:
        return [name for child in cls.__subclasses__() for name in (child.__name__, *below(child))]

    for name in normexport.__all__:
        getattr(normexport, name)
    kinds = {"NormExportError", *below(errors.NormExportError)}
    assert kinds <= set(normexport.__all__)
    for verb in VERBS:
        raised = (inspect.getdoc(getattr(normexport, verb)) or "").partition("Raises:\n")[2]
        named = {name for line in re.findall(r"^    ([\w, ]+):", raised, re.MULTILINE) for name in line.split(", ")}
        assert named <= kinds, verb


def test_every_command_is_a_verb_of_the_same_name() -> None:
    assert set(normexport.__all__) <= set(dir(normexport))
    group: Any = typer.main.get_command(app)
    commands = set(group.commands) - {"dialects", "plugins"}
    assert commands
    assert commands <= set(VERBS)


def test_verbs_and_classes_say_what_they_are() -> None:
    for name in normexport.__all__:
        if name != "__version__":
            text = inspect.getdoc(getattr(normexport, name)) or ""
            assert text.split("\n")[0].endswith((".", "?")), name


@pytest.mark.parametrize("package", ["normexport", "normexport.capsule", "normexport.nn", "normexport.train"])
def test_the_documentation_lists_what_is_exported(package: str) -> None:
    listed = documented(package)
    assert sorted(listed) == sorted(importlib.import_module(package).__all__)


def test_the_program_uses_every_name() -> None:
    used = {
        node.attr
        for node in ast.walk(ast.parse(PROGRAM.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "normexport"
    }
    assert used == set(normexport.__all__)


#: Each line is an error: a face of `Any` would let it pass.
WRONG = """\
import normexport
normexport.load(1)
normexport.convert("model.pt2")
normexport.convert("model.pt2", "out", config=normexport.EngineConfig())
normexport.fold("model.onnx").nothing
normexport.EngineConfig(target="sm89")
normexport.Half(1)
normexport.parity("a.onnx", "b.onnx").first_divergence.nothing
normexport.prove("capsule.npz", 3)
normexport.nothing
text: str = normexport.evaluate("model.onnx", "data.npz").judgement
"""


def test_a_users_program_type_checks_and_a_wrong_one_does_not(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong_program.py"
    wrong.write_text(WRONG)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(PROGRAM), str(wrong)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = re.findall(r"^(.*?):(\d+): error", said.stdout, re.MULTILINE)
    assert {Path(file).name for file, _ in lines} == {wrong.name}, said.stdout + said.stderr
    assert {int(line) for _, line in lines} == set(range(2, len(WRONG.splitlines()) + 1)), said.stdout
