"""What a file says of its inputs, where some sizes are left open, and how they become whole.

An open size has a name, and one name is one size, wherever it stands. The batch is the name that says so ("batch",
"N"), or else whatever is open on axis 0; it stays free. The other sizes are taken from the shapes that the user gives
and from those of arrays.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from normexport.errors import UsageError
from normexport.onnx_export.inputs import ANY_BATCH, BatchRange, InputSpec, OpenAxis, default_names

_BATCH_NAMES = re.compile(r"(?i).*batch.*"), re.compile(r"(?i)n|b|bs")  # beside the first, N may be points or samples


@dataclass(frozen=True)
class Open:
    """A size that is free: the symbol's value k gives `multiple * k + plus`."""

    symbol: str
    batch: BatchRange = ANY_BATCH

    def __str__(self) -> str:
        word = "?" if ":" in self.symbol else self.symbol
        factor = f"{self.batch.multiple}*" if self.batch.multiple != 1 else ""
        return f"{factor}{word}" + (f"{self.batch.plus:+d}" if self.batch.plus else "")


@dataclass(frozen=True)
class Declared:
    """An input as its file declares it: sizes are numbers, or open; `argument` as of `InputSpec`."""

    name: str
    sizes: tuple[int | Open, ...]
    dtype: str
    argument: str = ""

    def words(self, batch: Sequence[int] = ()) -> str:
        """As `--input` takes it, the axes in `batch` as N: "ids=Nx128:int64"."""
        sizes = ["N" if axis in batch else str(size) for axis, size in enumerate(self.sizes)]
        return f"{self.name}={'x'.join(sizes) or 'scalar'}:{self.dtype}"


@dataclass
class _Known:
    """What is settled so far: sizes of symbols, the symbols that are the batch, and its axes per input."""

    values: dict[str, int] = field(default_factory=dict)
    batch: set[str] = field(default_factory=set)

    def axes(self, declared: Declared) -> tuple[int, ...]:
        return tuple(
            axis for axis, size in enumerate(declared.sizes) if isinstance(size, Open) and size.symbol in self.batch
        )

    def size(self, size: int | Open) -> int | None:
        """As a number, where it is one."""
        if isinstance(size, int):
            return size
        value = self.values.get(size.symbol)
        return None if value is None else size.batch.length(value)


def symbol_for(name: str, axis: int) -> str:
    """A symbol for an open size without a name: it is a size of its own."""
    return f"{name}:{axis}"


def close_sizes(
    declared: Sequence[Declared],
    given: Sequence[InputSpec] = (),
    arrays: Mapping[str, tuple[int, ...]] | None = None,
) -> tuple[InputSpec, ...]:
    """The inputs of a file with every size known but the batch.

    Args:
        declared: what the file says.
        given: what the user says of some of them, by name; unnamed ones by position where there are as many. A shape
            is that of one sample, or whole (then its batch is fixed), whichever has the file's number of axes.
        arrays: whole shapes of real inputs by name.

    Raises:
        UsageError: a given input is unknown, or has another shape or type than the file says; a size stays open.
    """
    wanted = _by_name(declared, given)
    known = _Known(batch=_batch_symbols(declared))
    for each in declared:
        if each.name in wanted:
            _bind_given(each, wanted[each.name], known)
    for each in declared:
        _bind_array(each, (arrays or {}).get(each.name, ()), known)
    for each in declared:
        if each.name in wanted:
            _bind_open(each, wanted[each.name], known)
    return tuple(_close_sizes_of(each, wanted.get(each.name), known) for each in declared)


