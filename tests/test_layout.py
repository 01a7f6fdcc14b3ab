"""The architecture, enforced: stages import only earlier stages, the library never imports its command line."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import import_graph
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "normexport"

FLOORS = import_graph.read_floors()


def test_the_picture_shows_every_floor() -> None:
    found = {path.stem for path in LIBRARY.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert found - {"__init__", "__main__"} == set(FLOORS)
    assert len(FLOORS) == len(set(FLOORS))


def test_no_import_runs_upward() -> None:
    assert not list(import_graph.upward_imports(import_graph.read_graph(), FLOORS))


def test_no_imports_run_in_a_circle() -> None:
    assert not import_graph.find_circle(import_graph.read_graph())


def test_an_import_that_runs_upward_or_in_a_circle_is_seen() -> None:
    graph = {"normexport.io": {"normexport.verbs"}, "normexport.verbs": {"normexport.io", "normexport"}}
    assert sorted(import_graph.upward_imports(graph, FLOORS)) == [
        ("normexport.io", "normexport.verbs"),
        ("normexport.verbs", "normexport"),
    ]
    assert set(import_graph.find_circle(graph)) == {"normexport.io", "normexport.verbs"}


def test_library_never_imports_the_command_line() -> None:
    for file in set(LIBRARY.rglob("*.py")) - {LIBRARY / "__main__.py"}:  # which is a name for it
        assert "normexport_cli" not in file.read_text(), file


@pytest.mark.parametrize(
    "module", ["normexport", "normexport.norms", "normexport.folding", "normexport.verbs.fold", "normexport_cli.app"]
)
def test_import_leaves_torch_alone(module: str) -> None:
    code = f"import sys, {module}; assert 'torch' not in sys.modules and 'onnxruntime' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tools'}"})


def test_import_of_the_library_loads_nothing_heavy() -> None:
    # What takes the time is other packages: none is loaded, so the import is a few milliseconds.
    code = (
        "import sys; before = set(sys.modules); import normexport; new = set(sys.modules) - before;"
        "assert not {'numpy', 'onnx', 'onnx_ir', 'rich', 'typer', 'torch'} & {name.split('.')[0] for name in new}, new"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})


def test_the_configs_load_nothing_heavy() -> None:
    # The command line takes its defaults and choices from them, also where it only says what is wrong with a word.
    code = (
        "import sys; from normexport import ConvertConfig, EngineConfig, Half, Int8, Limits;"
        "assert not {'numpy', 'onnx', 'onnx_ir', 'torch'} & set(sys.modules), sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})


def test_the_verbs_stay_functions_after_every_module_is_imported() -> None:
    modules = sorted(import_graph.find_modules())
    code = (
        f"import importlib, normexport; [importlib.import_module(name) for name in {modules!r}];"
        "names = set(normexport.__all__) - {'__version__'};"
        "bad = [name for name in names if not callable(getattr(normexport, name))];"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})


def test_every_package_is_installed_and_tools_is_not_one() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["scikit-build"]
    # Each with all that lies in it, but what is compiled; test_distribution.py looks into the wheel.
    assert settings["wheel"]["packages"] == {"normexport": "normexport", "normexport_cli": "tools/normexport_cli"}
    assert settings["wheel"]["exclude"] == ["__pycache__/"]
    assert all((folder / "__init__.py").is_file() for folder in {file.parent for file in LIBRARY.rglob("*.py")})


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_every_file_that_a_page_for_contributors_names_is_there(page: str) -> None:
    text = (ROOT / page).read_text()
    named = re.findall(r"`([\w./-]+\.(?:py|pyi|cpp|h|md|cmake|toml|html))`", text)
    assert named
    known = {file.name for folder in ("normexport", "tools", "tests", "plugins") for file in (ROOT / folder).rglob("*")}
    assert [
        each for each in named if not any((root / each).exists() for root in (ROOT, LIBRARY)) and each not in known
    ] == []
    folders = re.findall(r"`((?:normexport|tests|tools|plugins|benchmarks|examples)/[\w/-]*)`", text)
    assert [each for each in folders if not (ROOT / each).is_dir()] == []
