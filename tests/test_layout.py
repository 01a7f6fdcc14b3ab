"""The architecture, enforced: stages import only earlier stages, the library never imports its command line."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "normexport"

#: One way through the library, top to bottom. A name is a module or package directly under normexport/.
ORDER = [
    "errors",
    "verdicts",
    "interrupts",
    "garbage",
    "hidden_folder",
    "io",
    "files",
    "overwriting",
    "onnx_protos",
    "weight_files",
    "onnx_files",
    "module_paths",
    "norms",
    "plugins",
    "nn",
    "checkpoint",
    "onnx_export",
    "passes",
    "engine",
    "runtime",
    "parity",
    "plans",
    "precision",
    "capsule",
    "report",
    "folding",
    "sides",
    "judging",
    "outputs",
    "pipeline",
]


def imported_stages(file: Path) -> set[str]:
    """Names under `normexport` that a file imports, anywhere in it."""
    stages = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            if node.module == "normexport":
                names = [f"normexport.{alias.name}" for alias in node.names]
            else:
                names = [node.module or ""]
        stages |= {name.split(".")[1] for name in names if name.startswith("normexport.")}
    return stages


def test_every_module_has_its_place_in_the_order():
    found = {path.stem for path in LIBRARY.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert found - {"__init__"} == set(ORDER)


@pytest.mark.parametrize("stage", ORDER)
def test_stage_imports_no_later_stage(stage):
    place = LIBRARY / f"{stage}.py"
    files = [place] if place.exists() else sorted((LIBRARY / stage).rglob("*.py"))
    allowed = set(ORDER[: ORDER.index(stage) + 1])
    for file in files:
        assert imported_stages(file) <= allowed, file


def test_library_never_imports_the_command_line():
    for file in LIBRARY.rglob("*.py"):
        assert "normexport_cli" not in file.read_text(), file


@pytest.mark.parametrize(
    "module", ["normexport", "normexport.norms", "normexport.passes", "normexport.folding", "normexport_cli.app"]
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


def test_the_public_surface_is_what_the_readme_shows():
    import normexport

    assert set(normexport.__all__) == {
        "CheckpointError",
        "ConvertConfig",
        "ExportError",
        "FoldError",
        "InputSpec",
        "MissingComponent",
        "NormExportError",
        "ParityError",
        "UsageError",
        "check",
        "convert",
        "export",
        "fold",
        "inspect",
        "load",
    }
    for name in normexport.__all__:
        assert callable(getattr(normexport, name)), name


def test_the_verbs_stay_functions_after_every_stage_is_imported():
    code = (
        "import normexport, normexport.pipeline, normexport.onnx_export, normexport.report;"
        "verbs = ('load', 'export', 'fold', 'check', 'convert', 'inspect');"
        "assert all(callable(getattr(normexport, verb)) for verb in verbs)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})


def test_every_package_is_installed_and_tools_is_not_one():
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    library = {".".join(file.parent.relative_to(ROOT).parts) for file in LIBRARY.rglob("__init__.py")}
    assert listed == library | {"normexport_cli", "normexport_plugin_sources"}
