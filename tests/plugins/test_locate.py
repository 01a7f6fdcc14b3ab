"""Where the native libraries are looked for."""

from __future__ import annotations

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


def test_what_the_package_brought_along_serves_where_nothing_was_built_or_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locate, "CARRIED", tmp_path / "carried")
    monkeypatch.setattr(locate, "build_folder", lambda: tmp_path / "build")
    monkeypatch.delenv("NORMEXPORT_PLUGIN_DIR", raising=False)
    for folder in ("carried", "build/lib", "named"):
        (tmp_path / folder).mkdir(parents=True)
    brought, built = tmp_path / "carried" / "libnormexport_kernels.so", tmp_path / "build/lib/libnormexport_kernels.so"
    brought.write_bytes(b"")
    assert plugins.find("kernels") == brought
    assert plugins.path_of("onnxruntime").parent == tmp_path / "build" / "lib"
    built.write_bytes(b"")
    assert plugins.find("kernels") == built
    monkeypatch.setenv("NORMEXPORT_PLUGIN_DIR", str(tmp_path / "named"))
    assert plugins.find("kernels") is None
