"""The hidden folder in which a run makes its outputs: private, and locked for as long as the run lives.

The lock tells what a killed run left behind (nobody holds it any more) from what a run beside this one is at work on:
the next run into the same place clears the former away. Where the file system has no locks, nothing is cleared.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from normexport.io.interrupts import hold_back_signals

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # asked for before every use

_PATIENCE, _PAUSE = 1.0, 0.01  # seconds
_NAME = re.compile(r"\.normexport-[0-9a-f]{32}")  # nobody calls a folder of his own so, and nobody can guess it


class HiddenFolder:
    """A new folder `path` inside `parent`, which is made too where it is missing.

    Raises:
        OSError: `parent` can't be made or written.
    """

    def __init__(self, parent: Path) -> None:
        self._process = os.getpid()
        self._made = _missing(parent)
        self._lock: int | None = None
        try:
            parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(parent)
            with hold_back_signals():
                self.path, self._lock = _create(parent)
                _alive.add(self)
        except BaseException:
            self._remove_parents()
            raise

    def remove(self, *, failed: bool = False) -> None:
        """Delete it and what is in it; where all `failed`, also those folders above it that were made for it."""
        if self._process != os.getpid():  # a fork of the run; the folder is its parent's
            return
        with hold_back_signals():
            shutil.rmtree(self.path, ignore_errors=True)
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None
            if failed:
                self._remove_parents()
            _alive.discard(self)

    def _remove_parents(self) -> None:
        for parent in self._made:  # innermost first; one that something else was put into meanwhile stays
            with contextlib.suppress(OSError):
                parent.rmdir()


def remove_leftovers(folder: Path) -> None:
    """Delete the hidden folders in `folder` that runs of this user made and were killed at."""
    if fcntl is None:
        return
    with contextlib.suppress(OSError), os.scandir(folder) as entries:  # a folder may be writable and not readable
        leftovers = [entry for entry in entries if _NAME.fullmatch(entry.name) is not None]
        for entry in leftovers:
            with contextlib.suppress(OSError):  # it is gone, a run is at work in it, or there are no locks
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
                    lock = _lock(Path(entry.path))
                    shutil.rmtree(entry.path, ignore_errors=True)
                    os.close(lock)


def _create(parent: Path) -> tuple[Path, int | None]:
    """A new locked folder. Another run may take it for a leftover before it is locked: then there is a next one."""
    while True:
        path = parent / f".normexport-{os.urandom(16).hex()}"
        path.mkdir(mode=0o700)
        if fcntl is None:
            return path, None
        try:
            lock = _lock(path)
        except (BlockingIOError, FileNotFoundError):
            continue
        except OSError:  # a file system without locks
            return path, None
        if path.exists():
            return path, lock
        os.close(lock)


@contextlib.contextmanager
def hold_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder that is written to, for as long as a few renames take.

    Who holds it for longer than `_PATIENCE` is no run of ours, and where there are no locks there is none to hold.
    """
    lock, tries = None, int(_PATIENCE / _PAUSE)
    while fcntl is not None and lock is None and tries and _NAME.fullmatch(folder.name) is None:
        try:
            lock = _lock(folder)
        except BlockingIOError:
            tries -= 1
            time.sleep(_PAUSE)
        except OSError:
            break
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


def _lock(path: Path) -> int:
    """A descriptor of a folder that holds the folder's lock until it is closed.

    Raises:
        BlockingIOError: another holds it.
        OSError: there is no such folder, or there are no locks.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _missing(folder: Path) -> list[Path]:
    """The folder and those above it that do not exist, innermost first."""
    missing = []
    while not folder.exists() and folder != folder.parent:
        missing.append(folder)
        folder = folder.parent
    return missing


_alive: set[HiddenFolder] = set()


@atexit.register
def _remove_all() -> None:
    """What an exception out of a signal kept from being removed in its place."""
    for folder in list(_alive):
        folder.remove(failed=True)
