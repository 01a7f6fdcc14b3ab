"""The norms of weight vectors over a training run, in a small file: what eq. 4 takes from the run with weight decay.

The file is one line of JSON (what is recorded, and with which weight decay) and then one row per step: for every layer
the norms of its vectors *before* that step, little-endian. Rows are appended while the run goes on. A row that was not
written whole is not read.
"""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from normexport.errors import UsageError
from normexport.train.invariance import InvariantLayer

_FORMAT = "normexport channel norms 1"
_LONGEST_HEADER = 1 << 22
_TYPES = ("<f4", "<f8")


@dataclass(frozen=True)
class ChannelNorms:
    """The recorded norms of a run; made by `read_channel_norms`.

    Attributes:
        place: the file.
        layers: path -> how many vectors its weight is.
        rows: (steps, sum of the layers' vectors): row t holds the norms before step t, layer by layer.
        decay: path -> the weight decay of the layer's weight; one that is not named has none.
    """

    place: str
    layers: Mapping[str, int]
    rows: NDArray[Any]
    decay: Mapping[str, float] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """How many steps were recorded."""
        return len(self.rows)

    def at(self, step: int) -> dict[str, NDArray[np.float64]]:
        """path -> norms (vectors,) before a step, float64.

        Raises:
            UsageError: the run had fewer steps, or norms were not finite there.
        """
        if not 0 <= step < self.steps:
            raise UsageError(
                self.place, f"has {self.steps} steps and no step {step}", "record as many steps as you train"
            )
        row = np.asarray(self.rows[step], np.float64)
        if not np.isfinite(row).all():
            raise UsageError(self.place, f"has norms that are not finite at step {step}", "record a run that converges")
        ends = np.cumsum(list(self.layers.values()))[:-1]
        return dict(zip(self.layers, np.split(row, ends), strict=True))

    def of(self, path: str) -> NDArray[np.float64]:
        """(steps, vectors) float64: one layer over the run, for plots."""
        if path not in self.layers:
            raise UsageError(self.place, f"has no layer {path}", f"it has {', '.join(self.layers)}")
        paths = list(self.layers)
        start = sum(self.layers[each] for each in paths[: paths.index(path)])
        return np.asarray(self.rows[:, start : start + self.layers[path]], np.float64)


def read_channel_norms(path: str | Path) -> ChannelNorms:
    """Open a recording. Its rows stay on disk until they are asked for.

    Raises:
        UsageError: there is no such file, or it is no recording.
    """
    place = str(path)
    try:
        with open(path, "rb") as file:
            line = file.readline(_LONGEST_HEADER)
            layers, decay, kind = _read_header(place, line)
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise UsageError(place, f"can't be read ({error.strerror})", "name a file of record_channel_norms") from error
    width = sum(layers.values())
    steps = (len(mapped) - len(line)) // (np.dtype(kind).itemsize * width)
    rows = np.frombuffer(mapped, kind, steps * width, len(line))
    return ChannelNorms(place, layers, rows.reshape(steps, width), decay)


def _read_header(place: str, line: bytes) -> tuple[dict[str, int], dict[str, float], str]:
    wrong = UsageError(place, "is no recording of channel norms", "name a file of record_channel_norms")
    try:
        header = json.loads(line)
        kind, layers, decay = header["type"], header["layers"], header["decay"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise wrong from None
    if (
        not line.endswith(b"\n")
        or header.get("format") != _FORMAT
        or kind not in _TYPES
        or not isinstance(layers, dict)
        or not layers
        or not isinstance(decay, dict)
    ):
        raise wrong
    if not all(type(count) is int and 0 < count < 1 << 31 for count in layers.values()):
        raise wrong
    if not all(path in layers and type(each) is float and math.isfinite(each) for path, each in decay.items()):
        raise wrong
    return layers, decay, kind


class NormWriter:
    """Appends rows to a recording, one at a time; an interrupted run leaves what it had written."""

    def __init__(
        self, path: Path, layers: Sequence[InvariantLayer], decay: Mapping[str, float], wide: bool, resume: bool
    ) -> None:
        counts = {each.path: each.vectors for each in layers}
        kind = _TYPES[wide]
        self.path, self._type, self.steps = path, np.dtype(kind), 0
        self._row = self._type.itemsize * sum(counts.values())
        header = {"format": _FORMAT, "type": kind, "layers": counts, "decay": dict(decay)}
        line = json.dumps(header).encode() + b"\n"
        self._start = len(line)
        if resume:
            self._check_same(counts, decay, kind)
        try:
            self._file: IO[bytes] = path.open("r+b") if resume else path.open("wb")
            if not resume:
                self._file.write(line)
                self._file.flush()
        except OSError as error:
            raise UsageError(str(path), f"can't be written ({error.strerror})", "name another file") from error

    def _check_same(self, counts: Mapping[str, int], decay: Mapping[str, float], kind: str) -> None:
        recorded = read_channel_norms(self.path)
        same = dict(recorded.layers) == dict(counts) and (recorded.steps == 0 or recorded.rows.dtype == kind)
        if not same:
            raise UsageError(str(self.path), "records other layers than this model's", "name another file")
        if dict(recorded.decay) != dict(decay):
            raise UsageError(str(self.path), "records another weight decay than the optimizer's", "name another file")

    def go_to(self, step: int) -> None:
        """Go on at a step: rows from there on are dropped.

        Raises:
            UsageError: fewer rows were written.
        """
        self._file.seek(0, 2)
        written = (self._file.tell() - self._start) // self._row
        if step > written:
            cause = f"has {written} steps and the run goes on at {step}"
            raise UsageError(str(self.path), cause, "resume with the recording of that run")
        self._file.truncate(self._start + step * self._row)
        self._file.seek(0, 2)
        self.steps = step

    def append(self, norms: NDArray[np.float64]) -> None:
        """Write one row (sum of vectors,); in the file when this returns."""
        self._file.write(norms.astype(self._type).tobytes())
        self._file.flush()
        self.steps += 1

    def close(self) -> None:
        self._file.close()
