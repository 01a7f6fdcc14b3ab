"""`--input` texts: shapes of one sample, types, numbers to try, and sizes that stay open."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from normexport.dtypes import FLOATS
from normexport.errors import UsageError
from normexport.onnx_export.inputs import (
    ANY_BATCH,
    DTYPES,
    INTEGERS,
    BatchRange,
    InputSpec,
    OpenAxis,
    default_names,
    type_range,
)

_SYMBOL = "[A-WYZ][A-WYZa-wyz0-9_]*"  # an x stands between sizes
_TEXT = re.compile(
    rf"(?:(?P<name>.+)=)?(?P<shape>scalar|(?:\d+|{_SYMBOL})(?:x(?:\d+|{_SYMBOL}))*)?"
    r"(?::(?P<dtype>\w+)(?:\[(?P<bounds>[^\[\]]*)\])?)?",
    re.DOTALL,
)
_RANGE = re.compile(rf"(?P<symbol>{_SYMBOL})=(?P<least>\d{{1,9}})\.\.(?P<most>\d{{1,9}})?(?::(?P<step>\d{{1,9}}))?")
_BATCH = re.compile(r"(?i)n|b|bs|.*batch.*")
_WHOLE = re.compile(r"\s*[+-]?\d{1,30}\s*")
_LARGE = 1 << 22  # numbers in a sample
_NUMBER = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})?\s*")


def parse_inputs(texts: Sequence[str]) -> tuple[InputSpec, ...]:
    """Specs from `[NAME=]3x28x28[:dtype[low..high]]`, one text per input, shapes without the batch dimension.

    Inputs without names are called as `default_names` says, until a network tells its own. `scalar` is a shape of batch
    alone. Bounds are included.
    A size written as a symbol that begins with a capital stays open: `3xHxW`. `H=32..512:8` beside the shapes says
    that it goes from 32 to 512 by 8; `H=32..` that it ends nowhere, and nothing that it may be any.

    Raises:
        UsageError: a text that is not of this form, a dimension of 0, an unknown dtype, bounds that the type does
            not hold, a name twice, a range of no symbol, or one that ends before it begins.
    """
    ranges = {found["symbol"]: _range(text, found) for text in texts if (found := _RANGE.fullmatch(text.strip()))}
    shapes = [text for text in texts if not _RANGE.fullmatch(text.strip())]
    if len(shapes) + len(ranges) != len(texts):
        raise UsageError("--input", f"{', '.join(ranges)}: a size has two ranges", "give one for each size")
    specs = tuple(_spec(text, name, ranges) for text, name in zip(shapes, default_names(len(shapes)), strict=True))
    names = [spec.name for spec in specs]
    if len(set(names)) != len(names):
        raise UsageError("--input", f"a name is given twice: {', '.join(names)}", "name each input once")
    unread = ranges.keys() - {each.symbol for spec in specs for each in spec.open}
    if unread:
        symbol = min(unread)
        raise UsageError(f"--input {symbol}=..", f"no shape has a size {symbol}", f"name it there: --input 3x{symbol}")
    return _with_usual_sizes(specs)


def _spec(text: str, unnamed: str, ranges: Mapping[str, BatchRange]) -> InputSpec:
    """One input; its open sizes have the length 1 as yet."""
    place = f"--input {text}"
    match = _TEXT.fullmatch(text.strip())
    if not match or not match["shape"]:
        raise UsageError(place, "is not a shape", "write it as 3x28x28, name=3x28x28:int64 or ids=16:int64[0..999]")
    sizes = [] if match["shape"] == "scalar" else match["shape"].split("x")
    try:
        shape = tuple(int(size) if size.isdigit() else 1 for size in sizes)
    except ValueError as error:  # more digits than Python reads
        raise UsageError(place, "has a dimension beyond all arrays", "give the shape of one sample") from error
    for size in sizes:
        if not size.isdigit() and _BATCH.fullmatch(size):
            raise UsageError(place, f"{size} is the batch, which is free anyway", "give the shape of one sample")
    if 0 in shape:
        raise UsageError(place, "has a dimension of 0", "give the shape of one sample")
    if math.prod(shape) >= 1 << 62:
        raise UsageError(place, "has more numbers than any memory holds", "give the shape of one sample")
    dtype = match["dtype"] or "float32"
    if dtype not in DTYPES:
        raise UsageError(place, f"{dtype} is not a known dtype", f"choose one of {', '.join(DTYPES)}")
    bounds = None if match["bounds"] is None else _bounds(place, match["bounds"], dtype)
    free = tuple(
        OpenAxis(axis, size, ranges.get(size, ANY_BATCH)) for axis, size in enumerate(sizes) if not size.isdigit()
    )
    return InputSpec(match["name"] or unnamed, shape, dtype, bounds=bounds, open=free, named=bool(match["name"]))


def _range(text: str, found: re.Match[str]) -> BatchRange:
    """`H=32..512:8`: the lengths 32, 40, ..., 512 as 8 * k + plus."""
    place = f"--input {text}"
    least, step = int(found["least"]), int(found["step"] or 1)
    most = int(found["most"]) if found["most"] else None
    if not least or not step:
        raise UsageError(place, "is a range of sizes from 0 on, or by 0", "begin at 1, or go by 1, at least")
    if most is not None and most < least:
        raise UsageError(place, "ends before it begins", "give the smaller end first")
    if most == least:
        raise UsageError(place, "is one size", f"write {least} in the shape")
    if most is not None and (most - least) % step:
        near = most - (most - least) % step
        raise UsageError(place, f"does not come to {most} from {least} by {step}", f"end it at {near}")
    first = max(1, least // step)
    return BatchRange(first, None if most is None else first + (most - least) // step, step, least - step * first)


def _with_usual_sizes(specs: Sequence[InputSpec]) -> tuple[InputSpec, ...]:
    """Lengths for the open sizes: the middle of their ranges, and no two alike where they can differ.

    A trace could not tell sizes apart that are equal. Ranges whose middle makes large samples are taken at 64, or near.
    """
    sized = _at_numbers(specs, BatchRange.usual)
    if all(math.prod(spec.shape) <= _LARGE for spec in sized):
        return sized
    return _at_numbers(specs, lambda sizes: min(sizes.usual(), replace(sizes, most=None).usual()))


def _at_numbers(specs: Sequence[InputSpec], choose: Callable[[BatchRange], int]) -> tuple[InputSpec, ...]:
    numbers: dict[str, int] = {}
    for each in (each for spec in specs for each in spec.open):
        if each.symbol not in numbers:
            number = choose(each.range)
            other = number + len(numbers)
            numbers[each.symbol] = other if each.range.holds(other) else number
    return tuple(spec.at(numbers) for spec in specs)


def _bounds(place: str, text: str, dtype: str) -> tuple[float, float]:
    """ "0..1000" as numbers of the type."""
    if dtype == "bool":
        raise UsageError(place, "bounds a bool, which is false or true", "leave the bounds out")
    whole = dtype in INTEGERS
    ends = text.split("..")
    form = _WHOLE if whole else _NUMBER
    if len(ends) != 2 or not all(form.fullmatch(end) for end in ends):
        what, example = ("whole numbers", "[0..1000]") if whole else ("numbers", "[0..1]")
        raise UsageError(place, f"[{text}] is not a range of {what}", f"write it as {dtype}{example}")
    low, high = (int(end) if whole else float(end) for end in ends)
    if low > high:
        raise UsageError(place, f"the range [{text}] ends before it begins", "give the smaller end first")
    least, most = type_range(dtype) if whole else _float_range(dtype)
    if low < least or high > most:
        ends_of_type = f"{least} to {most}" if whole else f"{least:.6g} to {most:.6g}"
        cause = f"{dtype} holds {ends_of_type} only, not [{text}]"
        raise UsageError(place, cause, "give numbers of that type")
    return low, high


def _float_range(dtype: str) -> tuple[float, float]:
    most = FLOATS[dtype].largest
    return -most, most
