"""Where the native libraries are looked for."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

import pytest

import normexport
from normexport import plugins
from normexport.errors import ExitCode, MissingComponent, UsageError
from normexport.plugins import locate


def test_folder_named_by_the_environment_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORMEXPORT_PLUGIN_DIR", str(tmp_path))
    assert plugins.find("kernels") is None
    library = tmp_path / "libnormexport_kernels.so"
    library.write_bytes(b"")
    assert plugins.find("kernels") == plugins.require("kernels") == library


def test_checkout_builds_and_looks_below_its_own_build_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NORMEXPORT_PLUGIN_DIR", raising=False)
    root = Path(__file__).parents[2]
    assert plugins.sources() == root / "plugins"
    assert plugins.path_of("tensorrt") == root / "build" / "plugins" / "lib" / "libnormexport_tensorrt.so"


def test_installed_package_looks_in_a_cache_of_its_own_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NORMEXPORT_PLUGIN_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(locate, "checkout", lambda: None)
    assert plugins.library_folder() == tmp_path / "normexport" / f"plugins-{normexport.__version__}" / "lib"


def test_library_that_is_needed_and_absent_names_the_command_that_builds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NORMEXPORT_PLUGIN_DIR", str(tmp_path))
    with pytest.raises(MissingComponent, match="run: normexport plugins build") as caught:
        plugins.require("onnxruntime")
    assert caught.value.exit_code == ExitCode.MISSING
    with pytest.raises(MissingComponent, match="run: normexport plugins build --tensorrt"):
        plugins.require("tensorrt")


def test_unknown_component_is_a_usage_error_that_lists_those_there_are() -> None:
    with pytest.raises(UsageError, match="kernels, onnxruntime, cuda, tensorrt"):
        plugins.find("metal")


def test_the_wheel_holds_every_source_of_the_libraries() -> None:
    tomllib = pytest.importorskip("tomllib")
    root = Path(__file__).parents[2]
    settings = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = settings["package-data"]["normexport_plugin_sources"]
    assert all(pattern.startswith("**/") for pattern in patterns)
    sources = [path for path in (root / "plugins").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert len(sources) > 80
    assert [path for path in sources if not any(fnmatch(path.name, pattern[3:]) for pattern in patterns)] == []
