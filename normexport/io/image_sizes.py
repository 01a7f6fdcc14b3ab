"""Which height and width an image becomes: the model's, or, where that is open, its own or what is asked for.

Sizes are torchvision's: the short side becomes n, the long one floor(n * long / short); a crop of h rows begins at row
round((height - h) / 2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from normexport.errors import UsageError
from normexport.io.preprocess import Preprocess, Size, height_width, said_size, size_words


@dataclass(frozen=True)
class FreeSide:
    """A size of the input that is left open: its symbol, and the length that is taken next to one."""

    symbol: str
    nearest: Callable[[int], int]

    def takes(self, length: int) -> bool:
        return self.nearest(length) == length

    def __str__(self) -> str:
        return self.symbol


#: A size of a sample: a number, or open.
Side: TypeAlias = int | FreeSide


def choose_sizes(asked: Preprocess, read: tuple[Side, Side]) -> tuple[Size | None, tuple[int, int] | None]:
    """What is resized to, and what is cut out of that, so that the model's size comes out.

    Raises:
        UsageError: another one would.
    """
    size = _closed(asked, read)
    if size is None:
        return asked.resize, None
    if asked.crop is not None and height_width(asked.crop) != size:
        cause = f"is not what the model reads, {size_words(size)}"
        raise UsageError(f"--crop {said_size(asked.crop)}", cause, f"give {size_words(size)}, or leave it out")
    if isinstance(asked.resize, tuple):
        if asked.crop is None and asked.resize != size:
            cause = f"is not what the model reads, {size_words(size)}"
            raise UsageError(f"--resize {size_words(asked.resize)}", cause, "give that size, or --crop")
        return asked.resize, None if asked.resize == size else size
    if asked.resize is not None:
        if asked.resize < min(size):
            cause = f"is a short side of less than what the model reads, {size_words(size)}"
            raise UsageError(f"--resize {asked.resize}", cause, "give more")
        return asked.resize, size
    if asked.crop_share is not None:
        return math.floor(min(size) / asked.crop_share), size
    return (None, size) if asked.crop is not None else (size, None)


def _closed(asked: Preprocess, read: tuple[Side, Side]) -> tuple[int, int] | None:
    """The size that samples have: the model's, where that is open the one asked for; None: each has its own."""
    whole = None if asked.crop is None else height_width(asked.crop)
    whole = asked.resize if whole is None and isinstance(asked.resize, tuple) else whole
    place = f"--crop {said_size(asked.crop)}" if asked.crop is not None else f"--resize {size_words(asked.resize or 0)}"
    size = []
    for axis, side in enumerate(read):
        if isinstance(side, FreeSide):
            if whole is None:
                return None
            if not side.takes(whole[axis]):
                cause = f"is not what the model reads, {size_words_of(read)}"
                remedy = f"{side} can be {side.nearest(whole[axis])}"
                raise UsageError(place, cause, remedy)
            side = whole[axis]
        size.append(side)
    return size[0], size[1]


def keeps_size(size: tuple[Side, Side], resize: Size | None, crop: tuple[int, int] | None) -> bool:
    """Whether the size of an image says that of its sample."""
    return any(isinstance(side, FreeSide) for side in size) and crop is None and not isinstance(resize, tuple)


def resized_size(
    size: tuple[Side, Side], resize: Size | None, crop: tuple[int, int] | None, own: tuple[int, int]
) -> tuple[int, int]:
    """(height, width) to resize an image of its `own` to; of a short side alone what is not open is cut later."""
    if isinstance(resize, tuple):
        return resize
    kept = own if resize is None else _by_short_side(*own, resize)
    if not keeps_size(size, resize, crop):
        return kept
    height, width = (
        side.nearest(length) if isinstance(side, FreeSide) else side if resize is None else length
        for side, length in zip(size, kept, strict=True)
    )
    return height, width


def cropped_size(size: tuple[Side, Side], crop: tuple[int, int] | None, own: tuple[int, int]) -> tuple[int, int]:
    """(height, width) to cut from the centre of a resized image of its `own`."""
    if crop is not None:
        return crop
    height, width = (length if isinstance(side, FreeSide) else side for side, length in zip(size, own, strict=True))
    return height, width


def _by_short_side(tall: int, wide: int, short: int) -> tuple[int, int]:
    """(height, width) with the short side as given, the ratio kept."""
    if tall <= wide:
        return short, int(short * wide / tall)
    return int(short * tall / wide), short


def is_of(shape: Sequence[int], wanted: Sequence[Side]) -> bool:
    """Whether a sample has these sizes; an open one is any."""
    return len(shape) == len(wanted) and all(
        isinstance(side, FreeSide) or own == side for own, side in zip(shape, wanted, strict=True)
    )


def size_words_of(shape: Sequence[Side]) -> str:
    """ "3x224x224", or "3xHxW"."""
    return "x".join(map(str, shape)) or "scalar"
