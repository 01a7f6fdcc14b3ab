"""A file that nobody vouches for -> a capsule, or one line that says what is wrong with it.

Nothing in it is run, no pickle is opened, and what it unpacks to is bounded (`normexport.io.numpy_files`). Each field
is checked, and so is what they say together: budgets are finite numbers, so that a candidate can fail.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from normexport.capsule.content import (
    FORMAT,
    MOST_DB,
    Capsule,
    Reference,
    Rule,
    Run,
    Signal,
    Special,
    Within,
    count_special,
)
from normexport.capsule.writing import TEXT
from normexport.dtypes import PRECISIONS, array_name
from normexport.engine.manifest import file_of
from normexport.errors import UsageError
from normexport.io.json_files import (
    MOST_BYTES,
    BadJson,
    amount,
    by_name,
    count,
    line,
    many,
    number,
    optional,
    parse_json,
    record,
    word,
)
from normexport.io.numpy_files import StoredArray, opened_arrays
from normexport.onnx_export.inputs import DTYPES
from normexport.proof import Deviation
from normexport.proof.metrics import Float64s
from normexport.runtime import Array

_MOST_AXES = 64
_MEASURES = ("scale_rms", "scale_max", "rms", "max_abs")
_SPECIAL = ("nan", "inf", "-inf")


def read(path: str | Path) -> Capsule:
    """The capsule at `path`.

    Raises:
        UsageError: it can't be read, or is no capsule of this format.
    """
    try:
        with opened_arrays(Path(path)) as stored:
            return _Reader(stored).capsule()
    except BadJson as error:
        remedy = "make it with normexport convert --capsule"
        raise UsageError(str(path), f"is not a capsule ({error})", remedy) from error


class _Reader:
    """Arrays of one file, each read once, by the fields that name them."""

    def __init__(self, stored: Mapping[str, StoredArray]) -> None:
        self._stored, self._arrays = stored, dict[str, Array]()

    def capsule(self) -> Capsule:
        """All of it; arrays that nothing names are refused."""
        fields = record(parse_json(self._text()), "")
        fields.require_format(FORMAT)
        precision = fields.get("precision", word)
        if precision not in PRECISIONS:
            raise BadJson(f"its precision is none of {', '.join(PRECISIONS)}")
        inputs = dict(fields.get("inputs", many(_input)))
        runs = fields.get("runs", many(self._run))
        run, boundaries = fields.get("boundaries", self._boundaries)
        found = Capsule(
            precision,
            fields.get("reference", line),
            fields.get("baseline", line),
            inputs,
            runs,
            boundaries,
            run,
            fields.get("unproven", many(line)),
            _by_output(fields.get("channels", many(self._channels))),
            fields.get("source", optional(file_of)),
            fields.get("model", many(file_of)),
            fields.get("versions", by_name(word)),
            fields.get("notes", many(line)),
        )
        fields.no_more()
        _check_runs(found)
        unread = [name for name in self._stored if name not in self._arrays and name != TEXT]
        if unread:
            raise BadJson(f"it says nothing of its array {unread[0][:60]!a}")
        return found

    def _text(self) -> bytes:
        if TEXT not in self._stored:
            raise BadJson(f"it holds no array {TEXT}")
        stored = self._stored[TEXT]
        if stored.dtype != np.uint8 or len(stored.shape) != 1 or stored.nbytes > MOST_BYTES:
            raise BadJson(f"its array {TEXT} is no text")
        return stored.read().tobytes()

    def _run(self, value: Any, where: str) -> Run:
        fields = record(value, where)
        name, size = fields.get("name", line), fields.get("size", count)
        feeds = fields.get("inputs", many(self._read_feed))
        outputs = fields.get("outputs", many(self._output))
        fields.no_more()
        if len(dict(feeds)) < len(feeds):
            raise BadJson(f"{where} has two inputs of one name")
        return Run(name, size, dict(feeds), outputs)

    def _read_feed(self, value: Any, where: str) -> tuple[str, Array]:
        fields = record(value, where)
        found = fields.get("name", line), fields.get("values", self._array)
        fields.no_more()
        return found

    def _output(self, value: Any, where: str) -> Reference:
        fields = record(value, where)
        name, values, dtype = fields.get("name", line), fields.get("values", self._array), fields.get("dtype", word)
        special, rule = fields.get("special", _special), fields.get("rule", _rule)
        fields.no_more()
        return _require_consistent(Reference(name, values, rule, values.shape, special, dtype=dtype), where)

    def _boundaries(self, value: Any, where: str) -> tuple[int, tuple[Reference, ...]]:
        fields = record(value, where)
        found = fields.get("run", count), fields.get("tensors", many(self._boundary))
        fields.no_more()
        return found

    def _boundary(self, value: Any, where: str) -> Reference:
        fields = record(value, where)
        name, path, kind = (fields.get(field, line) for field in ("name", "path", "type"))
        shape, values = fields.get("shape", many(count)), fields.get("values", self._array)
        at = fields.get("places", optional(self._array))
        special, rule = fields.get("special", _special), fields.get("rule", _rule)
        fields.no_more()
        return _require_consistent(Reference(name, values, rule, shape, special, at, path, kind), where)

    def _channels(self, value: Any, where: str) -> tuple[str, int, Float64s]:
        fields = record(value, where)
        name, axis, shares = fields.get("output", line), fields.get("axis", count), fields.get("values", self._array)
        fields.no_more()
        if shares.dtype != np.float64 or shares.ndim != 1:
            raise BadJson(f"{where}.values are not one number for each channel")
        floats = np.asarray(shares, dtype=np.float64)
        if not (np.isfinite(floats) & (floats >= 0)).all():
            raise BadJson(f"{where}.values are not finite numbers of 0 or more")
        return name, axis, floats

    def _array(self, value: Any, where: str) -> Array:
        name = line(value, where)
        if name not in self._stored:
            raise BadJson(f"{where} names an array that is not there")
        if name not in self._arrays:
            stored = self._stored[name]
            if stored.dtype.kind not in "fiub" or stored.dtype.itemsize > 8:
                raise BadJson(f"{where} is of the type {stored.dtype}, and plain numbers are needed")
            self._arrays[name] = stored.read()
        return self._arrays[name]


def _input(value: Any, where: str) -> tuple[str, str]:
    fields = record(value, where)
    name, dtype = fields.get("name", line), fields.get("dtype", word)
    fields.no_more()
    if dtype not in DTYPES:
        raise BadJson(f"{where}.dtype is none of {', '.join(DTYPES)}")
    return name, dtype


def _by_output(channels: Sequence[tuple[str, int, Float64s]]) -> dict[str, dict[int, Float64s]]:
    found: dict[str, dict[int, Float64s]] = {}
    for name, axis, shares in channels:
        found.setdefault(name, {})[axis] = shares
    return found


def _special(value: Any, where: str) -> Special:
    fields = record(value, where)
    nan, high, low = (fields.get(name, count) for name in _SPECIAL)
    fields.no_more()
    return nan, high, low


def _rule(value: Any, where: str) -> Rule:
    fields = record(value, where)
    kind = fields.get("rule", word)
    if kind == "snr":
        rule: Rule = Signal(fields.get("min_db", _decibels), fields.get("scale_rms", amount))
    elif kind == "budget":
        most = fields.get("max_abs", optional(amount))
        baseline = fields.get("baseline", optional(_errors))
        rule = Within(fields.get("rms", amount), math.inf if most is None else most, baseline)
    else:
        raise BadJson(f"{where}.rule is neither budget nor snr")
    fields.no_more()
    return rule


def _decibels(value: Any, where: str) -> float:
    if abs(found := number(value, where)) > MOST_DB:
        raise BadJson(f"{where} is {found:g}, and a distance that float64 can have is needed")
    return found


def _errors(value: Any, where: str) -> Deviation:
    fields = record(value, where)
    size, cosine = fields.get("size", count), fields.get("cosine", number)
    scale_rms, scale_max, rms, max_abs = (fields.get(name, amount) for name in _MEASURES)
    found = Deviation(size, scale_rms, scale_max, rms, max_abs, cosine)
    fields.no_more()
    return found


def _require_consistent(reference: Reference, where: str) -> Reference:
    """A tensor whose parts fit together, and a rule that something could break."""
    rule, floating = reference.rule, reference.values.dtype.kind == "f"
    if floating and reference.values.dtype != np.float64:
        raise BadJson(f"{where} is of the type {reference.values.dtype}, and float64 is needed")
    if isinstance(rule, Within) and math.isinf(rule.max_abs) and floating:
        raise BadJson(f"{where}.rule.max_abs is missing, and without it anything would pass")
    if isinstance(rule, Signal) and not floating:
        raise BadJson(f"{where} holds whole numbers, and they have no signal-to-noise ratio")
    if not math.isfinite(rule.budget.rms):
        raise BadJson(f"{where}.rule.min_db is so low that anything would pass")
    size = math.prod(reference.shape)
    if len(reference.shape) > _MOST_AXES or size >= 1 << 60:
        raise BadJson(f"{where}.shape is one that no array has")
    if sum(reference.special) > size:
        raise BadJson(f"{where}.special counts more than there is")
    if reference.at is None:
        if reference.values.shape != reference.shape:
            raise BadJson(f"{where} has the shape {reference.values.shape}, and says {reference.shape}")
        if count_special(reference.values) != reference.special:
            raise BadJson(f"{where}.special is not what its values hold")
    else:
        _check_places(reference, size, where)
    if isinstance(rule, Within) and rule.baseline is not None:
        return replace(reference, rule=replace(rule, baseline=replace(rule.baseline, floating=floating)))
    return reference


def _check_places(reference: Reference, size: int, where: str) -> None:
    at = reference.at
    assert at is not None
    if at.dtype != np.int64 or at.ndim != 1 or at.shape != reference.values.shape or not at.size:
        raise BadJson(f"{where}.places are not one whole number for each value")
    if at[0] < 0 or at[-1] >= size or (np.diff(at) <= 0).any():
        raise BadJson(f"{where}.places do not rise from 0 to the tensor's size")


def _check_runs(capsule: Capsule) -> None:
    """Every run has all inputs and all outputs, and there are some."""
    if not capsule.runs or not capsule.runs[0].outputs:
        raise BadJson("it holds no outputs")
    if capsule.boundary_run >= len(capsule.runs):
        raise BadJson(f"boundaries.run is {capsule.boundary_run}, and it holds {len(capsule.runs)} runs")
    outputs = [output.name for output in capsule.runs[0].outputs]
    if len(set(outputs)) < len(outputs):
        raise BadJson("two of its outputs have one name")
    if not set(capsule.channels) <= set(outputs):
        raise BadJson("its channels are of outputs that it does not have")
    for index, run in enumerate(capsule.runs):
        if list(run.feeds) != list(capsule.inputs):
            raise BadJson(f"runs[{index}] has other inputs than the capsule")
        if [output.name for output in run.outputs] != outputs:
            raise BadJson(f"runs[{index}] has other outputs than the first")
        for name, dtype in capsule.inputs.items():
            stored = run.feeds[name].dtype
            if stored != np.dtype(array_name(dtype)):
                raise BadJson(f"runs[{index}] has the input {name!a} as {stored}, and {dtype} is needed")
