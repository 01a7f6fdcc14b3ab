"""Outputs appear whole or not at all: written beside their place under a temporary name, then renamed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from normexport.errors import UsageError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path in `path`'s folder; on success it becomes `path`, on failure it is removed.

    Where `path` is a symbolic link, what it points to is replaced.

    Raises:
        UsageError: the folder can't be created or written, or `path` is a folder, a device or a pipe.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise UsageError(str(path), "can't be written (not a regular file)", "choose another output with -o")
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


@contextlib.contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """Give a temporary folder inside `folder`; on success its files move up into `folder`, else they are removed.

    So a set of files that belong together appears together, and only when the last of them was made.

    Raises:
        UsageError: the folder can't be created or written.
    """
    made = _missing_parents(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".normexport-", dir=folder))
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        yield temporary
        for file in sorted(temporary.iterdir()):
            try:
                os.replace(file, folder / file.name)
            except OSError as error:
                raise _unwritable(folder / file.name, error) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        for parent in made:  # innermost first; one that something else was put into meanwhile stays
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise
    temporary.rmdir()


def _missing_parents(folder: Path) -> list[Path]:
    missing = []
    while not folder.exists() and folder != folder.parent:
        missing.append(folder)
        folder = folder.parent
    return missing


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