def left_open(declared: Sequence[Declared]) -> tuple[InputSpec, ...]:
    """What a file reads, every size open that it leaves open: for samples that may be of any of them."""
    batch = _batch_symbols(declared)
    letters = iter("HWDL" + "ABCEFGIJKMOPQRSTUVYZ")
    words: dict[str, str] = {}
    found = []
    for each in declared:
        sizes = [size for size in each.sizes if not (isinstance(size, Open) and size.symbol in batch)]
        for size in sizes:
            if isinstance(size, Open) and size.symbol not in words:
                words[size.symbol] = size.symbol if size.symbol.isidentifier() else next(letters, size.symbol)
        shape = tuple(size if isinstance(size, int) else size.batch.length(size.batch.usual()) for size in sizes)
        free = [OpenAxis(axis, words[size.symbol]) for axis, size in enumerate(sizes) if isinstance(size, Open)]
        batched = len(sizes) < len(each.sizes)
        found.append(InputSpec(each.name, shape, each.dtype, batched, open=tuple(free)))
    return tuple(found)


def narrow(specs: Sequence[InputSpec], declared: Sequence[Declared]) -> tuple[InputSpec, ...]:
    """What two models read that take the same inputs: `specs` of the one, with the sizes that the other fixes.

    Inputs are matched by position, names and types are those of `specs`.

    Raises:
        UsageError: their shapes contradict.
    """
    if len(specs) != len(declared):
        return tuple(specs)  # told where they are fed
    asked = [replace(spec, name=each.name, dtype=each.dtype) for spec, each in zip(specs, declared, strict=True)]
    found = close_sizes(declared, [replace(spec, bounds=None) for spec in asked])
    return tuple(
        replace(spec, shape=one.shape, batched=one.batched, axes=one.axes, batch=_common(spec, one), open=one.open)
        for spec, one in zip(specs, found, strict=True)
    )


def _common(spec: InputSpec, other: InputSpec) -> BatchRange:
    """The batch of a model whose axis may be 2*k, where the other's is free."""
    if not (spec.batched and other.batched):
        return other.batch
    simple = (spec.batch.multiple, spec.batch.plus) == (1, 0)
    return other.batch.within(spec.batch) if simple else spec.batch.within(other.batch)


def _by_name(declared: Sequence[Declared], given: Sequence[InputSpec]) -> dict[str, InputSpec]:
    names = [each.name for each in declared]
    given = [_as_called(spec, names) for spec in given]
    own = tuple(spec.name for spec in given)
    if own == default_names(len(given)) and not set(own) <= set(names):
        if len(given) != len(names):
            cause = f"{len(given)} are given without names, and the model reads {', '.join(names) or 'none'}"
            raise UsageError("--input", cause, "write them as name=3x28x28")
        return dict(zip(names, given, strict=True))
    for name in own:
        if name not in names:
            raise UsageError(f"--input {name}", f"the model reads {', '.join(names) or 'nothing'}", "use its names")
    return {spec.name: spec for spec in given}


def _as_called(spec: InputSpec, names: Sequence[str]) -> InputSpec:
    """boxes.0 as files call it: boxes_0."""
    word = re.sub(r"\W", "_", spec.name)
    return replace(spec, name=word) if spec.name not in names and word in names else spec


def _batch_symbols(declared: Sequence[Declared]) -> set[str]:
    """Of each input the name that says batch, the clearest ones first, or else an open size on axis 0.

    What stands beside the batch of an input is no batch in another: N points a sample, and edges of N points.
    """
    symbols = [[size.symbol for size in each.sizes if isinstance(size, Open)] for each in declared]
    found: set[str] = set()

    def choose(likely: list[list[str]]) -> None:
        for own, some in zip(symbols, likely, strict=True):
            beside = {symbol for each in symbols if found.intersection(each) for symbol in each} - found
            free = [symbol for symbol in some if symbol not in beside]
            if not found.intersection(own):
                found.update(free[:1])

    for name in _BATCH_NAMES:
        choose([[symbol for symbol in own if name.fullmatch(symbol)] for own in symbols])
    choose(
        [
            own[:1] if each.sizes and isinstance(each.sizes[0], Open) else []
            for each, own in zip(declared, symbols, strict=True)
        ]
    )
    return found


