"""A file that is opened once and read in parts, as often as these are used; one that changes meanwhile is refused.

It is read and not mapped: of a mapped file every page that was looked at stays in memory, and a file that is cut short
ends the process.
"""

from __future__ import annotations

import os
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normexport.errors import FoldError
from normexport.io.opening import open_regular

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


#: What is read at a time where the system can't read into memory that is there: bytes.
_PART = 1 << 24


class HeldFile:
    """A file that is open as long as something reads from it.

    Args:
        handle: a descriptor of a regular file, which is this object's from now on.
        path: what messages call it.
    """

    def __init__(self, handle: int, path: Path) -> None:
        self.path = path
        self._handle = handle
        self._lock = threading.Lock()
        weakref.finalize(self, os.close, handle)
        self._state = self._now()

    @classmethod
    def at(cls, path: Path) -> HeldFile:
        """The file at `path`.

        Raises:
            OSError: it can't be opened, or is no regular file.
        """
        with open_regular(path) as file:
            return cls(os.dup(file.fileno()), path)

    @property
    def size(self) -> int:
        """Its bytes, when it was opened."""
        return self._state[0]

    def read(self, start: int, size: int) -> bytearray:
        """`size` bytes from `start` on.

        Raises:
            FoldError: the file was written to, or can't be read any more.
        """
        content = bytearray(size)
        view, done = memoryview(content), 0
        try:
            while done < size and (count := self._read_into(view[done:], start + done)):
                done += count
            same = done == size and self._now() == self._state
        except OSError as error:
            raise FoldError(str(self.path), f"can't be read ({error.strerror or error})", "check the disk") from error
        if not same:
            raise FoldError(str(self.path), "was changed while it was in use", "run it again")
        return content

    def _read_into(self, view: memoryview, start: int) -> int:
        """Fill what of `view` is read at once, from `start` on; the bytes read."""
        if hasattr(os, "preadv"):
            return os.preadv(self._handle, [view], start)
        with self._lock:  # Windows: a descriptor has one position
            os.lseek(self._handle, start, os.SEEK_SET)
            part = os.read(self._handle, min(len(view), _PART))
        view[: len(part)] = part
        return len(part)

    def _now(self) -> tuple[int, int]:
        state = os.fstat(self._handle)
        return state.st_size, state.st_mtime_ns


@dataclass(frozen=True)
class Stretch:
    """`size` bytes of a file, from `start` on."""

    file: HeldFile
    start: int
    size: int

    def read(self) -> bytearray:
        """The bytes; errors as of `HeldFile.read`."""
        return self.file.read(self.start, self.size)

    def array(self, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """The bytes as numbers, in memory of their own; errors as of `HeldFile.read`."""
        import numpy as np  # not at the top: 60 ms

        return np.frombuffer(self.read(), dtype)
