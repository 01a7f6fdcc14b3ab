"""What runs leave behind when they are killed or stopped, and what the next run into the same place does about it."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from normexport.io import hidden_folder
from normexport.io.atomic import check_writable, replacing_all, scratch, staging, write_text

ROOT = Path(__file__).parents[2]


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


HOLDS = """
import pathlib, sys, time
from normexport.io.atomic import staging
with staging(pathlib.Path('out')) as folder:
    (folder / 'half').write_text('half')
    print('ready', flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holding(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Start processes that are at work in tmp_path/out."""
    started = []

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDS],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_the_next_run_removes_what_a_killed_one_left_and_nothing_of_a_living_one(
    tmp_path: Path, holding: Callable[..., Any]
) -> None:
    killed, living = holding(), holding()
    killed.kill()
    killed.wait()
    assert len(names(tmp_path / "out")) == 2
    write_text(tmp_path / "out" / "mine", "mine")
    left = names(tmp_path / "out")
    assert len(left) == 2
    assert (tmp_path / "out" / left[0] / "half").read_text() == "half"
    living.kill()
    living.wait()
    check_writable(tmp_path / "out")
    assert names(tmp_path / "out") == ["mine"]


def test_own_folders_are_never_taken_for_leftovers(tmp_path: Path) -> None:
    with staging(tmp_path) as first, staging(tmp_path) as second:
        assert first.exists()
        (first / "a").write_text("a")
        (second / "b").write_text("b")
    assert names(tmp_path) == ["a", "b"]


@pytest.mark.parametrize(
    "name", [".normexport", ".normexport-mine", f".normexport-{'A' * 32}", f".normexport-{'0' * 31}"]
)
def test_what_is_not_called_as_leftovers_are_stays(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "precious").write_text("precious")
    check_writable(tmp_path)
    assert (tmp_path / name / "precious").exists()


def test_a_file_or_link_that_is_called_as_leftovers_are_stays(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("precious")
    (tmp_path / f".normexport-{'0' * 32}").write_text("a file")
    (tmp_path / f".normexport-{'1' * 32}").symlink_to(tmp_path / "precious")
    before = names(tmp_path)
    check_writable(tmp_path)
    assert names(tmp_path) == before
    assert (tmp_path / "precious" / "file").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make folders of other users")
def test_what_another_user_left_stays(tmp_path: Path) -> None:
    leftover = tmp_path / f".normexport-{'0' * 32}"
    leftover.mkdir()
    os.chown(leftover, 1234, 1234)
    check_writable(tmp_path)
    assert leftover.exists()


def test_a_folder_taken_for_a_leftover_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = hidden_folder._lock
    taken: list[Path] = []

    def late(path: Path) -> int:
        if not taken:
            taken.append(path)
            path.rmdir()  # what another run does between mkdir and flock
        return lock(path)

    monkeypatch.setattr(hidden_folder, "_lock", late)
    write_text(tmp_path / "out", "new")
    assert names(tmp_path) == ["out"]


def test_two_runs_do_not_mix_the_files_that_they_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each moves all of its files before the other moves one."""
    order, replace = [], os.replace

    def slowly(source: Path, target: Path) -> None:
        time.sleep(0.05)
        order.append(source.read_text())
        replace(source, target)

    monkeypatch.setattr(os, "replace", slowly)
    threads = [threading.Thread(target=write_files, args=(tmp_path, text)) for text in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert order in (list("aaabbb"), list("bbbaaa"))
    assert len({path.read_text() for path in tmp_path.iterdir()}) == 1


def write_files(folder: Path, text: str) -> None:
    with replacing_all(*(folder / name for name in "xyz")) as temporaries:
        for temporary in temporaries:
            temporary.write_text(text)


@pytest.mark.slow
def test_a_lock_that_somebody_else_holds_for_long_is_not_waited_for(tmp_path: Path) -> None:
    """As in `flock out normexport convert model.pt2 -o out`."""
    lock = hidden_folder._lock(tmp_path)
    write_files(tmp_path, "new")
    os.close(lock)
    assert names(tmp_path) == ["x", "y", "z"]


def test_without_locks_files_are_written_and_no_leftovers_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(path: Path) -> NoReturn:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(hidden_folder, "_lock", no_locks)
    leftover = tmp_path / f".normexport-{'0' * 32}"
    leftover.mkdir()
    write_text(tmp_path / "out", "new")
    assert names(tmp_path) == [leftover.name, "out"]


def test_scratch_is_private_among_the_temporary_files_and_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    with scratch() as folder:
        (folder / "file").write_text("x")
        assert folder.parent == tmp_path
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert names(tmp_path) == []


# Signals. Each in a process of its own: in this one, another test's thread may get them.


STOPPED = """
import os, pathlib, shutil, signal, sys
from normexport.io.atomic import replacing, replacing_all

def stop(number, frame):
    raise InterruptedError

signal.signal(signal.SIGTERM, stop)
replace, rmtree = os.replace, shutil.rmtree

def replaced_and_stopped(*paths):
    replace(*paths)
    os.kill(os.getpid(), signal.SIGTERM)

def stopped_and_removed(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGTERM)
    rmtree(*args, **kwargs)

try:
    exec(sys.argv[1])
except InterruptedError:
    assert signal.getsignal(signal.SIGTERM) is stop
    print("stopped")
"""

MOVES = """
os.replace = replaced_and_stopped
with replacing_all(*map(pathlib.Path, "xyz")) as temporaries:
    for temporary in temporaries:
        temporary.write_text("new")
"""

CLEARS_UP = """
shutil.rmtree = stopped_and_removed
with replacing(pathlib.Path("new/a")):
    raise ZeroDivisionError
"""


@pytest.mark.parametrize(("work", "left"), [(MOVES, ["x", "y", "z"]), (CLEARS_UP, [])], ids=["moves", "clears-up"])
def test_a_signal_waits_until_the_files_have_moved_and_until_all_is_clear(
    tmp_path: Path, work: str, left: list[str]
) -> None:
    command = [sys.executable, "-c", STOPPED, work]
    done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("stopped\n", 0), done.stderr
    assert names(tmp_path) == left


def test_folders_of_a_run_that_never_came_to_clear_up_go_as_it_exits(tmp_path: Path) -> None:
    code = "import pathlib; from normexport.io.hidden_folder import HiddenFolder as F; F(pathlib.Path('new/out'))"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, check=True)
    assert names(tmp_path) == []


def test_a_fork_that_exits_leaves_the_folder_to_its_parent(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys\nfrom normexport.io.atomic import staging\n"
        "with staging(pathlib.Path('out')) as folder:\n"
        "    (folder / 'a').write_text('a')\n"
        "    if not (child := os.fork()): sys.exit(0)\n"
        "    os.waitpid(child, 0)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, check=True)
    assert names(tmp_path / "out") == ["a"]
