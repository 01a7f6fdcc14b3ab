"""Outputs appear whole or not at all, keep the permissions that they had, and leave nothing behind."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest

from normexport.errors import UsageError
from normexport.io.atomic import replacing, replacing_all, staging, together, write_text

ROOT = Path(__file__).parents[2]


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def write_new(*paths: Path) -> None:
    with replacing_all(*paths) as temporaries:
        for temporary in temporaries:
            temporary.write_text("new")


def test_a_file_is_written_whole_and_folders_on_the_way_are_made(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "new.txt", "é")
    assert (tmp_path / "a" / "b" / "new.txt").read_bytes() == "é".encode()
    assert names(tmp_path / "a" / "b") == ["new.txt"]


def test_a_failure_leaves_the_old_file_and_takes_new_folders_away(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")

    def fail(path: Path) -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    for path in (tmp_path / "old", tmp_path / "new" / "deeper" / "file"):
        with pytest.raises(ZeroDivisionError):
            fail(path)
    assert names(tmp_path) == ["old"]
    assert (tmp_path / "old").read_text() == "old"


def test_what_is_being_made_is_seen_by_nobody_else(tmp_path: Path) -> None:
    with replacing(tmp_path / "secret") as temporary:
        temporary.write_text("half")
        (hidden,) = tmp_path.iterdir()
        assert temporary.parent == hidden
        assert hidden.name.startswith(".")
        assert mode(hidden) == 0o700


def test_what_was_not_made_stays_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    with replacing_all(tmp_path / "old", tmp_path / "new") as (_, new):
        new.write_text("new")
    assert [(tmp_path / name).read_text() for name in names(tmp_path)] == ["new", "old"]


@pytest.mark.parametrize("fails_at", [0, 1, 2])
@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
def test_several_files_are_all_new_or_all_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int, links: bool
) -> None:
    paths = [tmp_path / name for name in ("a", "b", "c")]
    for path in paths[:2]:
        path.write_text("old")
    moves, replace = [], os.replace

    def failing(source: Path, target: Path) -> None:
        moves.append(target)
        if len(moves) == fails_at + 1:
            raise OSError(errno.EIO, "Input/output error")
        replace(source, target)

    def no_link(*args: Path, **kwargs: bool) -> NoReturn:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "replace", failing)
    if not links:
        monkeypatch.setattr(os, "link", no_link)
    with pytest.raises(UsageError, match=rf"{paths[fails_at].name}: can't be written \(Input/output error\)"):
        write_new(*paths)
    assert names(tmp_path) == ["a", "b"]
    assert {path.read_text() for path in paths[:2]} == {"old"}


def test_a_staged_set_moves_the_named_file_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = os.replace
    order: list[str] = []

    def noted(*paths: Path) -> None:
        order.append(paths[1].name)
        replace(*paths)

    monkeypatch.setattr(os, "replace", noted)
    with staging(tmp_path, last="b") as folder:
        for name in "abc":
            (folder / name).write_text(name)
    assert order == ["a", "c", "b"]


def test_files_and_folders_asked_for_on_the_way_appear_together(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_text("old")
    with together() as outputs:
        folder = outputs.folder(tmp_path / "out", last="a")
        (folder / "a").write_text("new")
        (one,) = outputs.files(tmp_path / "beside" / "one")
        one.write_text("new")
        two, three = outputs.files(tmp_path / "out" / "below" / "two", tmp_path / "out" / "three")
        two.write_text("new")
        three.write_text("new")
        assert (tmp_path / "out" / "a").read_text() == "old"
        assert not (tmp_path / "beside" / "one").exists()
    paths = [tmp_path / name for name in ("out/a", "out/three", "out/below/two", "beside/one")]
    assert [path.read_text() for path in paths] == ["new"] * 4
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(paths)


def _write_together(place: Path, error: Exception | None = None) -> None:
    """Four files in three new folders, and the error at the end."""
    with together() as outputs:
        folder = outputs.folder(place / "out", last="a")
        paths = [*outputs.files(place / "out" / "triton" / "1" / "m", place / "c"), folder / "a", folder / "b"]
        for path in paths:
            path.write_text("new")
        if error is not None:
            raise error


@pytest.mark.parametrize("fails_at", range(4))
def test_no_move_that_fails_leaves_a_file_or_folder_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    replace, moves = os.replace, list[Path]()

    def failing(source: Path, target: Path) -> None:
        moves.append(target)
        if len(moves) == fails_at + 1:
            raise OSError(errno.EIO, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(UsageError, match="can't be written"):
        _write_together(tmp_path)
    assert len(moves) > fails_at
    assert list(tmp_path.iterdir()) == []


def test_what_fails_midway_takes_everything_with_it(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        _write_together(tmp_path, ZeroDivisionError())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("permissions", [0o600, 0o640, 0o644, 0o660, 0o755, 0o666])
def test_a_replaced_file_keeps_its_permissions(tmp_path: Path, permissions: int) -> None:
    path = tmp_path / "out"
    path.write_text("old")
    path.chmod(permissions)
    write_text(path, "new")
    assert (path.read_text(), mode(path)) == ("new", permissions)


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o007, 0o000])
def test_a_new_file_has_the_permissions_that_the_umask_leaves(tmp_path: Path, mask: int) -> None:
    code = f"import os, pathlib, normexport.io.atomic as f; os.umask({mask}); f.write_text(pathlib.Path('out'), 'new')"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, check=True)
    assert mode(tmp_path / "out") == 0o666 & ~mask


def test_the_umask_of_the_process_is_never_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "umask", None)
    write_text(tmp_path / "out", "new")
    write_text(tmp_path / "out", "newer")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_replaced_file_keeps_its_owner_and_group(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("old")
    os.chown(path, 1234, 2345)
    path.chmod(0o640)
    write_text(path, "new")
    found = path.stat()
    assert (found.st_uid, found.st_gid, mode(path)) == (1234, 2345, 0o640)


def test_a_group_that_can_not_be_kept_gets_no_more_than_all_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a file that was secret but to one group would be open to another."""
    path = tmp_path / "out"
    path.write_text("old")
    path.chmod(0o664)

    class Foreign:
        """The status of a file whose group is not ours."""

        def __init__(self, status: os.stat_result) -> None:
            self.st_mode, self.st_uid, self.st_gid = status.st_mode, status.st_uid, status.st_gid + 1

    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    lstat = Path.lstat
    monkeypatch.setattr(Path, "lstat", lambda self: Foreign(lstat(self)) if self == path else lstat(self))
    monkeypatch.setattr(os, "chown", refuse)
    write_text(path, "new")
    assert mode(path) == 0o644
