"""Parquet files that nobody vouches for: a few rows of some columns at a time, by pyarrow.

What a column holds is a number, a list of numbers nested as deep as a sample has axes, or bytes: those of an image or
an .npy file, as they are or as the field `bytes` of a struct, as Hugging Face's datasets have them. Versions of
pyarrow before 14.0.1 unpickle what a file holds (CVE-2023-47248), and are refused; later ones run nothing of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from normexport.errors import MissingComponent, UsageError
from normexport.io.opening import opened
from normexport.text import first_line, printable

Array = npt.NDArray[Any]

MAGIC = b"PAR1"
MOST_ROWS = 1 << 27  # of a file: a row is a number in a list of those that are drawn
_AT_A_TIME = 8  # rows
_NUMBERS_AT_A_TIME = 1 << 16
_BUFFER = 1 << 20  # bytes of a column that are read at a time
_MOST_CELL = 1 << 30  # bytes
_SAFE = (14, 0, 1)
_REMEDY = "write it with pyarrow"


@dataclass(frozen=True)
class Cell:
    """The bytes in one row of a column: a file in the table."""

    place: str
    held: bytes

    @property
    def suffix(self) -> str:
        """ ".npy", or nothing: images are known by their content."""
        return ".npy" if self.held.startswith(b"\x93NUMPY") else ""

    def __str__(self) -> str:
        return self.place

    def content(self) -> bytes:
        """The bytes."""
        return self.held


def is_parquet(path: Path) -> bool:
    """Whether a file is a Parquet file, by its content.

    Raises:
        UsageError: it can't be read.
    """
    with opened(path) as file:
        return file.read(len(MAGIC)) == MAGIC


class ParquetTable:
    """One file, of which nothing but its end is read until rows are asked for.

    Attributes:
        columns: the names of those that hold numbers or bytes, each with whether it holds bytes.
        count: rows.

    Raises:
        UsageError: unreadable, damaged, or of more rows than `MOST_ROWS`.
        MissingComponent: pyarrow is not installed, or so old that it would run what a file holds.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._reading() as file:
            metadata = file.metadata
            self._groups = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
            kinds = {field.name: _holds_bytes(field.type) for field in file.schema_arrow}
        self.columns = {name: kind for name, kind in kinds.items() if kind is not None}
        self.count = sum(self._groups)
        if min(self._groups, default=0) < 0 or self.count > MOST_ROWS:
            raise UsageError(str(path), f"announces {self.count} rows, more than are read", "give it in several files")

    def rows(self, columns: Sequence[str], first: int = 0) -> Iterator[Row]:
        """The rows from number `first` on, with these columns.

        Raises:
            UsageError: damaged.
        """
        group, number = 0, 0
        while group < len(self._groups) and number + self._groups[group] <= first:
            number += self._groups[group]
            group += 1
        with self._reading() as file:
            groups = list(range(group, len(self._groups)))
            for batch in file.iter_batches(_AT_A_TIME, groups, columns=list(columns), use_threads=False):
                for place in range(batch.num_rows):
                    if number >= first:
                        yield Row(self, number, batch, place)
                    number += 1
        if number != self.count:
            raise UsageError(str(self.path), f"holds {number} rows, and announces {self.count}", _REMEDY)

    def numbers(self, column: str) -> Array:
        """A column of one number a row, whole: (rows,).

        Raises:
            UsageError: damaged, or it holds something else.
        """
        parts: list[Array] = [np.zeros(0, np.int64)]
        with self._reading() as file:
            for batch in file.iter_batches(_NUMBERS_AT_A_TIME, columns=[column], use_threads=False):
                values = batch.column(column)
                if values.null_count:
                    raise UsageError(f"{self.path}: column {printable(column)}", "lacks values", "leave such rows out")
                parts.append(_flat(values))
        found = np.concatenate(parts[1:] or parts)
        if len(found) != self.count or found.dtype.kind not in "iubf":
            raise UsageError(f"{self.path}: column {printable(column)}", "holds no number for each row", _REMEDY)
        return found

    @contextlib.contextmanager
    def naming_errors(self) -> Iterator[None]:
        """What pyarrow raises is said of the file."""
        try:
            yield
        except _errors() as error:
            cause = f"is not a Parquet file that can be read ({first_line(error)})"
            raise UsageError(str(self.path), cause, _REMEDY) from error

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Any]:
        parquet = _import()
        with opened(self.path) as file, self.naming_errors():
            yield parquet.ParquetFile(file, buffer_size=_BUFFER, memory_map=False)


