"""What a model reads: names, shapes, types and ranges of its inputs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from normexport.dtypes import FLOATS

_USUAL = 64  # of a size without an end

INTEGERS = ("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8")
DTYPES = (*FLOATS, *INTEGERS, "bool")


@dataclass(frozen=True)
class BatchRange:
    """The numbers that a free size takes: k from `least` to `most` (None: any), on an axis of `multiple * k + plus`."""

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

    def nearest(self, length: int) -> int:
        """The length that it takes next to this one."""
        number = max(self.least, round((length - self.plus) / self.multiple))
        return self.length(number if self.most is None else min(number, self.most))

    def usual(self) -> int:
        """The number in the middle, by ratio; without an end that of the length 64, or the least."""
        if self.most is not None:
            return min(self.most, max(self.least, math.isqrt(self.least * self.most)))
        return max(self.least, (_USUAL - self.plus) // self.multiple)

    def lengths(self) -> str:
        """In words, the lengths that it gives: "32 to 512 by 8"."""
        step = f" by {self.multiple}" if self.multiple != 1 else ""
        end = "or more" if self.most is None else f"to {self.length(self.most)}"
        return f"{self.length(self.least)} {end}{step}"

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
class OpenAxis:
    """A size other than the batch that is free at run time: "H" of 3xHxW.

    Attributes:
        axis: in the shape without the batch.
        symbol: one symbol is one size, wherever it stands.
        range: its numbers k, and the lengths that they give.
    """

    axis: int
    symbol: str
    range: BatchRange = ANY_BATCH


@dataclass(frozen=True)
class InputSpec:
    """One input of a model.

    Attributes:
        name: name in the ONNX file and the keyword of arrays fed to it.
        shape: without the batch dimension where `batched`, else whole; of open sizes one that is usual.
        dtype: one of `DTYPES`.
        batched: whether the batch, not in `shape`, is free to vary at run time.
        axes: where the batch stands in the whole shape: axis 0, axis 1 of a recurrent state, both of (n, n).
        batch: the sizes it may take.
        bounds: least and largest value to try, both included; None: what the model allows.
        open: the sizes of `shape` that are free.
        named: whether somebody gave it this name; it has no part in whether two are equal.
        argument: where forward takes it: "boxes.0" in a container, "scale" by its keyword; empty: as the next in line.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    batched: bool = True
    axes: tuple[int, ...] = (0,)
    batch: BatchRange = ANY_BATCH
    bounds: tuple[float, float] | None = None
    open: tuple[OpenAxis, ...] = ()
    argument: str = ""
    named: bool = field(default=True, compare=False)

    def at(self, numbers: Mapping[str, int]) -> InputSpec:
        """The same input at these numbers of its open sizes, by symbol."""
        shape = list(self.shape)
        for each in self.open:
            if each.symbol in numbers:
                shape[each.axis] = each.range.length(numbers[each.symbol])
        return replace(self, shape=tuple(shape))

    def fixed(self, batch: int) -> InputSpec:
        """The same input at this one batch size, which is then a part of its shape."""
        if not self.batched:
            return self
        places = [axis for axis in range(len(self.shape) + len(self.axes)) if axis not in self.axes]
        free = tuple(replace(each, axis=places[each.axis]) for each in self.open)
        return replace(self, shape=self.sized(batch), batched=False, axes=(0,), batch=ANY_BATCH, open=free)

    def declared(self) -> tuple[int | str | None, ...]:
        """The whole shape: None for the batch, the symbol of an open size."""
        sizes: list[int | str | None] = list(self.shape)
        for each in self.open:
            sizes[each.axis] = each.symbol
        for axis in self.axes if self.batched else ():
            sizes.insert(axis, None)
        return tuple(sizes)

    def sample(self) -> str:
        """The shape of one sample in words: "3xHxW", of batch alone "scalar"."""
        sizes = [str(size) for axis, size in enumerate(self.declared()) if not (self.batched and axis in self.axes)]
        return "x".join(sizes) or "scalar"

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
        sizes = ["N" if size is None else str(size) for size in self.declared()]
        return f"{self.name}={'x'.join(sizes) or 'scalar'}:{self.dtype}"


def smallest_batch(specs: Iterable[InputSpec]) -> int:
    """The smallest batch size that all of them take."""
    return max((spec.batch.least for spec in specs if spec.batched), default=1)


def default_names(count: int) -> tuple[str, ...]:
    """What inputs without names are called: "input" alone, else "input_0", "input_1", ..."""
    return ("input",) if count == 1 else tuple(f"input_{position}" for position in range(count))


def type_range(dtype: str) -> tuple[int, int]:
    """The least and the largest number of an integer type."""
    limits = np.iinfo(dtype)
    return int(limits.min), int(limits.max)