def _bind_given(declared: Declared, spec: InputSpec, known: _Known) -> None:
    """Give the symbols of one input the sizes of the shape that the user gave."""
    unsaid = spec.dtype == "float32" and spec.bounds is None  # what a text without a type means
    if spec.dtype != declared.dtype and not unsaid:
        cause = f"is given as {spec.dtype}, and the model reads {declared.dtype}"
        raise UsageError(f"--input {declared.name}", cause, "leave the type out")
    given = _numbers(spec)
    batch = known.axes(declared)
    whole = len(given) == len(declared.sizes) and all(given[axis] is not None for axis in batch)
    if whole and _fits(declared.sizes, given, known):
        _bind(declared, dict(enumerate(given)), known)
        for axis in batch:  # the batch is one number, whatever its names
            size = declared.sizes[axis]
            assert isinstance(size, Open)
            for symbol in known.batch:
                known.values.setdefault(symbol, known.values[size.symbol])
        return
    for axes in _places_of_batch(declared, spec, known):
        rest = {axis: size for axis, size in enumerate(declared.sizes) if axis not in axes}
        if len(rest) == len(given) and _fits(list(rest.values()), given, known):
            known.batch |= {size.symbol for axis in axes if isinstance(size := declared.sizes[axis], Open)}
            _bind(declared, dict(zip(rest, given, strict=True)), known)
            return
    shape = spec.sample()
    cause = f"does not fit the model, which reads {declared.words(known.axes(declared))}"
    raise UsageError(f"--input {declared.name}={shape}", cause, "leave it out, or give its own sizes")


def _places_of_batch(declared: Declared, spec: InputSpec, known: _Known) -> list[tuple[int, ...]]:
    """Where the batch may stand that a sample's shape leaves out, the likeliest first."""
    if not spec.batched:
        return []
    named = known.axes(declared)
    if named:
        return [named]
    free: list[tuple[int, ...]] = [(axis,) for axis, size in enumerate(declared.sizes) if isinstance(size, Open)]
    asked = [spec.axes] if spec.axes in free else []
    return [*asked, *free, (0,)] if declared.sizes else []


def _numbers(spec: InputSpec) -> list[int | None]:
    """The sizes that were given as numbers; None for those that stay open."""
    free = {each.axis for each in spec.open}
    return [None if axis in free else size for axis, size in enumerate(spec.shape)]


def _fits(sizes: Sequence[int | Open], shape: Sequence[int | None], known: _Known) -> bool:
    """Whether numbers agree; symbols may still be bound otherwise."""
    return all(given is None or known.size(size) in (None, given) for size, given in zip(sizes, shape, strict=True))


def _bind(declared: Declared, lengths: Mapping[int, int | None], known: _Known) -> None:
    for axis, length in lengths.items():
        size = declared.sizes[axis]
        if not isinstance(size, Open) or length is None:
            continue
        value = size.batch.batch_of(length)
        if value is None:
            cause = f"axis {axis} is {length}, and the model takes {size} where {size.symbol} is {size.batch}"
            raise UsageError(f"input {declared.name}", cause, "give a size that the model takes")
        if known.values.setdefault(size.symbol, value) != value:
            cause = f"axis {axis} is {length}, and {size} is {known.values[size.symbol]} elsewhere"
            raise UsageError(f"input {declared.name}", cause, "give one size for one name")


def _bind_array(declared: Declared, shape: tuple[int, ...], known: _Known) -> None:
    """Take open sizes other than the batch from an array; whether the rest fits is told when it is read."""
    if len(shape) != len(declared.sizes):
        return
    axes = known.axes(declared)
    free = {
        axis: shape[axis]
        for axis, size in enumerate(declared.sizes)
        if axis not in axes and isinstance(size, Open) and size.symbol not in known.values
    }
    _bind(declared, free, known)


