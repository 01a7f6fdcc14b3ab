"""What both sides are fed: random inputs of several sizes and scales, and the user's own.

Floating-point inputs are float64 arrays whose rounding to float32 is what the candidate sees: an input stands for all
the values that round to it, and the reference takes one of those (why: `normexport.parity.tolerance`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from normexport.errors import UsageError
from normexport.io.numpy_files import StoredArray, opened_arrays
from normexport.onnx_export import InputSpec
from normexport.runtime import Array

SIZES = (1, 2, 7)  # alone, a pair, and a number no kernel's blocking divides
SCALES = (1.0, 0.1, 4.0)  # in turn; weak inputs show biases, strong ones saturation
LARGE_SAMPLE = 1 << 16  # numbers per sample; above (224x224 images) float64 costs 0.25 s a sample: fewer of them
_MOST_NUMBERS = 1 << 27  # in a random batch, 1 GB in float64: a declared shape is no reason to fill the memory
_KEEP_CELL = 0.24  # of the spacing; below half of the smaller spacing under a power of two: rounds back to the input
_PASS_THROUGH = ("Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity")


@dataclass(frozen=True)
class Batch:
    """One set of inputs: `name` for reports ("random x0.1, batch 2"), its batch size, an array per input."""

    name: str
    size: int
    feeds: Mapping[str, Array]


def standard_batches(
    specs: Sequence[InputSpec],
    data: Mapping[str, Array] | None = None,
    *,
    sizes: Sequence[int] | None = None,
    seed: int = 0,
    highs: Mapping[str, int] | None = None,
) -> tuple[Batch, ...]:
    """Random batches of `sizes` (default: 1, 2, 7; 1, 2 for large inputs; one where the batch is fixed), and `data`.

    Args:
        specs: the model's inputs.
        data: real inputs by name, as `load_arrays` gives them; one batch of the first samples is used.
        sizes: batch sizes, each with the next of `SCALES`.
        seed: same seed, same inputs.
        highs: exclusive upper end of integer inputs by name (`integer_highs`), default 2.
    """
    large = any(math.prod(spec.shape) > LARGE_SAMPLE for spec in specs)
    if not any(spec.batched for spec in specs):
        sizes = (1,) * (1 if large else len(SCALES))
    elif sizes is None:
        sizes = SIZES[:2] if large else SIZES
    batches = [
        _random_batch(specs, size, SCALES[index % len(SCALES)], seed + index, highs or {})
        for index, size in enumerate(sizes)
    ]
    if data is not None:
        batches.append(_real_batch(specs, data, 2 if large else 16, seed))
    return tuple(batches)


def load_arrays(path: str | Path, specs: Sequence[InputSpec]) -> dict[str, Array]:
    """Real inputs from an .npz (or, for a model of one input, .npy) file: arrays (samples, *shape) by input name.

    A file with one array serves a model with one input, whatever the array's name.

    Raises:
        UsageError: unreadable file, missing or unknown names, wrong shape or dtype, different numbers of samples.
    """
    with opened_arrays(Path(path)) as stored:
        chosen = arrays_of(str(path), stored, specs)
        checked = {spec.name: _whole(str(path), spec, chosen[spec.name]) for spec in specs}
    counts = {len(checked[spec.name]) for spec in specs if spec.batched}
    if len(counts) > 1:
        raise UsageError(str(path), f"its arrays hold {sorted(counts)} samples", "save as many of each input")
    return checked


def arrays_of(path: str, stored: Mapping[str, StoredArray], specs: Sequence[InputSpec]) -> dict[str, StoredArray]:
    """The array of each input, by its name; a single array serves a single input, whatever its name.

    Raises:
        UsageError: one is missing.
    """
    if len(stored) == len(specs) == 1:
        return {specs[0].name: next(iter(stored.values()))}
    for spec in specs:
        if spec.name not in stored:
            given, names = ", ".join(sorted(stored)) or "nothing", ", ".join(each.name for each in specs)
            raise UsageError(path, f"holds no array {spec.name} (it holds {given})", f"save {names} in it")
    return {spec.name: stored[spec.name] for spec in specs}


def integer_highs(model: ir.Model) -> dict[str, int]:
    """For integer inputs that index a table (Gather from an initializer): the number of its rows."""
    highs = {}
    for value in model.graph.inputs:
        reached, high = [value], None
        while reached and high is None:
            current = reached.pop()
            for node, position in current.uses():
                if node.op_type in _PASS_THROUGH and position == 0:
                    reached.append(node.outputs[0])
                elif node.op_type == "Gather" and position == 1:
                    high = _rows(node)
        if high is not None and value.name:
            highs[value.name] = high
    return highs


def _random_batch(specs: Sequence[InputSpec], size: int, scale: float, seed: int, highs: Mapping[str, int]) -> Batch:
    rng = np.random.default_rng(seed)
    feeds = {spec.name: _random(rng, spec, size, scale, highs.get(spec.name, 2)) for spec in specs}
    fixed = "" if any(spec.batched for spec in specs) else " (fixed by the model)"
    return Batch(f"random x{scale:g}, batch {size}{fixed}", size, feeds)


def _random(rng: np.random.Generator, spec: InputSpec, size: int, scale: float, high: int) -> Array:
    shape = spec.sized(size)
    if math.prod(shape) > _MOST_NUMBERS:
        cause = f"has the shape {shape}, and {_MOST_NUMBERS >> 20} million numbers are the most for a random batch"
        raise UsageError(f"input {spec.name}", cause, "give the shape of one sample with --input")
    if spec.dtype.startswith(("float", "bfloat")):
        return _as_read(rng.standard_normal(shape) * scale, spec)
    if spec.dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    top = min(high, int(np.iinfo(spec.dtype).max) + 1)
    return rng.integers(0, top, shape).astype(spec.dtype)


def _is_half(spec: InputSpec) -> bool:
    return spec.dtype in ("float16", "bfloat16")


def _as_read(array: Array, spec: InputSpec) -> Array:
    """Rounded to a half-precision input's own type: a float32 baseline would otherwise see more of it."""
    if not _is_half(spec):
        return array
    return array.astype(ir.DataType[spec.dtype.upper()].numpy()).astype(np.float64)


