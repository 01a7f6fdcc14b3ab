"""Run a float32 model over calibration data and choose the range of every tensor; samples stream, histograms stay."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from normexport.dtypes import EIGHT_BITS, FLOAT32, INT8, SHORT
from normexport.errors import UsageError
from normexport.io.atomic import write_text
from normexport.io.json_files import (
    BadJson,
    Record,
    by_name,
    count,
    digest,
    flag,
    many,
    number,
    read_json,
    record,
    word,
)
from normexport.precision.config import METHODS
from normexport.precision.int8.clips import is_clipped_behind
from normexport.precision.int8.histogram import Coarse, Histogram
from normexport.precision.int8.ranges import RANGE_OF, Range
from normexport.precision.int8.storage import PLAIN, Storage
from normexport.progress import counted
from normexport.runtime import Array, Feeds, OnnxRuntime

FORMAT = 2  # 2 says which samples were seen


@dataclass(frozen=True)
class Calibration:
    """Ranges by tensor name, and what they came from.

    Attributes:
        ranges: (lowest, highest) that int8 stands for.
        method: "minmax", "percentile", "mse" or "entropy".
        symmetric: whether the search was for a range symmetric about zero.
        model: digest of the model's structure and weights.
        data: digest of the samples in their order.
        samples, batch: how many, and how many at a time: the statistics of live norms depend on it.
        seen: a digest of each sample (`precision.int8.held_out`): what calibrated does not judge.
        dtype: of the eight bits that the ranges are for.
        shown: histograms by tensor name, for reports; empty where none were made, and not saved.
    """

    ranges: Mapping[str, Range]
    method: str
    symmetric: bool
    model: str
    data: str
    samples: int
    batch: int
    seen: tuple[str, ...] = ()
    dtype: str = INT8
    shown: Mapping[str, Coarse] = field(default_factory=dict, repr=False, compare=False)

    def save(self, path: Path) -> None:
        """Write as JSON."""
        saved = {name: value for name, value in vars(self).items() if name != "shown"}
        write_text(path, json.dumps({"format": FORMAT, **saved}, indent=1) + "\n")


def calibrate(
    model: ir.Model,
    batches: Iterable[Feeds],
    method: str = "minmax",
    *,
    symmetric: bool = False,
    storage: Storage = PLAIN,
    on_batch: Callable[[int], None] | None = None,
    on_tensor: Callable[[str, Array], None] | None = None,
    also: Collection[str] = (),
) -> Calibration:
    """Ranges of the floating inputs and inner values of `model` that int8 may hold, on ONNX Runtime.

    Args:
        batches: arrays by input name; read once, one at a time.
        storage: what the ranges are for.
        on_batch: called with the number of samples seen after each batch.
        on_tensor: called with every floating array that is looked at, by the name of its tensor.
        also: tensors to look at beside those, which get no range the less.

    Raises:
        UsageError: no samples, an unknown method, a model that gives NaN or infinity, data that is one constant.
    """
    if method not in METHODS:
        raise UsageError(f"--calibration {method}", "is not a method", f"choose one of {', '.join(METHODS)}")
    runtime = OnnxRuntime(model)
    ranged = floating_values(model)
    extra = set(also) - {*ranged, *(str(value.name) for value in model.graph.inputs)}
    names = [*ranged, *sorted(extra)]
    seen: dict[str, Histogram] = {}
    digest, samples, size = hashlib.sha256(), 0, 0

    def look(name: str, array: Array) -> None:
        if array.dtype.kind != "f":
            return
        if on_tensor is not None:
            on_tensor(name, array)
        if name in extra:
            return
        histogram = seen.setdefault(name, Histogram())
        with np.errstate(over="ignore"):  # told as infinite below
            single = array.astype(np.float32, copy=False)
        ends = histogram.look(single)
        if single.size and not math.isfinite(histogram.high - histogram.low):
            raise UsageError(f"tensor {name}", "is not finite on the calibration data", "check data and model")
        if method != "minmax":
            histogram.count(single, ends)

    for feeds in batches if on_batch is not None else counted("calibrating", batches):
        for name, array in feeds.items():
            digest.update(np.ascontiguousarray(array).tobytes())
            look(name, np.asarray(array))
        runtime.run(feeds, names, look)
        count = max((len(array) for array in feeds.values() if array.ndim), default=1)
        samples, size = samples + count, max(size, count)
        if on_batch is not None:
            on_batch(samples)
    if not samples:
        raise UsageError("calibration data", "holds no samples", "give at least one")
    require_varied(model, seen)
    ranges = {name: RANGE_OF[method](histogram, symmetric, storage) for name, histogram in seen.items()}
    known = fingerprint(model), digest.hexdigest(), samples, size
    coarse = {name: each for name, histogram in seen.items() if (each := histogram.coarse()) is not None}
    return Calibration(ranges, method, symmetric, *known, dtype=storage.dtype, shown=coarse)


def floating_values(model: ir.Model, *, told: bool = False) -> list[str]:
    """Names of the inner values whose ranges are wanted, in the order of the graph.

    Those are all but what a ReLU or Clip alone reads, which takes the range of its result (`value_scales`). Of a
    ResNet-50 that is a little more than half of the numbers, and a runtime fuses a ReLU that nobody looks in front of.

    Args:
        told: only those of which the file says that they are floating; else the array will, where it does not.
    """
    floating = (ir.DataType.FLOAT,) if told else (ir.DataType.FLOAT, None)
    values = [value for node in model.graph for value in node.outputs if value.name and value.dtype in floating]
    return [str(value.name) for value in values if not is_clipped_behind(value)]


def require_finite(name: str, array: Array) -> None:
    """Refuse a tensor that calibration data makes NaN or infinite.

    Raises:
        UsageError: it is.
    """
    if not np.isfinite(array).all():
        raise UsageError(f"tensor {name}", "is not finite on the calibration data", "check data and model")


def require_varied(model: ir.Model, seen: Mapping[str, Histogram]) -> None:
    """Refuse data of which an input is one constant.

    Raises:
        UsageError: it is.
    """
    for value in model.graph.inputs:
        found = seen.get(str(value.name))
        if found is not None and found.low == found.high:
            raise UsageError(
                f"calibration data: input {value.name}", f"is {found.low:g} throughout", "give real samples"
            )


def read_calibration(
    path: Path, model: ir.Model, method: str, *, symmetric: bool = False, dtype: str = INT8
) -> Calibration:
    """The calibration saved at `path`.

    Raises:
        UsageError: not such a file, an incomplete one, or one of another model or method.
    """
    try:
        found = _calibration(record(read_json(path), ""))
    except BadJson as error:
        raise UsageError(
            str(path), f"is not a calibration cache ({error})", "remove it, and calibrate again"
        ) from error
    if found.model != fingerprint(model):
        raise UsageError(str(path), "was made for another model", "remove it, and calibrate again")
    inputs = [str(value.name) for value in model.graph.inputs if value.dtype == ir.DataType.FLOAT]
    lacking = [name for name in (*inputs, *floating_values(model, told=True)) if name not in found.ranges]
    if lacking:
        raise UsageError(str(path), f"lacks the range of tensor {lacking[0]}", "remove it, and calibrate again")
    if found.dtype != dtype:
        cause = f"holds ranges for {SHORT[found.dtype]}, not for {SHORT[dtype]}"
        raise UsageError(str(path), cause, "remove it, and calibrate again")
    if (found.method, found.symmetric) != (method, symmetric):
        kind = f"{found.method}{', symmetric' if found.symmetric else ''}"
        raise UsageError(str(path), f"holds ranges by {kind}", f"remove it, or ask for --calibration {found.method}")
    return found


def _calibration(fields: Record) -> Calibration:
    fields.require_format(FORMAT)
    found = Calibration(
        ranges=fields.get("ranges", by_name(_range)),
        method=fields.get("method", word),
        symmetric=fields.get("symmetric", flag),
        model=fields.get("model", digest),
        data=fields.get("data", digest),
        samples=fields.get("samples", count),
        batch=fields.get("batch", count),
        seen=tuple(fields.get("seen", many(word))),
        dtype=fields.get("dtype", _dtype) if fields.has("dtype") else INT8,
    )
    fields.no_more()
    return found


def _dtype(value: Any, where: str) -> str:
    found = word(value, where)
    if found not in EIGHT_BITS:
        raise BadJson(f"{where} is none of {', '.join(EIGHT_BITS)}")
    return found


def _range(value: Any, where: str) -> Range:
    found = many(number)(value, where)
    if len(found) != 2 or not -FLOAT32.largest <= found[0] <= found[1] <= FLOAT32.largest:
        raise BadJson(f"{where} is not a range of float32 numbers")
    return found[0], found[1]


def fingerprint(model: ir.Model) -> str:
    """Digest of operators, connections and weights."""
    digest = hashlib.sha256()
    for node in model.graph:
        values = [*node.inputs, *node.outputs]
        digest.update(repr((node.domain, node.op_type, [value and value.name for value in values])).encode())
    for name, value in sorted(model.graph.initializers.items()):
        if value.const_value is not None:
            digest.update(name.encode() + np.ascontiguousarray(value.const_value.numpy()).tobytes())
    return digest.hexdigest()
