"""The architecture, enforced: stages import only earlier stages, the library never imports its command line."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Collection
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "normexport"

PICTURE = (ROOT / "ARCHITECTURE.md").read_text().partition("```text\nnormexport/\n")[2].partition("```")[0]
#: The floors of the library, from the roof to the ground, as ARCHITECTURE.md draws them.
FLOORS = [line.split()[0] for line in PICTURE.splitlines()]


def modules() -> dict[str, Path]:
    """Every module of the library by its dotted name; a package goes by its `__init__`."""
    names = {file: file.relative_to(ROOT).with_suffix("").parts for file in LIBRARY.rglob("*.py")}
    return {".".join(name[:-1] if name[-1] == "__init__" else name): file for file, name in names.items()}


def imports(file: Path, known: Collection[str]) -> set[str]:
    """The library's modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            home = node.module or ""
            found |= {full if (full := f"{home}.{alias.name}") in known else home for alias in node.names}
    return found & set(known)


def floor(module: str) -> int:
    return FLOORS.index(module.split(".")[1])


def test_the_picture_shows_every_floor():
    found = {path.stem for path in LIBRARY.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert found - {"__init__"} == set(FLOORS)
    assert len(FLOORS) == len(set(FLOORS))


@pytest.mark.parametrize("name", FLOORS)
def test_a_floor_imports_only_floors_below_it(name):
    known = modules()
    for module, file in known.items():
        if module.split(".")[1:2] == [name]:
            up = {each for each in imports(file, known) - {"normexport"} if floor(each) < floor(module)}
            assert not up, f"{module} imports {up}"


def test_no_module_imports_the_roof():
    known = modules()
    for module, file in known.items():
        assert "normexport" not in imports(file, known), module


def test_no_imports_run_in_a_circle():
    known = modules()
    # Raises CycleError, which names the circle.
    list(TopologicalSorter({module: imports(file, known) - {module} for module, file in known.items()}).static_order())


def test_library_never_imports_the_command_line():
    for file in LIBRARY.rglob("*.py"):
        assert "normexport_cli" not in file.read_text(), file


@pytest.mark.parametrize(
    "module", ["normexport", "normexport.norms", "normexport.folding", "normexport.verbs.fold", "normexport_cli.app"]
)
def test_import_leaves_torch_alone(module):
    code = f"import sys, {module}; assert 'torch' not in sys.modules and 'onnxruntime' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tools'}"})


def test_import_of_the_library_loads_nothing_heavy():
    # What takes the time is other packages: none is loaded, so the import is a few milliseconds.
    code = (
        "import sys; before = set(sys.modules); import normexport; new = set(sys.modules) - before;"
        "assert not {'numpy', 'onnx', 'onnx_ir', 'rich', 'typer', 'torch'} & {name.split('.')[0] for name in new}, new"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})


def test_the_configs_load_nothing_heavy():
    # The command line takes its defaults and choices from them, also where it only says what is wrong with a word.
    code = (
        "import sys; from normexport import ConvertConfig, EngineConfig, Half, Int8, Limits;"
        "assert not {'numpy', 'onnx', 'onnx_ir', 'torch'} & set(sys.modules), sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})


def test_the_verbs_stay_functions_after_every_module_is_imported():
    code = (
        f"import importlib, normexport; [importlib.import_module(name) for name in {sorted(modules())!r}];"
        "names = set(normexport.__all__) - {'__version__'};"
        "bad = [name for name in names if not callable(getattr(normexport, name))];"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})


def test_every_package_is_installed_and_tools_is_not_one():
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    library = {".".join(file.parent.relative_to(ROOT).parts) for file in LIBRARY.rglob("__init__.py")}
    assert listed == library | {"normexport_cli", "normexport_plugin_sources"}
