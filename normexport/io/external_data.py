"""Files beside a model that hold its weights: opened only inside the folders that the caller allows.

A location is text that somebody else wrote. It must be a plain relative path; what it leads to, symbolic links
followed, must be a regular file in an allowed folder, and that file has no second name elsewhere. It is opened once,
component by component, and what was checked is what is read: nothing looks the path up again.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

from normexport.errors import FoldError, UsageError
from normexport.io.held_file import HeldFile

#: What the command line calls `weights_under`.
OPTION = "--weights-under"

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_TRUSTED = "copy model and data into one folder, if you trust them"


class ExternalFiles:
    """The data files of one model, each opened the first time it is asked for.

    Args:
        home: the model's folder; None for a model that came from no file, which then has no data files but those
            under `weights_under`.
        weights_under: a folder in which data files may lie too, behind symbolic links and with several names: the
            cache of Hugging Face keeps them so.
    """

    def __init__(self, home: Path | None, weights_under: Path | None = None) -> None:
        self._home, self._under = home, weights_under
        self._files: dict[str, HeldFile] = {}

    @property
    def size(self) -> int:
        """Bytes of all files that have been opened."""
        return sum(file.size for file in self._files.values())

    def file(self, location: str, where: str) -> HeldFile:
        """The file at `location`; `where` begins the message of an error.

        Raises:
            FoldError: the location is malformed, leads out of the allowed folders, or to no regular file.
        """
        if location not in self._files:
            self._files[location] = HeldFile(self._open(location, where), self.path(location))
        return self._files[location]

    def path(self, location: str) -> Path:
        """Where the file at `location` is looked for."""
        home = self._home if self._home is not None else self._under
        return Path(location) if home is None else home / location

    def _open(self, location: str, where: str) -> int:
        _require_plain(location, where)
        if self._home is None and self._under is None:
            cause = f"its external data {quote(location)} was not read: a model in memory has no folder"
            raise FoldError(where, cause, "open the model by its path, or name the folder with weights_under")
        try:
            target = Path(os.path.realpath(self.path(location), strict=True))
            for folder in (self._home, self._under):
                if folder is not None and target.is_relative_to(root := Path(os.path.realpath(folder))):
                    return self._open_beneath(root, target.relative_to(root), location, where)
        except OSError as error:
            raise _unreadable(location, where, error) from error
        raise _outside(where, location, f"{_TRUSTED}, or name a folder that it may lie in with {OPTION}")

    def _open_beneath(self, root: Path, inside: Path, location: str, where: str) -> int:
        """A descriptor of `root`/`inside`, checked to be a regular file of one name."""
        handle = _opened(root, inside)
        found = os.fstat(handle)
        several = found.st_nlink > 1 and (self._under is None or not (root / inside).is_relative_to(_real(self._under)))
        if stat.S_ISREG(found.st_mode) and not several:
            return handle
        os.close(handle)
        if stat.S_ISREG(found.st_mode):
            raise _outside(where, location, f"copy it, or name its folder with {OPTION}", "has another name elsewhere")
        cause = f"its external data {quote(location)} is no regular file"
        raise FoldError(where, cause, "export or download it again")


def _opened(root: Path, inside: Path) -> int:
    """A descriptor of `root`/`inside`, a path without symbolic links: none is followed that appears meanwhile.

    Windows can't open below a folder that is open. There it is opened by its whole path: who may make symbolic links
    is an administrator.
    """
    if os.open not in os.supports_dir_fd:
        return os.open(root / inside, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    for part in inside.parts:
        # O_NONBLOCK: to open a pipe that nobody writes to would wait for ever.
        try:
            deeper = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=handle)
        finally:
            os.close(handle)
        handle = deeper
    return handle


def weights_folder(path: str | Path | None) -> Path | None:
    """The folder that a caller names as `weights_under`.

    Raises:
        UsageError: it is none.
    """
    if path is None or Path(path).is_dir():
        return None if path is None else Path(path)
    raise UsageError(str(path), "is not a folder", "name the folder that weights may lie in")


def quote(text: str | bytes, most: int = 120) -> str:
    """Text out of a file as a message may show it: on one line, and not too long."""
    plain = text if isinstance(text, str) and text.isprintable() else ascii(text)[1:-1]
    return plain if len(plain) <= most else f"{plain[:most]}..."


def _require_plain(location: str | bytes, where: str) -> None:
    """Whatever system wrote it: neither absolute, nor with a drive, nor upward, nor with characters that cut it."""
    if not location:
        raise FoldError(where, "its external data names no file", "export the model again")
    if isinstance(location, bytes) or _CONTROL.search(location):
        cause = f"its external data {quote(location)} is no path (it holds control characters, or is no UTF-8)"
        raise FoldError(where, cause, "export or download it again")
    posix = location.replace("\\", "/")
    if posix.startswith("/") or posix[1:2] == ":" or ".." in posix.split("/"):
        raise _outside(where, location, _TRUSTED)


def _real(folder: Path) -> Path:
    return Path(os.path.realpath(folder))


def _outside(where: str, location: str, remedy: str, what: str = "points outside the model's folder") -> FoldError:
    return FoldError(where, f"its external data {quote(location)} {what} and was not read", remedy)


def _unreadable(location: str, where: str, error: OSError) -> FoldError:
    name = quote(location)
    if error.errno == errno.ENOENT:
        return FoldError(where, f"its external data {name} is missing", "put it beside the model")
    words = "its links lead in a circle" if error.errno == errno.ELOOP else error.strerror
    return FoldError(where, f"its external data {name} can't be read ({words})", "export or download it again")
