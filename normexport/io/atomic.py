"""Outputs appear whole or not at all: made in a hidden folder beside their place, then renamed.

Everything that normexport writes goes through here. What is replaced keeps its permissions, and its owner and group as
far as this process may set them; what is new has the permissions that any new file would have.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from normexport.errors import UsageError
from normexport.io.hidden_folder import HiddenFolder, hold_lock
from normexport.io.interrupts import hold_back_signals

#: Errors that only writing can meet, whatever file they name.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_ROOM = "name a folder for temporary files that has room, in TMPDIR"
_LINKS = 40  # symbolic links followed one after another, as Linux does


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """As `replacing_all`, for one path."""
    with replacing_all(path) as (temporary,):
        yield temporary


@contextlib.contextmanager
def replacing_all(*paths: Path) -> Iterator[tuple[Path, ...]]:
    """Give a temporary path for each of `paths`; on success they become `paths`, on failure they are removed.

    They move in the order given, and if one can't, all is as before: a file that refers to others comes last. What was
    not made at its temporary path stays as it was. Where a path is a symbolic link, what it points to is replaced.

    Raises:
        UsageError: a folder can't be created or written, or a path is no regular file or a read-only one.
    """
    with together() as outputs:
        yield outputs.files(*paths)


@contextlib.contextmanager
def staging(folder: Path, last: str = "") -> Iterator[Path]:
    """As `Together.folder`, for one folder: its files appear when the last of them was made."""
    with together() as outputs:
        yield outputs.folder(folder, last)


@contextlib.contextmanager
def together() -> Iterator[Together]:
    """Files and folders that are asked for on the way, and move to their places at the end, all of them or none.

    Raises:
        UsageError: a folder can't be created or written, or what is at a path can't be replaced.
    """
    with contextlib.ExitStack() as stack:
        outputs = Together(stack)
        with _naming_paths(outputs.names):
            yield outputs
        _move(outputs.moves())


class Together:
    """Temporary places of outputs that appear together; made by `together`.

    Attributes:
        names: the path that each temporary one stands for.
    """

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack, self._hidden = stack, dict[Path, Path]()
        self._single: list[tuple[Path, Path]] = []
        self._whole: list[tuple[Path, Path, str]] = []
        self.names: dict[Path, Path] = {}

    def files(self, *paths: Path) -> tuple[Path, ...]:
        """As `replacing_all`: a temporary path for each of `paths`."""
        targets = [real_target(path) for path in paths]
        for path, target in zip(paths, targets, strict=True):
            if target.parent not in self._hidden:
                self._hidden[target.parent] = self._stack.enter_context(_hidden(target.parent, path))
        staged = tuple(self._hidden[target.parent] / target.name for target in targets)
        self._single += zip(staged, targets, strict=True)
        self.names |= dict(zip(staged, paths, strict=True))
        return staged

    def folder(self, folder: Path, last: str = "") -> Path:
        """A temporary folder inside `folder`, into which its files move up.

        The one called `last` moves after all others of them. A symbolic link that is in the way is replaced itself.
        """
        temporary = self._stack.enter_context(_hidden(folder, folder))
        self._whole.append((temporary, folder, last))
        self.names[temporary] = folder
        return temporary

    def moves(self) -> list[tuple[Path, Path]]:
        """(from, to) of what was made: the files of folders, then those asked for by path, in the order given."""
        found: list[tuple[Path, Path]] = []
        for temporary, folder, last in self._whole:
            files = sorted(temporary.iterdir(), key=lambda file: (file.name == last, file.name))
            found += [(file, folder / file.name) for file in files if not file.is_dir()]
        return found + [move for move in self._single if os.path.lexists(move[0])]


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Give a private folder among the system's temporary files, and remove it.

    Raises:
        UsageError: there is no place for it.
    """
    folder = scratch_folder()
    try:
        with _naming_paths({folder.path: folder.path.parent}, _ROOM):
            yield folder.path
    finally:
        folder.remove()


def scratch_folder() -> HiddenFolder:
    """As `scratch`, for an owner that removes it itself.

    Raises:
        UsageError: there is no place for it.
    """
    try:
        return HiddenFolder(Path(tempfile.gettempdir()))
    except OSError as error:
        raise _unwritable(Path("temporary files"), error, _ROOM) from error


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


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
    with _hidden(nearest, folder):
        pass


def check_replaceable(path: Path) -> None:
    """A file that is at `path` already may be replaced.

    Raises:
        UsageError: it is a folder, a device or a pipe; or read-only, for root too: it was made so to be kept.
    """
    try:
        status = path.stat()
    except OSError:
        return
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(str(path), "can't be written (not a regular file)", "choose another output with -o")
    if not status.st_mode & 0o222 or not os.access(path, os.W_OK):
        raise UsageError(str(path), "is read-only", "make it writable, or choose another output with -o")


