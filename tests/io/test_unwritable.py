"""What can't be written: one line that names the path the user gave, exit code 2, and nothing is left."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from normexport.errors import UsageError
from normexport.io.atomic import check_writable, replacing, staging, write_bytes, write_text
from tests.io.test_atomic import names

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("permissions", [0o444, 0o400, 0o000])
def test_a_read_only_file_is_kept_even_from_root(tmp_path: Path, permissions: int) -> None:
    path = tmp_path / "out"
    path.write_text("old")
    path.chmod(permissions)
    with pytest.raises(UsageError, match="out: is read-only; make it writable"):
        write_text(path, "new")
    path.chmod(0o600)
    assert (names(tmp_path), path.read_text()) == (["out"], "old")


def test_links_are_written_through_and_stay_links(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "second").symlink_to(tmp_path / "link")
    (tmp_path / "dangling").symlink_to("made")
    write_text(tmp_path / "second", "new")
    write_text(tmp_path / "dangling", "new")
    assert (tmp_path / "second").is_symlink()
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == (tmp_path / "made").read_text() == "new"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("link", "leads in a circle"),
        ("missing/out", "is a symbolic link into the folder .*missing, which is not there"),
        ("/dev/null", "not a regular file"),
        (".", "not a regular file"),
    ],
)
def test_a_link_that_leads_to_no_file_is_refused(tmp_path: Path, target: str, words: str) -> None:
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(UsageError, match=words):
        write_text(tmp_path / "link", "new")
    assert names(tmp_path) == ["link"]
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can lay links as another user")
def test_a_link_that_another_user_laid_into_a_folder_for_all_is_not_followed(tmp_path: Path) -> None:
    """As the kernel does where it opens files: else -o /tmp/model.onnx could be made to replace any file."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    (tmp_path / "precious").write_text("precious")
    (shared / "out").symlink_to(tmp_path / "precious")
    os.chown(shared / "out", 1234, 1234, follow_symlinks=False)
    with pytest.raises(UsageError, match="another user has laid"):
        write_text(shared / "out", "new")
    assert (tmp_path / "precious").read_text() == "precious"
    os.chown(shared / "out", os.geteuid(), -1, follow_symlinks=False)
    write_text(shared / "out", "new")
    assert (tmp_path / "precious").read_text() == "new"


def in_a_process_that_may_write(size: int, code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run code where no file may grow beyond `size` bytes; the disk is full then, as far as a program can tell."""
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))\n" + code
    return subprocess.run(
        [sys.executable, "-B", "-c", limited], cwd=folder, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    "write",
    [
        "f.write_bytes(p('new/out'), bytes(100000))",
        "with f.staging(p('new')) as folder: (folder / 'out').write_bytes(bytes(100000))",
        "with f.replacing_all(p('new/a'), p('new/out')) as (a, b): a.write_text('a'); b.write_bytes(bytes(100000))",
    ],
)
def test_a_full_disk_is_told_of_the_output_and_nothing_is_left(tmp_path: Path, write: str) -> None:
    code = "from pathlib import Path as p; import normexport.io.atomic as f\n"
    code += f"try:\n    {write}\nexcept f.UsageError as e: print(e)"
    done = in_a_process_that_may_write(1000, code, tmp_path)
    assert done.stderr == ""
    assert "can't be written (File too large); free some space, or choose another output with -o" in done.stdout
    assert done.stdout.startswith("new")
    assert ".normexport" not in done.stdout
    assert names(tmp_path) == []


def test_a_folder_that_vanishes_midway_is_one_line(tmp_path: Path) -> None:
    def replace() -> None:
        with replacing(tmp_path / "gone" / "out") as temporary:
            shutil.rmtree(tmp_path / "gone")
            temporary.write_text("new")

    def stage() -> None:
        with staging(tmp_path / "gone") as folder:
            shutil.rmtree(tmp_path / "gone")
            (folder / "out").write_text("new")

    for action in (replace, stage):
        with pytest.raises(UsageError, match=r"gone/out: can't be written \(No such file") as caught:
            action()
        assert ".normexport" not in str(caught.value)
    assert names(tmp_path) == []


def test_a_folder_that_can_not_be_written_is_told_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *args: Any, **kwargs: Any) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    actions: tuple[Callable[[], object], ...] = (
        lambda: check_writable(tmp_path),
        lambda: write_bytes(tmp_path / "out", b"new"),
    )
    for action in actions:
        with pytest.raises(UsageError, match=r"can't be written \(Permission denied\)") as caught:
            action()
        assert ".normexport" not in str(caught.value)
    assert names(tmp_path) == []
