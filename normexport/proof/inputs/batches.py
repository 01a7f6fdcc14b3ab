"""What both sides are fed: random inputs of several sizes and scales, and the user's own.

Floating-point inputs are float64 arrays whose rounding to float32 is what the candidate sees: an input stands for all
the values that round to it, and the reference takes one of those (why: `normexport.proof.tolerance`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from normexport.errors import UsageError
from normexport.io.numpy_files import StoredArray
from normexport.onnx_export import InputSpec
from normexport.onnx_export.inputs import default_names
from normexport.proof.inputs.flags import switches, turned
from normexport.proof.inputs.lengths import open_numbers
from normexport.proof.inputs.mixed import is_mixed, of_one_size
from normexport.proof.inputs.random import LOWEST, Range, as_read, is_half, random_array, rungs_of
from normexport.runtime import Array, Feeds

SIZES = (1, 2, 7)  # alone, a pair, and a number no kernel's blocking divides
SCALES = (1.0, 0.1, 4.0)  # in turn; weak inputs show biases, strong ones saturation
LARGE_SAMPLE = 1 << 16  # numbers per sample; above (224x224 images) float64 costs 0.25 s a sample: fewer of them
ZEROS = 1 / 16  # of the numbers of the last random batch
_KEEP_CELL = 0.24  # of the spacing; below half of the smaller spacing under a power of two: rounds back to the input


@dataclass(frozen=True)
class Batch:
    """One set of inputs: `name` for reports ("random x0.1, batch 2"), its batch size, an array per input.

    `level` counts the ranges of integer inputs, from 0 for the lowest on; `real` says that the user gave the numbers.
    """

    name: str
    size: int
    feeds: Mapping[str, Array]
    level: int = 0
    real: bool = False


def standard_batches(
    specs: Sequence[InputSpec],
    data: Mapping[str, Array] | None = None,
    *,
    sizes: Sequence[int] | None = None,
    seed: int = 0,
    ranges: Mapping[str, Sequence[Range]] | None = None,
    zeros: bool = True,
) -> tuple[Batch, ...]:
    """`data` first, then random batches, one at least for each range of an integer input.

    Args:
        specs: the model's inputs.
        data: real inputs by name, as `load_arrays` gives them; one batch of the first samples is used.
        sizes: batch sizes, each with the next of `SCALES`; None: as `batch_sizes` chooses.
        seed: same seed, same inputs.
        ranges: of integer inputs by name, from the lowest on; by default 0..1, or the spec's bounds.
        zeros: whether some floats of the last random batch are exactly 0.

    Raises:
        UsageError: a size that the model does not take, or inputs beyond the memory.
    """
    large = are_large(specs)
    within = {spec.name: (ranges or {}).get(spec.name) or rungs_of(spec)[:1] for spec in specs if spec.integer}
    levels = max((len(each) for each in within.values()), default=1)
    sizes_or_modes = {spec.name for spec in switches(specs) if spec.integer}  # of size 0 an output is empty
    chosen = batch_sizes(specs, sizes, large)
    lengths = open_numbers(specs)
    count = max(levels, len(chosen), len(lengths))
    batches = [_real_batch(specs, data, 2 if large else 16, seed)] if data is not None else []
    for index in range(count):
        at = {name: each[min(index, len(each) - 1)] for name, each in within.items()}
        size, scale = chosen[index % len(chosen)], SCALES[index % len(SCALES)]
        sized = [spec.at(lengths[index % len(lengths)]) for spec in specs]
        random = _random_batch(sized, size, scale, seed + index, at, min(index, levels - 1))
        alone = {name: each[0] for name, each in within.items() if len(each) == 1 and name not in sizes_or_modes}
        random = replace(random, feeds={**random.feeds, **_turned(sized, size, seed, index, alone)})
        batches.append(with_zeros(random, sized, seed) if zeros and 0 < index == count - 1 else random)
    return tuple(batches)


def are_large(specs: Sequence[InputSpec]) -> bool:
    """Whether a sample takes so long in float64 that there should be fewer of them."""
    return any(math.prod(spec.shape) > LARGE_SAMPLE for spec in specs)


def batch_sizes(specs: Sequence[InputSpec], asked: Sequence[int] | None = None, large: bool = False) -> tuple[int, ...]:
    """The batch sizes to judge at: those asked for, or the smallest, the next and an odd one of what the model takes.

    Of 1 or more that is 1, 2 and 7. Large inputs do without the odd one. A fixed batch is repeated with other
    numbers, so is a single sample that is asked for: by one alone nobody tells an output from a constant.

    Raises:
        UsageError: the model does not take a size, or its inputs take no size in common.
    """
    ranges = [spec.batch for spec in specs if spec.batched]
    repeated = (1,) * (2 if large else len(SCALES))
    if not ranges:
        return repeated
    common = ranges[0]
    for other in ranges[1:]:
        common = common.within(other)
    if common.most is not None and common.most < common.least:
        taken = ", ".join(f"{spec.name}: {spec.batch}" for spec in specs if spec.batched)
        raise UsageError("inputs", f"take no batch size in common ({taken})", "export the model again")
    if asked is not None:
        for size in asked:
            if size < 1 or not common.holds(size):
                raise UsageError(f"batch size {size}", f"the model takes {common}", "ask for sizes that it takes")
        return repeated if tuple(asked) == (1,) else tuple(asked)
    least = common.least
    odd = SIZES[-1] if SIZES[-1] > least + 1 else least + 3 - least % 2
    if common.most is not None and odd > common.most:
        odd = common.most - 1 + common.most % 2
    sizes = [size for size in dict.fromkeys((least, least + 1, odd)) if size >= least and common.holds(size)]
    return tuple(sizes[:2] if large else sizes)


def arrays_of(path: str, stored: Mapping[str, StoredArray], specs: Sequence[InputSpec]) -> dict[str, StoredArray]:
    """The array of each input, as `names_in` finds it; a single array serves a single input, whatever its name.

    Raises:
        UsageError: one is missing.
    """
    if len(stored) == len(specs) == 1:
        return {specs[0].name: next(iter(stored.values()))}
    names = names_in(stored, specs)
    for spec in specs:
        if spec.name not in names:
            given, wanted = ", ".join(sorted(stored)) or "nothing", ", ".join(each.name for each in specs)
            raise UsageError(path, f"holds no array {spec.name} (it holds {given})", f"save {wanted} in it")
    return {spec.name: stored[names[spec.name]] for spec in specs}


def names_in(given: Collection[str], specs: Sequence[InputSpec]) -> dict[str, str]:
    """What data calls each input: by its name, by its argument ("boxes.0"), or "input", as inputs without a name."""
    found = {}
    for spec, unnamed in zip(specs, default_names(len(specs)), strict=True):
        name = next((name for name in (spec.name, spec.argument, unnamed) if name in given), None)
        if name is not None:
            found[spec.name] = name
    return found


def _random_batch(
    specs: Sequence[InputSpec], size: int, scale: float, seed: int, within: Mapping[str, Range], level: int
) -> Batch:
    rng = np.random.default_rng(seed)
    feeds = {spec.name: random_array(rng, spec, size, scale, within.get(spec.name, LOWEST)) for spec in specs}
    fixed = "" if any(spec.batched for spec in specs) else " (fixed by the model)"
    most = max((high for _, high in within.values()), default=0)
    step = f", integers to {most}" if level else ""
    lengths = {each.symbol: spec.shape[each.axis] for spec in specs for each in spec.open}
    sizes = "".join(f", {symbol} {length}" for symbol, length in lengths.items())
    return Batch(f"random x{scale:g}, batch {size}{fixed}{sizes}{step}", size, feeds, level)


def _turned(specs: Sequence[InputSpec], size: int, seed: int, turn: int, within: Mapping[str, Range]) -> Feeds:
    """Inputs that know two values: none of their numbers stays what it is through all turns."""
    found: dict[str, Array] = {}
    for place, spec in enumerate(specs):
        low, high = (0, 1) if spec.dtype == "bool" else within.get(spec.name, (0, 0))
        if high - low == 1:
            bits = turned(seed + place, turn, spec.sized(size))
            found[spec.name] = np.where(bits, high, low).astype(spec.dtype)
    return found


def with_zeros(batch: Batch, specs: Sequence[InputSpec], seed: int) -> Batch:
    """The batch with some floats exactly 0, as padding and black are: what divides by them, or masks them, shows."""
    rng = np.random.default_rng(seed)
    free = [spec.name for spec in specs if spec.floating and spec.bounds is None]
    feeds = {name: np.where(rng.random(batch.feeds[name].shape) < ZEROS, 0, batch.feeds[name]) for name in free}
    return replace(batch, feeds={**batch.feeds, **feeds})


def slice_batches(specs: Sequence[InputSpec], data: Mapping[str, Array], most: int) -> Iterator[dict[str, Array]]:
    """Batches of at most `most` samples along each input's own batch axis, each of a size that the model takes.

    A model with a fixed batch is fed that many at a time; samples that make no whole batch are left over.
    """
    ranges = [spec.batch for spec in specs if spec.batched]
    if not ranges:
        for index in range(fixed_batches_in(specs, data)):
            yield {spec.name: _repeat(spec, data[spec.name], index) for spec in specs}
        return
    least = max(each.least for each in ranges)
    top = max(least, min([most, *(each.most for each in ranges if each.most is not None)]))
    total = min(samples_in(spec, data[spec.name].shape) for spec in specs if spec.batched)
    for start in range(0, total, top):
        size = min(top, total - start)
        if size >= least:
            yield from of_one_size({spec.name: _part(spec, data[spec.name], start, size) for spec in specs})


def fixed_batches_in(specs: Sequence[InputSpec], data: Mapping[str, Array]) -> int:
    """How many batches arrays hold for a model whose batch is fixed; an input that is the same at each holds one."""
    return max((repeats(spec, data[spec.name].shape) for spec in specs), default=1)


def samples_in(spec: InputSpec, shape: Sequence[int]) -> int:
    """How many samples an array of this whole shape holds for a batched input."""
    return (shape[spec.axes[0]] - spec.batch.plus) // spec.batch.multiple


def _part(spec: InputSpec, array: Array, start: int, size: int) -> Array:
    for axis in spec.axes if spec.batched else ():
        first = start * spec.batch.multiple
        array = array[(slice(None),) * axis + (slice(first, first + spec.batch.length(size)),)]
    return array


def repeats(spec: InputSpec, shape: Sequence[int]) -> int:
    """How often the fixed batch of an input fits into an array: 1 for an input that is the same at each."""
    return shape[0] // spec.shape[0] if spec.shape and spec.shape[0] else 1


def _repeat(spec: InputSpec, array: Array, index: int) -> Array:
    if is_mixed(array):
        one: Array = array[index][None]
        return one
    if repeats(spec, array.shape) == 1:
        return array
    return array[index * spec.shape[0] : (index + 1) * spec.shape[0]]


def _real_batch(specs: Sequence[InputSpec], data: Mapping[str, Array], most: int, seed: int) -> Batch:
    rng = np.random.default_rng(seed)
    feeds = next(slice_batches(specs, data, most))
    sizes = [samples_in(spec, feeds[spec.name].shape) for spec in specs if spec.batched]
    for spec in specs:
        array = feeds[spec.name]
        if is_half(spec):
            feeds[spec.name] = as_read(array.astype(np.float64), spec)
        elif np.issubdtype(array.dtype, np.floating):
            feeds[spec.name] = _within_rounding(rng, array)
    size = sizes[0] if sizes else 1
    return Batch(f"real, batch {size}", size, feeds, real=True)


def _within_rounding(rng: np.random.Generator, array: Array) -> Array:
    """float64 values that round to `array`; zeros stay zero."""
    single = array.astype(np.float32) if array.dtype == np.float64 else array
    spacing = np.where(single == 0, 0, np.spacing(np.abs(single))).astype(np.float64)
    return single.astype(np.float64) + spacing * rng.uniform(-_KEEP_CELL, _KEEP_CELL, array.shape)


def check_shape(path: str, spec: InputSpec, shape: tuple[int, ...], *, repeated: bool = False) -> None:
    """Whether an array of this shape holds samples for the input.

    Args:
        repeated: an input of a fixed batch may be given several batches, one after the other on axis 0.

    Raises:
        UsageError: it does not.
    """
    axes = spec.axes if spec.batched else ()
    rest = tuple(size for axis, size in enumerate(shape) if axis not in axes)
    wanted = spec.shape
    if repeated and not spec.batched and shape and wanted and wanted[0] and shape[0] % wanted[0] == 0:
        rest = (wanted[0], *shape[1:])
    lengths = {shape[axis] for axis in axes if axis < len(shape)}
    if len(rest) == len(wanted):
        wanted = tuple(rest[axis] if axis in _open_at(spec, rest) else size for axis, size in enumerate(wanted))
    if len(shape) != len(wanted) + len(axes) or rest != wanted or len(lengths) > 1 or (0 in shape and 0 not in wanted):
        sizes = ["N" if size is None else str(size) for size in spec.declared()]
        ranges = "".join(f", {symbol} {lengths}" for symbol, lengths in _open_lengths(spec).items())
        cause = f"has shape {shape}, expected ({', '.join(sizes)}){ranges}"
        raise UsageError(_place(path, spec), cause, "give samples of the shape the model reads")


def _open_lengths(spec: InputSpec) -> dict[str, str]:
    return {each.symbol: each.range.lengths() for each in spec.open}


def _open_at(spec: InputSpec, sizes: Sequence[int]) -> set[int]:
    """The axes that are open, and whose range holds the length there."""
    return {each.axis for each in spec.open if each.range.batch_of(sizes[each.axis]) is not None}


def fitting(path: str, spec: InputSpec, array: Array, first: int = 0) -> Array:
    """Samples (N, *shape) for one input, in a type that it takes; `first` is the number of the first one.

    Raises:
        UsageError: wrong shape or dtype, NaN.
    """
    check_shape(path, spec, array.shape)
    kept = array.astype(fitting_dtype(path, spec, array.dtype), copy=False)
    refuse_nan(path, spec, kept, first)
    return kept


def fitting_dtype(path: str, spec: InputSpec, dtype: np.dtype[np.generic]) -> np.dtype[np.generic]:
    """The type in which numbers of `dtype` are fed to the input: floats keep theirs, runtimes round them.

    Raises:
        UsageError: they don't go into it.
    """
    if spec.floating:
        if dtype.kind == "f" and dtype.itemsize <= 8:
            native: np.dtype[np.generic] = dtype.newbyteorder("=")
            return native
        if dtype.kind in "iub":
            return np.dtype(np.float32)
    elif dtype.kind in "iub" and np.can_cast(dtype, spec.dtype, "same_kind"):
        return np.dtype(spec.dtype)
    raise UsageError(_place(path, spec), f"has dtype {dtype}, expected {spec.dtype}", "convert it")


def refuse_nan(path: str, spec: InputSpec, array: Array, first: int) -> None:
    """Refuse samples of NaN; `first` is the number of the first one.

    A megabyte at a time: of a file of nothing but NaN, a list of all places would be many times its size.

    Raises:
        UsageError: names the first such sample.
    """
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