def _close_sizes_of(declared: Declared, given: InputSpec | None, known: _Known) -> InputSpec:
    bounds = None if given is None else given.bounds
    axes = _free_batch(declared, known)
    left_open = () if given is None else _left_open(declared, given, known)
    shape = [known.size(size) for axis, size in enumerate(declared.sizes) if axis not in axes]
    if None in shape:
        rest = [str(size) if axis not in axes else "batch" for axis, size in enumerate(declared.sizes)]
        sample, letters = declared.sizes[bool(axes) :], iter("HWDLT" * len(declared.sizes))
        example = "x".join("16" if isinstance(size, Open) else str(size) for size in sample)
        free = "x".join(next(letters) if isinstance(size, Open) else str(size) for size in sample)
        remedy = f"give its shape with --input {declared.name}={example} ({free}: any), or real inputs with --data"
        raise UsageError(f"input {declared.name}", f"has open sizes ({', '.join(rest)})", remedy)
    whole = InputSpec(declared.name, tuple(size for size in shape if size is not None), declared.dtype, bool(axes))
    whole = replace(whole, open=left_open, argument=declared.argument)
    if not axes:
        return replace(whole, bounds=bounds)
    ranges = [size.batch for axis in axes if isinstance(size := declared.sizes[axis], Open)]
    batch = ranges[0]
    for other in ranges[1:]:
        batch = batch.within(other)
    return replace(whole, axes=axes, batch=batch, bounds=bounds)


def _bind_open(declared: Declared, given: InputSpec, known: _Known) -> None:
    """Take a usual length for the sizes that the user leaves open, and no array has told."""
    for each, axis in _places_of_open(declared, given, known):
        size = declared.sizes[axis]
        if isinstance(size, Open) and size.symbol not in known.values:
            length = given.shape[each.axis]
            value = size.batch.usual() if each.range == ANY_BATCH else size.batch.batch_of(length)
            if value is not None:
                known.values[size.symbol] = value


def _places_of_open(declared: Declared, given: InputSpec, known: _Known) -> list[tuple[OpenAxis, int]]:
    """The sizes that the user leaves open, and on which axis of the model's input each one is."""
    batch = _free_batch(declared, known)
    rest = [axis for axis in range(len(declared.sizes)) if axis not in batch]
    missing = len(rest) - len(given.shape)  # of a batch that the model fixes
    return [(each, rest[each.axis + missing]) for each in given.open]


def _left_open(declared: Declared, given: InputSpec, known: _Known) -> tuple[OpenAxis, ...]:
    """The sizes that the user leaves open, counted without the batch, with the model's range or one within.

    Raises:
        UsageError: the model fixes such a size, or does not take all of its range.
    """
    found = []
    missing = len(declared.sizes) - len(given.shape) - len(_free_batch(declared, known))
    for each, axis in _places_of_open(declared, given, known):
        size = declared.sizes[axis]
        if not isinstance(size, Open):
            cause = f"leaves {each.symbol} open, and the model fixes it at {size}"
            raise UsageError(f"--input {declared.name}", cause, f"write {size} in its place")
        ours = size.batch if each.range == ANY_BATCH else each.range
        ends = [ours.length(ours.least), *([] if ours.most is None else [ours.length(ours.most)])]
        if ours.multiple % size.batch.multiple or any(size.batch.batch_of(end) is None for end in ends):
            cause = f"lets {each.symbol} be {ours.lengths()}, and the model takes {size.batch.lengths()}"
            raise UsageError(f"--input {declared.name}", cause, f"give a range within: --input {each.symbol}=..")
        if ours.most is None and size.batch.most is not None:
            ours = replace(ours, most=(size.batch.length(size.batch.most) - ours.plus) // ours.multiple)
        found.append(OpenAxis(each.axis + missing, each.symbol, ours))
    return tuple(found)


def _free_batch(declared: Declared, known: _Known) -> tuple[int, ...]:
    """The axes of the batch, where that is free."""
    return tuple(axis for axis in known.axes(declared) if known.size(declared.sizes[axis]) is None)
