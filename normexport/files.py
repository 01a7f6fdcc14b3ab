"""Outputs appear whole or not at all: written beside their place under a temporary name, then renamed."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from normexport.errors import UsageError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path in `path`'s folder; on success it becomes `path`, on failure it is removed.

    Raises:
        UsageError: the folder can't be created or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise _unwritable(path, error) from error
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files private; an output has the permissions any new file would have.
        os.chmod(temporary, 0o666 & ~_umask())
        try:
            os.replace(temporary, path)
        except OSError as error:
            raise _unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with replacing(path) as temporary:
        try:
            temporary.write_bytes(data)
        except OSError as error:
            raise _unwritable(path, error) from error


def write_text(path: Path, text: str) -> None:
    """Write `text` (UTF-8) to `path`, whole or not at all."""
    write_bytes(path, text.encode())


def check_writable(folder: Path) -> None:
    """Fail early, before minutes of work, when `folder` can't be created or written; leaves nothing behind.

    Raises:
        UsageError: the folder, or the nearest one above it that exists, is not a writable folder.
    """
    nearest = folder
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        raise UsageError(str(folder), f"can't be written ({nearest} is not a folder)", "choose another -o")
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(path: Path, error: OSError) -> UsageError:
    return UsageError(str(path), f"can't be written ({error.strerror})", "choose another output with -o")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
