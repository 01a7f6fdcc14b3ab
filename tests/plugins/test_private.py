"""Libraries are loaded from where only the user and root can write, and from nowhere else."""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from normexport import plugins
from normexport.errors import ExitCode, UsageError
from normexport.plugins import compile as plugin_build
from normexport.plugins import locate
from normexport.plugins import private as module
from normexport.plugins.compile import BuildConfig, build
from normexport.plugins.private import private

pytestmark = pytest.mark.slow


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A library in a folder of a folder, all of them the user's own, and the search path set to it."""
    folder = tmp_path / "outer" / "lib"
    folder.mkdir(parents=True)
    path = folder / "libnormexport_kernels.so"
    path.write_bytes(b"")
    monkeypatch.setenv("NORMEXPORT_PLUGIN_DIR", str(folder))
    return path


def refused(words: str) -> None:
    with pytest.raises(UsageError, match=words) as raised:
        plugins.find("kernels")
    assert len(str(raised.value).splitlines()) == 1


def test_a_library_of_the_users_own_is_found_by_its_real_path(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert plugins.find("kernels") == library
    (tmp_path / "link").symlink_to(library.parent)
    monkeypatch.setenv("NORMEXPORT_PLUGIN_DIR", str(tmp_path / "link"))
    assert plugins.find("kernels") == library


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("mode", [0o777, 0o702])
def test_what_everybody_can_write_is_refused_wherever_on_the_path_it_is(library: Path, level: int, mode: int) -> None:
    part = [library, *library.parents][level]
    part.chmod(mode)
    refused(f"{'it' if not level else part} can be written by everybody; keep it .*chmod go-w {part}")


def test_a_sticky_folder_keeps_what_is_in_it(library: Path) -> None:
    library.parent.chmod(0o1777)
    assert plugins.find("kernels") == library
    library.chmod(0o1666)
    refused("it can be written by everybody")


def test_a_folder_that_a_link_leads_to_counts_and_not_the_link(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / library.name).symlink_to(library)
    monkeypatch.setenv("NORMEXPORT_PLUGIN_DIR", str(tmp_path / "own"))
    library.parent.chmod(0o777)
    refused(f"{library.parent} can be written by everybody")


def test_a_group_of_others_is_refused_and_the_users_own_is_not(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library.chmod(0o664)
    monkeypatch.setattr(module, "_is_own_group", lambda group: False)
    refused("it can be written by a group")
    monkeypatch.setattr(module, "_is_own_group", lambda group: True)
    assert plugins.find("kernels") == library
    monkeypatch.setattr(module, "_has_access_list", lambda path: True)
    refused("it can be written by a group")


def test_a_group_is_the_users_own_where_nobody_else_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Group:
        gr_mem: tuple[str, ...] = ()

    monkeypatch.setattr(grp, "getgrgid", lambda group: Group)
    monkeypatch.setattr(pwd, "getpwall", list)
    assert module._is_own_group(4711)
    Group.gr_mem = ("somebody-else",)
    assert not module._is_own_group(4711)
    monkeypatch.undo()
    assert not module._is_own_group(2**31 - 7)  # no such group


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("level", [0, 1, 2])
def test_what_belongs_to_somebody_else_is_refused(library: Path, level: int) -> None:
    part = [library, *library.parents][level]
    os.chown(part, 65534, -1)
    refused(f"{'it' if not level else part} belongs to ")


def test_a_path_that_does_not_exist_or_runs_in_a_circle_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for name in ("absent", "loop"):
        with pytest.raises(UsageError, match="can't be read"):
            private(tmp_path / name)


@pytest.mark.parametrize("given", [".", "lib", "./lib", "../lib", "lib\n"])
def test_a_relative_search_path_is_refused(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORMEXPORT_PLUGIN_DIR", given)
    refused("NORMEXPORT_PLUGIN_DIR: is .* no whole path")


@pytest.mark.parametrize("variable", ["XDG_CACHE_HOME", "HOME"])
@pytest.mark.parametrize("given", ["", ".", "cache"])
def test_the_cache_is_never_below_the_working_folder(
    variable: str, given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NORMEXPORT_PLUGIN_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv(variable, given)
    monkeypatch.setattr(locate, "checkout", lambda: None)
    monkeypatch.chdir(tmp_path)
    folder = plugins.library_folder()
    assert folder.is_absolute()
    assert not folder.is_relative_to(tmp_path)


def test_nothing_is_built_where_others_can_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin_build, "_run", lambda *words: pytest.fail("a tool was started"))
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(UsageError, match="can be written by everybody"):
        build(BuildConfig(folder=tmp_path / "open" / "build"))


def test_the_overview_says_why_a_library_is_not_loaded(library: Path) -> None:
    from normexport.plugins.overview import overview

    library.chmod(0o666)
    (found,) = [each for each in overview().libraries if each.name == "kernels"]
    assert (found.present, found.healthy) == (True, False)
    assert "can be written by everybody" in found.words


@pytest.mark.parametrize("start", [("-m", "normexport_cli"), (str(Path(sys.executable).with_name("normexport")),)])
def test_the_command_imports_nothing_from_the_working_folder(start: tuple[str, ...], tmp_path: Path) -> None:
    """Nor do its children."""
    for name in ("torch", "numpy", "onnx", "onnx_ir", "typer", "rich", "json", "PIL", "normexport", "tensorrt_rtx"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'marker')!r}, 'a').write({name!r})")
    (tmp_path / "weights.pt").write_bytes(b"?")
    (tmp_path / "model.onnx").write_bytes(b"?")
    for command in (("inspect", "weights.pt"), ("build", "model.onnx", "-o", "m.plan")):
        done = subprocess.run([sys.executable, *start, *command], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode in (ExitCode.CHECKPOINT, ExitCode.ENGINE, ExitCode.MISSING), done.stderr
    assert not (tmp_path / "marker").exists(), (tmp_path / "marker").read_text()
