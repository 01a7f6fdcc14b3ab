"""Open a file that may be anything: a pipe, a device or a folder is refused, and never waited for."""

from __future__ import annotations

import contextlib
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol, TypeAlias

from normexport.errors import UsageError


class Stored(Protocol):
    """A file that lies in another: a member of an archive, a cell of a table. `str` says where."""

    @property
    def suffix(self) -> str:
        """As `Path.suffix`."""
        ...

    def content(self) -> bytes:
        """All of it.

        Raises:
            UsageError: it can't be read.
        """
        ...


#: What can be opened: a file of its own, or one in another.
File: TypeAlias = Path | Stored


@contextlib.contextmanager
def opened(path: File) -> Iterator[BinaryIO]:
    """The regular file at `path`, for reading, symbolic links followed; of one that lies in another, its content.

    Raises:
        UsageError: it can't be opened or read, or is something else than a regular file.
    """
    try:
        with open_regular(path) if isinstance(path, Path) else io.BytesIO(path.content()) as file:
            yield file
    except OSError as error:
        raise UsageError(str(path), f"can't be read ({error.strerror or error})", "check the path") from error


def open_regular(path: Path) -> BinaryIO:
    """As `opened`, with the errors of the system.

    Raises:
        OSError: it can't be opened, or is something else than a regular file.
    """
    # O_NONBLOCK: to open a pipe that nobody writes to would wait for ever. It changes nothing for a regular file.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError("not a regular file")
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_bytes(path: Path, most: int) -> bytes:
    """All of a regular file of at most `most` bytes.

    Raises:
        UsageError: see `opened`, or the file is larger.
    """
    with opened(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise UsageError(str(path), f"is larger than {most >> 20} MiB, more than its kind can be", "check the path")
    return content


def require_there(path: Path) -> None:
    """Refuse a path where nothing is; what is there may be anything.

    Raises:
        UsageError: there is no such file.
    """
    if not path.exists():
        raise UsageError(str(path), "there is no such file", "check the path")