def real_target(path: Path) -> Path:
    """What writing to `path` replaces: behind its symbolic links, and still its own name where it is none.

    Raises:
        UsageError: a link leads into no folder or in a circle, or was laid by another user into a folder that all may
            write (/tmp), where the kernel does not follow it either; or what is there can't be replaced.
    """
    target = path
    for _ in range(_LINKS):
        folder = Path(os.path.realpath(target.parent))
        if not os.path.islink(target):
            break
        _check_link(target, folder)
        target = folder / os.readlink(target)
    else:
        raise UsageError(str(path), "is a symbolic link that leads in a circle", "remove it, or choose another -o")
    if target is not path and not folder.is_dir():
        cause = f"is a symbolic link into the folder {folder}, which is not there"
        raise UsageError(str(path), cause, "make that folder, or choose another -o")
    check_replaceable(target)
    return folder / target.name


def _check_link(link: Path, folder: Path) -> None:
    shared = folder.stat()
    all_may_write = shared.st_mode & stat.S_ISVTX and shared.st_mode & stat.S_IWOTH
    if all_may_write and link.lstat().st_uid not in (os.geteuid(), shared.st_uid):
        cause = "is a symbolic link that another user has laid into a folder that all may write"
        raise UsageError(str(link), cause, "choose another output with -o")


@contextlib.contextmanager
def _hidden(parent: Path, place: Path) -> Iterator[Path]:
    try:
        folder = HiddenFolder(parent)
    except OSError as error:
        raise _unwritable(place, error) from error
    try:
        yield folder.path
    except BaseException:
        folder.remove(failed=True)
        raise
    folder.remove()


@contextlib.contextmanager
def _naming_paths(names: dict[Path, Path], remedy: str = "") -> Iterator[None]:
    """Failures to write to a temporary path, or into it, are told of the path that it stands for."""

    def meant(place: str) -> Path | None:
        given = Path(place)
        found = ((temporary, path) for temporary, path in names.items() if given.is_relative_to(temporary))
        return next((path / given.relative_to(temporary) for temporary, path in found), None)

    try:
        yield
    except OSError as error:
        path = meant(error.filename) if isinstance(error.filename, str) else None
        if path is None and error.errno not in _FULL:
            raise
        raise _unwritable(path or next(reversed(names.values()), Path("output")), error, remedy) from error
    except UsageError as error:  # of a write inside
        path = meant(error.place)
        if path is None:
            raise
        raise UsageError(str(path), error.cause, remedy or error.remedy) from error


def _move(moves: Sequence[tuple[Path, Path]]) -> None:
    """Rename each (from, to), or none: what was there before a failure is put back.

    Runs beside this one that write into the same folders do so before or after, not in between.
    """
    for staged, target in moves:
        if not os.path.islink(target):
            check_replaceable(target)
            _take_over(staged, target)
    done: list[tuple[Path, Path]] = []
    with contextlib.ExitStack() as stack:
        for folder in sorted({target.parent for _, target in moves}):
            stack.enter_context(hold_lock(folder))
        stack.enter_context(hold_back_signals())
        for index, (staged, target) in enumerate(moves):
            kept = staged.with_name(f".normexport-old-{index}")
            done.append((target, kept))
            try:
                if len(moves) > 1:
                    _keep(target, kept)
                os.replace(staged, target)
            except OSError as error:
                for moved, old in reversed(done):
                    with contextlib.suppress(OSError):
                        _put_back(moved, old, made=moved != target)
                raise _unwritable(target, error) from error


def _take_over(staged: Path, target: Path) -> None:
    """Give a new file the permissions of the one that it is to replace, and have it on disk before that one goes."""
    try:
        old, new = target.lstat(), staged.stat()
    except OSError:
        return
    mode = old.st_mode & 0o777
    if new.st_gid != old.st_gid:
        try:
            os.chown(staged, -1, old.st_gid)
        except OSError:  # then its new group gets no more than all others
            mode = mode & ~0o070 | (mode & 0o007) << 3
    with contextlib.suppress(OSError):  # of a file system that has no owners or permissions
        if new.st_uid != old.st_uid:
            os.chown(staged, old.st_uid, -1)
    with contextlib.suppress(OSError):
        staged.chmod(mode)
    try:
        with staged.open("rb") as file:
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno in (*_FULL, errno.EIO):
            raise _unwritable(target, error) from error


def _keep(target: Path, kept: Path) -> None:
    """A second name for what is at `target`; where the file system gives none, its only one."""
    if not os.path.lexists(target):
        return
    try:
        os.link(target, kept, follow_symlinks=False)
    except (OSError, NotImplementedError):  # the second: of Windows
        target.rename(kept)


def _put_back(target: Path, kept: Path, *, made: bool) -> None:
    if os.path.lexists(kept):
        os.replace(kept, target)
    elif made:
        target.unlink()


def _unwritable(path: Path, error: OSError, remedy: str = "") -> UsageError:
    words = "free some space, or choose another output with -o" if error.errno in _FULL else ""
    cause = f"can't be written ({error.strerror or error})"
    return UsageError(str(path), cause, remedy or words or "choose another output with -o")
