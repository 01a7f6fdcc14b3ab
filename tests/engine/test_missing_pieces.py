"""What of TensorRT is not there is one line that says how to get it, and exit code 6."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from normexport_cli.app import app
from typer.testing import CliRunner

from normexport.engine import EngineConfig, build_engine
from normexport.engine.flavor import TENSORRT, is_installed
from normexport.errors import ExitCode, MissingComponent
from normexport.runtime import TensorRTRuntime
from tests.engine import declared, networks

LINE = "pip install 'normexport[tensorrt]', with NVIDIA's own package index beside (--extra-index-url)"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make `tensorrt` a module of this code, here and in processes that are started from here."""

    def module(code: str) -> None:
        package = tmp_path / "site" / "tensorrt"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(code)
        monkeypatch.syspath_prepend(str(package.parent))
        paths = [str(package.parent), os.environ.get("PYTHONPATH", "")]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in paths if path))
        monkeypatch.delitem(sys.modules, "tensorrt", raising=False)

    return module


def built(tmp_path: Path) -> str:
    """The line with which a build for enterprise TensorRT ends; nothing is written."""
    model = networks.convolutions(tmp_path / "model.onnx")
    words = ["build", str(model), "-o", str(tmp_path / "model.plan"), "--flavor", "tensorrt"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == ExitCode.MISSING, result.stderr
    assert not list(tmp_path.glob("model.plan*"))
    (line,) = result.stderr.splitlines()
    return line


def test_tensorrt_that_is_not_installed_is_named_with_its_install_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[TENSORRT.__module__], "find_spec", lambda name: None)
    line = built(tmp_path)
    assert line.startswith("error: tensorrt: is not installed; run, on a machine with an NVIDIA GPU: ")
    assert LINE in line
    assert line.endswith("or leave --flavor out: TensorRT for RTX builds without a GPU")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise ImportError('libnvinfer.so.11: cannot open shared object file')", "libnvinfer.so.11: cannot open"),
        ("import no_such_bindings", "No module named 'no_such_bindings'"),
        ("raise RuntimeError('a\\nb')", "(a b)"),
        ("raise KeyError", "(KeyError)"),
    ],
)
def test_bindings_without_their_libraries_are_a_missing_piece(
    tmp_path: Path, module: Callable[[str], None], code: str, words: str
) -> None:
    module(code)
    line = built(tmp_path)
    assert line.startswith("error: tensorrt: is installed, and can't be loaded (")
    assert words in line
    assert LINE in line


def test_a_plan_whose_flavour_can_not_be_loaded_is_a_missing_piece(
    opened_plan: Path, module: Callable[[str], None]
) -> None:
    module("raise ImportError('libnvinfer.so.11: cannot open shared object file')")
    with pytest.raises(MissingComponent, match=r"can't be loaded \(libnvinfer\.so\.11: cannot open"):
        TensorRTRuntime(opened_plan)


@pytest.fixture
def opened_plan(tmp_path: Path) -> Path:
    from normexport.engine.manifest import FileId, manifest_path, manifest_text
    from tests.engine.test_manifest import MANIFEST

    plan = tmp_path / "m.plan"
    plan.write_bytes(b"a plan")
    known: dict[str, Any] = {"flavor": "tensorrt", "plan": FileId.of(plan), "host_code": False, "embedded": False}
    manifest_path(plan).write_text(manifest_text(replace(MANIFEST, plugin=None, **known)))
    return plan


@pytest.mark.skipif(declared.missing() is not None, reason=str(declared.missing()))
@pytest.mark.parametrize("source", [each for each in declared.sources() if each.folder], ids=lambda each: each.name)
def test_a_builder_that_is_not_given_is_a_missing_gpu(
    tmp_path: Path, module: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, source: declared.Source
) -> None:
    """The vendor's own bindings on libraries that give no builder, as theirs do where there is no GPU."""
    libraries = tmp_path / "libraries"
    libraries.mkdir()
    declared.make_libraries(libraries, source.folder or tmp_path)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(libraries))
    module(
        f"import sys; sys.path.insert(0, {str(source.folder)!r})\n"
        "from tensorrt_bindings import *; from tensorrt_bindings import __version__\n"
        "init_libnvinfer_plugins = lambda logger, namespace: True"
    )
    model = networks.convolutions(tmp_path / "model.onnx")
    with pytest.raises(
        MissingComponent, match=r"TensorRT: makes no builder here \(.*\); build on a machine with an"
    ) as e:
        build_engine(model, tmp_path / "model.plan", EngineConfig(flavor="tensorrt"))
    assert "--flavor rtx" in str(e.value)


def test_the_install_lines_name_extras_that_there_are() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    for extra in ("tensorrt", "gpu", "rtx"):
        assert f"\n{extra} = [" in text
    assert "normexport[tensorrt]" in TENSORRT.install


def test_a_folder_that_is_called_like_it_is_not_tensorrt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "no_tensorrt").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not is_installed(replace(TENSORRT, module="no_tensorrt"))
