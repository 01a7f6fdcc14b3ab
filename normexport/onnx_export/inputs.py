"""What a model reads: names, shapes, types and ranges of its inputs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from normexport.dtypes import FLOATS
from normexport.errors import UsageError

_TEXT = re.compile(
    r"(?:(?P<name>.+)=)?(?P<shape>\d+(?:x\d+)*|scalar)?(?::(?P<dtype>\w+)(?:\[(?P<bounds>[^\[\]]*)\])?)?", re.DOTALL
)
_WHOLE = re.compile(r"\s*[+-]?\d{1,30}\s*")
_NUMBER = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})?\s*")
_INTEGERS = ("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8")
DTYPES = (*FLOATS, *_INTEGERS, "bool")


@dataclass(frozen=True)
class BatchRange:
    """The batch sizes a model takes: k from `least` to `most` (None: any), on an axis of `multiple * k + plus`."""

    least: int = 1
    most: int | None = None
    multiple: int = 1
    plus: int = 0

    def length(self, batch: int) -> int:
        """The axis's length at this batch size."""
        return self.multiple * batch + self.plus

    def batch_of(self, length: int) -> int | None:
        """The batch size at which the axis has this length; None where there is none."""
        batch, rest = divmod(length - self.plus, self.multiple)
        return batch if rest == 0 and self.holds(batch) else None

    def holds(self, batch: int) -> bool:
        return batch >= self.least and (self.most is None or batch <= self.most)

    def within(self, other: BatchRange) -> BatchRange:
        """This axis, at sizes that `other` takes too."""
        ends = [most for most in (self.most, other.most) if most is not None]
        return BatchRange(max(self.least, other.least), min(ends) if ends else None, self.multiple, self.plus)

    def __str__(self) -> str:
        if self.most == self.least:
            return str(self.least)
        return f"{self.least} or more" if self.most is None else f"{self.least} to {self.most}"


ANY_BATCH = BatchRange()


@dataclass(frozen=True)
class InputSpec:
    """One input of a model.

    Attributes:
        name: name in the ONNX file and the keyword of arrays fed to it.
        shape: without the batch dimension where `batched`, else whole.
        dtype: one of `DTYPES`.
        batched: whether the batch, not in `shape`, is free to vary at run time.
        axes: where the batch stands in the whole shape: axis 0, axis 1 of a recurrent state, both of (n, n).
        batch: the sizes it may take.
        bounds: least and largest value to try, both included; None: what the model allows.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    batched: bool = True
    axes: tuple[int, ...] = (0,)
    batch: BatchRange = ANY_BATCH
    bounds: tuple[float, float] | None = None

    def sized(self, batch: int) -> tuple[int, ...]:
        """The whole shape at this batch size."""
        sizes = list(self.shape)
        for axis in self.axes if self.batched else ():
            sizes.insert(axis, self.batch.length(batch))
        return tuple(sizes)

    def batch_of(self, shape: Sequence[int]) -> int | None:
        """The batch size at which the whole shape is this one; None where it is at none, or has none."""
        if not self.batched or len(shape) <= max(self.axes):
            return None
        batch = self.batch.batch_of(shape[self.axes[0]])
        return batch if batch is not None and self.sized(batch) == tuple(shape) else None

    @property
    def floating(self) -> bool:
        return self.dtype in FLOATS

    @property
    def integer(self) -> bool:
        """Whole numbers; bool is none."""
        return not self.floating and self.dtype != "bool"

    def __str__(self) -> str:
        """As `--input` takes it, the batch as N: "ids=Nx128:int64"."""
        sizes = ["N" if self.batched and axis in self.axes else str(n) for axis, n in enumerate(self.sized(1))]
        return f"{self.name}={'x'.join(sizes) or 'scalar'}:{self.dtype}"


def smallest_batch(specs: Iterable[InputSpec]) -> int:
    """The smallest batch size that all of them take."""
    return max((spec.batch.least for spec in specs if spec.batched), default=1)


def default_names(count: int) -> tuple[str, ...]:
    """What inputs without names are called: "input" alone, else "input_0", "input_1", ..."""
    return ("input",) if count == 1 else tuple(f"input_{position}" for position in range(count))


def parse_inputs(texts: Sequence[str]) -> tuple[InputSpec, ...]:
    """Specs from `[NAME=]3x28x28[:dtype[low..high]]`, one text per input, shapes without the batch dimension.

    Inputs without names are called as `default_names` says. `scalar` is a shape of batch alone. Bounds are included.

    Raises:
        UsageError: a text that is not of this form, a dimension of 0, an unknown dtype, bounds that the type does
            not hold, or a name twice.
    """
    specs = []
    for unnamed, text in zip(default_names(len(texts)), texts, strict=True):
        place = f"--input {text}"
        match = _TEXT.fullmatch(text.strip())
        if not match or not match["shape"]:
            raise UsageError(place, "is not a shape", "write it as 3x28x28, name=3x28x28:int64 or ids=16:int64[0..999]")
        try:
            shape = () if match["shape"] == "scalar" else tuple(int(size) for size in match["shape"].split("x"))
        except ValueError as error:  # more digits than Python reads
            raise UsageError(place, "has a dimension beyond all arrays", "give the shape of one sample") from error
        if 0 in shape:
            raise UsageError(place, "has a dimension of 0", "give the shape of one sample")
        if math.prod(shape) >= 1 << 62:
            raise UsageError(place, "has more numbers than any memory holds", "give the shape of one sample")
        dtype = match["dtype"] or "float32"
        if dtype not in DTYPES:
            raise UsageError(place, f"{dtype} is not a known dtype", f"choose one of {', '.join(DTYPES)}")
        bounds = None if match["bounds"] is None else _bounds(place, match["bounds"], dtype)
        specs.append(InputSpec(match["name"] or unnamed, shape, dtype, bounds=bounds))
    names = [spec.name for spec in specs]
    if len(set(names)) != len(names):
        raise UsageError("--input", f"a name is given twice: {', '.join(names)}", "name each input once")
    return tuple(specs)


def type_range(dtype: str) -> tuple[int, int]:
    """The least and the largest number of an integer type."""
    limits = np.iinfo(dtype)
    return int(limits.min), int(limits.max)


def _bounds(place: str, text: str, dtype: str) -> tuple[float, float]:
    """ "0..1000" as numbers of the type."""
    if dtype == "bool":
        raise UsageError(place, "bounds a bool, which is false or true", "leave the bounds out")
    whole = dtype in _INTEGERS
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
