"""Arrays of an .npz or .npy file read a few samples at a time, packed or not: memory holds one slice of each."""

from __future__ import annotations

import contextlib
import io
import math
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from normexport.errors import UsageError
from normexport.onnx_export import InputSpec
from normexport.parity.inputs import check_shape, fitting
from normexport.runtime import Array, Feeds

_BROKEN = (ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)
_ZIP = b"PK\x03\x04", b"PK\x05\x06"  # how such a file begins; its name says nothing


@dataclass(frozen=True)
class _Member:
    """A stored array: its shape and type, and where its numbers begin, row after row."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    numbers: IO[bytes]

    def take(self, count: int) -> Array:
        """The next `count` samples."""
        wanted = count * math.prod(self.shape[1:]) * self.dtype.itemsize
        content = self.numbers.read(wanted)
        if len(content) != wanted:
            raise EOFError("fewer numbers than the header says")
        found: Array = np.frombuffer(content, self.dtype).reshape(count, *self.shape[1:])
        return found


def count_in(path: Path, specs: Sequence[InputSpec]) -> int:
    """How many samples the file holds for these inputs; reads headers alone.

    Raises:
        UsageError: see `slices_of`.
    """
    with _opened(path, specs) as members:
        return _count(path, specs, members)


def slices_of(path: Path, specs: Sequence[InputSpec], size: int) -> Iterator[Feeds]:
    """Batches of at most `size` samples, arrays by input name; other arrays of the file are not read.

    A file of one array serves a model of one input, whatever the array's name. Arrays in column order are read whole.

    Raises:
        UsageError: unreadable or broken, missing names, wrong shape or dtype, different numbers of samples, NaN.
    """
    with _opened(path, specs) as members:
        total = _count(path, specs, members)
        fixed = {spec.name: _whole(path, spec, members[spec.name]) for spec in specs if not spec.batched}
        for first in range(0, total, size):
            count = min(size, total - first)
            feeds = dict(fixed)
            for spec in specs:
                if spec.batched:
                    with _told(path):
                        array = members[spec.name].take(count)
                    feeds[spec.name] = fitting(str(path), spec, array, first)
            yield {spec.name: feeds[spec.name] for spec in specs}


def _count(path: Path, specs: Sequence[InputSpec], members: dict[str, _Member]) -> int:
    for spec in specs:
        check_shape(str(path), spec, members[spec.name].shape)
    counts = {members[spec.name].shape[0] for spec in specs if spec.batched} or {1}
    if len(counts) > 1:
        raise UsageError(str(path), f"its arrays hold {sorted(counts)} samples", "save as many of each input")
    return counts.pop()


def _whole(path: Path, spec: InputSpec, member: _Member) -> Array:
    with _told(path):
        array = member.take(member.shape[0]) if member.shape else member.take(1).reshape(())
    return fitting(str(path), spec, array)


@contextlib.contextmanager
def _opened(path: Path, specs: Sequence[InputSpec]) -> Iterator[dict[str, _Member]]:
    """The arrays of the inputs, each positioned at its first sample."""
    with contextlib.ExitStack() as stack:
        with _told(path):
            file = stack.enter_context(path.open("rb"))
            stored: dict[str, IO[bytes]] = {}
            if file.read(4) in _ZIP:
                archive = stack.enter_context(zipfile.ZipFile(file))
                for name in archive.namelist():
                    stored[name.removesuffix(".npy")] = stack.enter_context(archive.open(name))
            else:
                file.seek(0)
                stored[""] = file
        if len(stored) == len(specs) == 1:
            stored = {specs[0].name: next(iter(stored.values()))}
        for spec in specs:
            if spec.name not in stored:
                given, names = ", ".join(sorted(stored)) or "nothing", ", ".join(each.name for each in specs)
                raise UsageError(str(path), f"holds no array {spec.name} (it holds {given})", f"save {names} in it")
        with _told(path):
            members = {spec.name: _member(stored[spec.name]) for spec in specs}
        yield members


def _member(file: IO[bytes]) -> _Member:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_columns, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("objects")
    if by_columns and len(shape) > 1:
        file = io.BytesIO(np.frombuffer(file.read(), dtype).reshape(shape, order="F").tobytes())
    return _Member(shape, dtype, file)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Errors of reading in words."""
    try:
        yield
    except OSError as error:
        raise UsageError(str(path), f"can't be read ({error.strerror or error})", "check the path") from error
    except _BROKEN as error:
        raise UsageError(str(path), "is not a numpy file of plain arrays", "write it with numpy.savez") from error