@dataclass(frozen=True)
class Row:
    """A row of a table, whose values are made when they are asked for."""

    table: ParquetTable
    number: int
    batch: Any
    place: int

    def value(self, column: str) -> Cell | Array:
        """An array, or the bytes as a `Cell`.

        Raises:
            UsageError: a value is missing, or is no array.
        """
        place = f"{self.table.path}: row {self.number}, column {printable(column)}"
        with self.table.naming_errors():
            scalar = self.batch.column(column)[self.place]
            holds_bytes = self.table.columns[column]
            if scalar.is_valid and holds_bytes and hasattr(scalar, "keys"):
                scalar = scalar["bytes"]
            if not scalar.is_valid:
                raise UsageError(place, "holds nothing", "leave such rows out")
            if not holds_bytes:
                return _tensor(scalar, place) if _is_tensor(scalar.type) else _array(scalar, place)
            held = scalar.as_buffer()
            if held.size > _MOST_CELL:
                raise UsageError(place, f"holds {held.size >> 20} MiB", "leave such rows out")
            return Cell(place, held.to_pybytes())


def _import() -> Any:
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingComponent.of("pyarrow", "parquet") from error
    version = tuple(int(part) for part in arrow.__version__.split(".")[:3] if part.isdigit())
    if version < _SAFE:
        needed = ".".join(map(str, _SAFE))
        cause = f"is version {arrow.__version__}, which can be made to run code by a file"
        raise MissingComponent("pyarrow", cause, f"run: pip install 'pyarrow>={needed}'")
    return parquet


def _errors() -> tuple[type[Exception], ...]:
    import pyarrow as arrow

    own = arrow.ArrowException, OSError
    return (*own, ValueError, TypeError, KeyError, OverflowError, MemoryError, NotImplementedError)


def _is_tensor(kind: Any) -> bool:
    """Whether it is Arrow's type of a tensor, whose axes may lie in memory in another order than they are meant."""
    return getattr(kind, "extension_name", "") == "arrow.fixed_shape_tensor"


def _tensor(scalar: Any, place: str) -> Array:
    """The tensor of a row.

    Raises:
        UsageError: its axes lie in another order. pyarrow 26 writes the inverse of the permutation that it reads, so
            that nobody knows what is meant.
    """
    kind = scalar.type
    if kind.permutation is not None and list(kind.permutation) != sorted(kind.permutation):
        raise UsageError(place, "is a tensor with its axes in another order", "save arrays in row order")
    return _array(scalar.value, place).reshape(kind.shape)


def _holds_bytes(kind: Any) -> bool | None:
    """True: bytes; False: numbers, alone or in lists; None: something else."""
    from pyarrow import types

    if hasattr(kind, "storage_type"):  # what another extension means, nobody says here
        return _holds_bytes(kind.storage_type) if _is_tensor(kind) else None
    if types.is_struct(kind):
        inner = kind.get_field_index("bytes")
        return True if inner >= 0 and _holds_bytes(kind.field(inner).type) else None
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return True
    while types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        kind = kind.value_type
    return False if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) else None


def _array(scalar: Any, place: str) -> Array:
    """The array of a list of lists of one length each, or of a number.

    Raises:
        UsageError: lists of several lengths, or values that are missing.
    """
    shape: list[int] = []
    if not hasattr(scalar, "values"):
        value: Array = np.asarray(scalar.as_py())
        return value
    values = scalar.values
    shape.append(len(values))
    while hasattr(values, "flatten") and hasattr(values.type, "value_type"):
        inner = values.flatten()
        each = len(inner) // len(values) if len(values) else 0
        lengths = values.value_lengths() if hasattr(values, "value_lengths") else None
        if values.null_count or (lengths is not None and any(length.as_py() != each for length in lengths)):
            raise UsageError(place, "is a list of lists of several lengths", "save arrays, with all of their numbers")
        shape.append(each)
        values = inner
    if values.null_count:
        raise UsageError(place, "lacks numbers", "leave such rows out")
    return _flat(values).reshape(shape)


def _flat(values: Any) -> Array:
    found: Array = values.to_numpy(zero_copy_only=False)
    return found
