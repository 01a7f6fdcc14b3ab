"""Files of what calibration has seen: read within limits, and checked before anything is made of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from normexport.dtypes import FLOAT32
from normexport.errors import UsageError
from normexport.io.json_files import (
    BadJson,
    Record,
    by_name,
    count,
    digest,
    line,
    many,
    number,
    read_json,
    record,
    text,
)
from normexport.precision.int8.calibration import fingerprint, floating_values
from normexport.precision.int8.histogram import MOST, Histogram
from normexport.precision.int8.state import FORMAT, KIND, BatchesSeen, CalibrationState

#: A ResNet-50 has 3 MB of histograms; a million samples, 32 MB of digests.
MOST_BYTES = 1 << 27
_DIGEST = 32  # hexadecimal digits of a sample's digest, as `held_out.digests_of` gives them
_HEX, _WHOLE = re.compile(r"[0-9a-f]*"), re.compile(r"[0-9]{1,14}")
_MOST_BINS = MOST + 2
_MOST_TENSORS = 1 << 14  # 0.5 GB of bins


def read_state(path: Path) -> CalibrationState:
    """The state saved at `path`.

    Raises:
        UsageError: not such a file, or a damaged one.
    """
    try:
        return state_in(record(read_json(path, MOST_BYTES), ""))
    except BadJson as error:
        raise UsageError(str(path), f"is not a calibration state ({error})", "make it again") from error


def require_state_of(path: Path, state: CalibrationState, model: ir.Model) -> None:
    """Refuse a state of another model.

    Raises:
        UsageError: it is, or it lacks a tensor.
    """
    own = fingerprint(model)
    if state.model != own:
        cause = f"was made for another model ({state.model[:12]}; this one is {own[:12]})"
        raise UsageError(str(path), cause, "calibrate this one: normexport calibrate collect")
    inputs = [str(value.name) for value in model.graph.inputs if value.dtype == ir.DataType.FLOAT]
    lacking = [name for name in (*inputs, *floating_values(model, told=True)) if name not in state.tensors]
    if lacking:
        raise UsageError(str(path), f"lacks the numbers of tensor {lacking[0]}", "calibrate again")


def state_in(fields: Record) -> CalibrationState:
    """The state in a document.

    Raises:
        BadJson: it holds another thing, or numbers that no calibration has seen.
    """
    fields.require_format(FORMAT)
    if (kind := fields.get("kind", text)) != KIND:
        raise BadJson(f"kind is {kind[:40]!r}")
    found = CalibrationState(
        model=fields.get("model", digest),
        computed_by=fields.get("computed_by", line),
        batch=fields.get("batch", count),
        seen=fields.get("seen", by_name(_seen)),
        skipped=tuple(fields.get("skipped", many(line))),
        tensors=fields.get("tensors", _histograms),
        samples=fields.get("samples", _samples),
    )
    fields.no_more()
    if list(found.samples) != sorted(found.samples) or list(found.skipped) != sorted(found.skipped):
        raise BadJson("its samples are not in order")
    return found


def _histograms(value: Any, where: str) -> dict[str, Histogram]:
    if isinstance(value, dict) and len(value) > _MOST_TENSORS:
        raise BadJson(f"{where} are {len(value)}, and {_MOST_TENSORS} at most are read")
    return by_name(_histogram)(value, where)


def _first(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 1 << 40:
        raise BadJson(f"{where} is no number of a bin")
    return value


def _histogram(value: Any, where: str) -> Histogram:
    fields = record(value, where)
    counted = fields.get("counts", text)
    words = counted.split(" ") if counted else []
    if len(words) > _MOST_BINS or not all(_WHOLE.fullmatch(each) for each in words):
        raise BadJson(f"{where}.counts is no list of counts")
    counts = np.array([int(each) for each in words], np.int64)
    first = fields.get("first", _first)
    low, high = (fields.get(name, number) if words else 0.0 for name in ("low", "high"))
    fields.no_more()
    if not -FLOAT32.largest <= low <= high <= FLOAT32.largest:
        raise BadJson(f"{where} is not a range of float32 numbers")
    try:
        return Histogram.of(low, high, first, counts)
    except (ValueError, OverflowError) as error:
        raise BadJson(f"{where}: {error}") from error


def _seen(value: Any, where: str) -> BatchesSeen:
    fields = record(value, where)
    batches, spans = fields.get("batches", count), fields.get("spans", many(many(count)))
    fields.no_more()
    at = -1
    for span in spans:
        if len(span) != 2 or not at < span[0] < span[1] <= batches:
            raise BadJson(f"{where}.spans are no spans of batches")
        at = span[1]
    return BatchesSeen(batches, tuple((span[0], span[1]) for span in spans))


def _samples(value: Any, where: str) -> tuple[str, ...]:
    found = text(value, where)
    if len(found) % _DIGEST or not _HEX.fullmatch(found):
        raise BadJson(f"{where} is no sequence of digests")
    return tuple(found[at : at + _DIGEST] for at in range(0, len(found), _DIGEST))
