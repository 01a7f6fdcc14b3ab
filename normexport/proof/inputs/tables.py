"""The samples of a Parquet file, a row each: numbers, or the bytes of an image or an .npy file, by names of inputs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from normexport.errors import UsageError
from normexport.io.data_sources import LABELS
from normexport.io.parquet_tables import Array, Cell, ParquetTable, Row
from normexport.io.preprocess import UNSAID, Preprocess
from normexport.onnx_export import InputSpec
from normexport.proof.inputs.batches import fitting, names_in
from normexport.proof.inputs.folders import FolderSamples, SampleFolder
from normexport.runtime import Feeds
from normexport.text import printable, shortened

_NEAR = 4096  # rows that are passed over; to go further a table is opened anew


@dataclass
class TableSamples:
    """The samples of one file, which is read from its first row on, and then from the first again.

    The column of an input has its name; of a single input, it is the only one beside labels, or the only one of bytes.
    """

    path: Path
    specs: Sequence[InputSpec]
    prepared: Preprocess = UNSAID
    _behind: int = field(default=0, repr=False)
    _rest: Iterator[Row] | None = field(default=None, repr=False)

    @classmethod
    def reading(cls, prepared: Preprocess | None) -> Callable[[Path, Sequence[InputSpec]], TableSamples]:
        """What makes samples of a file, images prepared so."""
        return lambda path, specs: cls(path, specs, prepared or UNSAID)

    @cached_property
    def table(self) -> ParquetTable:
        """The file."""
        return ParquetTable(self.path)

    @cached_property
    def columns(self) -> dict[str, str]:
        """The column of each input.

        Raises:
            UsageError: one has none.
        """
        known = self.table.columns
        found = names_in(known, self.specs)
        if len(self.specs) == 1 and not found:
            others = [name for name in known if name not in LABELS]
            packed = [name for name in others if known[name]]
            only = others if len(others) == 1 else packed
            found = {self.specs[0].name: only[0]} if len(only) == 1 else {}
        lacking = [spec.name for spec in self.specs if spec.name not in found]
        if lacking:
            has = shortened([printable(name) for name in known], 8) or "none"
            cause = f"has no column {lacking[0]} of numbers or bytes (it has {has})"
            raise UsageError(str(self.path), cause, "call columns as the model calls its inputs")
        return found

    @property
    def count(self) -> int:
        rows: int = self.table.count
        return rows

    def read(self, number: int) -> Iterable[Feeds]:
        if self._rest is None or not 0 <= number - self._behind <= _NEAR:
            self._rest, self._behind = self.table.rows(list(dict.fromkeys(self.columns.values())), number), number
        rest, self._rest = self._rest, None  # where it is damaged, nothing more comes of it
        for row in rest:
            self._behind = row.number + 1
            if row.number == number:
                self._rest = rest
                return [{spec.name: self._input(row, spec) for spec in self.specs}]
        raise UsageError(str(self.path), f"holds no row {number}", "give the file that the run began with")

    def name(self, number: int) -> str:
        return f"{self.path.name}: row {number}"

    def identity(self) -> str:
        asked = None if self.prepared == UNSAID else self.prepared.as_dict()
        return json.dumps([self.path.name, self.path.stat().st_size, asked])

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: value for name, value in self.__dict__.items() if name not in ("table", "columns")}
        return {**kept, "_behind": 0, "_rest": None}

    def _input(self, row: Row, spec: InputSpec) -> Array:
        value = row.value(self.columns[spec.name])
        if isinstance(value, Cell):
            folder = FolderSamples(SampleFolder(self.path, (value,)), spec, self.prepared)
            for feeds in folder.batches(1):
                return feeds[spec.name]
            cause = f"holds one image, and the model reads {folder.at_a_time} at a time"
            raise UsageError(value.place, cause, "export the model with a free batch")
        place = f"{self.path}: row {row.number}"
        if value.ndim == 1 and len(spec.shape) != 1 and value.size == math.prod(spec.shape):
            value = value.reshape(spec.shape)
        return fitting(place, spec, value[None] if spec.batched else value)


def labels_in_tables(paths: Sequence[Path]) -> Array | None:
    """The labels of Parquet files, one after the other: (samples,); None where the first has none.

    Raises:
        UsageError: a file lacks them, or they are no numbers.
    """
    parts: list[Array] = []
    for path in paths:
        table = ParquetTable(path)
        name = next((name for name in LABELS if table.columns.get(name) is False), None)
        if name is None and not parts:
            return None
        if name is None:
            raise UsageError(str(path), f"has no column of labels, as {paths[0].name} has", "add one")
        parts.append(table.numbers(name))
    return np.concatenate(parts)