def _real_batch(specs: Sequence[InputSpec], data: Mapping[str, Array], most: int, seed: int) -> Batch:
    rng = np.random.default_rng(seed)
    feeds = {}
    size = 1
    for spec in specs:
        array = data[spec.name]
        if spec.batched:
            array = array[:most]
            size = len(array)
        if _is_half(spec):
            feeds[spec.name] = _as_read(array.astype(np.float64), spec)
        else:
            feeds[spec.name] = _within_rounding(rng, array) if np.issubdtype(array.dtype, np.floating) else array
    return Batch(f"real, batch {size}", size, feeds)


def _within_rounding(rng: np.random.Generator, array: Array) -> Array:
    """float64 values that round to `array`; zeros stay zero."""
    single = array.astype(np.float32) if array.dtype == np.float64 else array
    spacing = np.where(single == 0, 0, np.spacing(np.abs(single))).astype(np.float64)
    return single.astype(np.float64) + spacing * rng.uniform(-_KEEP_CELL, _KEEP_CELL, array.shape)


def check_shape(path: str, spec: InputSpec, shape: tuple[int, ...]) -> None:
    """Whether an array of this shape holds samples for the input.

    Raises:
        UsageError: it does not.
    """
    sizes = shape[1:] if spec.batched else shape
    if (spec.batched and not shape) or sizes != spec.shape or 0 in shape:
        expected = ", ".join(map(str, ("N", *spec.shape) if spec.batched else spec.shape))
        cause = f"has shape {shape}, expected ({expected})"
        raise UsageError(_place(path, spec), cause, "give samples of the shape the model reads")


def fitting(path: str, spec: InputSpec, array: Array, first: int = 0) -> Array:
    """Samples (N, *shape) for one input, in a type that it takes; `first` is the number of the first one.

    Raises:
        UsageError: wrong shape or dtype, NaN.
    """
    check_shape(path, spec, array.shape)
    kept = array.astype(fitting_dtype(path, spec, array.dtype), copy=False)
    _refuse_nan(path, spec, kept, first)
    return kept


def fitting_dtype(path: str, spec: InputSpec, dtype: np.dtype[np.generic]) -> np.dtype[np.generic]:
    """The type in which numbers of `dtype` are fed to the input: floats keep theirs, runtimes round them.

    Raises:
        UsageError: they don't go into it.
    """
    if spec.dtype.startswith(("float", "bfloat")):
        if dtype.kind == "f" and dtype.itemsize <= 8:
            native: np.dtype[np.generic] = dtype.newbyteorder("=")
            return native
        if dtype.kind in "iub":
            return np.dtype(np.float32)
    elif dtype.kind in "iub" and np.can_cast(dtype, spec.dtype, "same_kind"):
        return np.dtype(spec.dtype)
    raise UsageError(_place(path, spec), f"has dtype {dtype}, expected {spec.dtype}", "convert it")


def _whole(path: str, spec: InputSpec, stored: StoredArray) -> Array:
    check_shape(path, spec, stored.shape)
    array = stored.read(fitting_dtype(path, spec, stored.dtype))
    _refuse_nan(path, spec, array, 0)
    return array


def _refuse_nan(path: str, spec: InputSpec, array: Array, first: int) -> None:
    """A megabyte at a time: of a file of nothing but NaN, a list of all places would be many times its size."""
    if array.dtype.kind != "f" or not array.size:
        return
    rows = np.atleast_1d(array)
    step = max(1, (1 << 20) // rows[0].size)
    for start in range(0, len(rows), step):
        found = np.isnan(rows[start : start + step]).reshape(-1, rows[0].size).any(axis=1)
        if found.any():
            sample = start + int(found.argmax()) + first if array.ndim else "it"
            raise UsageError(_place(path, spec), f"holds NaN, first in sample {sample}", "leave such samples out")


def _place(path: str, spec: InputSpec) -> str:
    return f"{path}: array {spec.name}" if spec.name else path


def _rows(gather: ir.Node) -> int | None:
    table = gather.inputs[0]
    if table is None or table.const_value is None:
        return None
    axis = gather.attributes.get("axis")
    return int(table.const_value.shape.numpy()[axis.as_int() if axis is not None else 0])
