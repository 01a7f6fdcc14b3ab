"""Which sizes a sub-graph is tried with: small ones, and those that the file says."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from normexport.graphs.refusal import Refuse
from normexport.norms.kind import Array
from normexport.recognition.trial import Sizes, Trial

#: Batch, and space of one axis. Many divisors, for chunks; large enough for the 10 largest of a row.
_SMALL = (
    (4, 64),
    (6, 128),
    (3, 96),
    (5, 80),
    (7, 112),
    (10, 200),
    (9, 144),
    (11, 176),
    (13, 208),
    (32, 256),
    (130, 150),
)
_BATCHES = (2, 3, 4, 6, 5, 7, 10, 9, 11, 13, 16, 32, 48, 80, 128)
#: Elements of an input that is tried: 128 MB in float64, of which some are alive at a time.
_MOST_ELEMENTS = 1 << 24


def are_open(sizes: Sizes) -> bool:
    """Whether the number of elements that a statistic reduces may differ from run to run."""
    return not all(_is_known(size) for size in sizes)


def small_shapes(sizes: Sizes, channels: int, most: int) -> Iterator[tuple[int, ...]]:
    """Shapes of at most `most` elements, whatever the file says of sizes other than channels."""
    space = len(sizes) - 2
    for batch, elements in _SMALL:
        shape = (batch if space else batch * 16, channels, *_split(elements, space))
        if math.prod(shape) <= most:
            yield shape


def true_shapes(sizes: Sizes, channels: int) -> Iterator[tuple[int, ...]]:
    """Shapes that the file allows; equal names are equal sizes."""
    if not are_open(sizes):
        yield tuple(_number(size) for size in sizes)
        return
    named = [size if isinstance(size, str) else axis for axis, size in enumerate(sizes)]
    opened = dict.fromkeys(name for name, size in zip(named, sizes, strict=True) if not _is_known(size))
    for batch in _BATCHES:
        given = {name: batch if place == 0 else 8 + 4 * place + batch for place, name in enumerate(opened)}
        yield tuple(
            channels if axis == 1 else _number(size) if _is_known(size) else given[named[axis]]
            for axis, size in enumerate(sizes)
        )


def working_shapes(
    trial: Trial, shapes: Iterator[tuple[int, ...]], draw: Callable[[tuple[int, ...]], Array], wanted: int
) -> list[tuple[int, ...]]:
    """The first `wanted` of them that the sub-graph computes, giving back the shape it was given."""
    found: list[tuple[int, ...]] = []
    for shape in shapes:
        if math.prod(shape) > _MOST_ELEMENTS:
            break
        try:
            result = trial.run(draw(shape))
        except Refuse:
            continue
        if result.ndim != len(shape) or (result.shape != shape and sorted(result.shape) == sorted(shape)):
            break  # it turns axes, which no size changes
        if result.shape == shape:
            found.append(shape)
        if len(found) == wanted:
            break
    return found


def _is_known(size: int | str | None) -> bool:
    return isinstance(size, int) and size > 0


def _number(size: int | str | None) -> int:
    assert isinstance(size, int)
    return size


def _split(elements: int, axes: int) -> tuple[int, ...]:
    """`elements` as the product of `axes` sizes, none of them 1 where that can be."""
    sizes = []
    for left in range(axes, 1, -1):
        size = next((each for each in (8, 4, 2) if elements % each == 0 and elements // each >= 2 ** (left - 1)), 1)
        sizes.append(size)
        elements //= size
    return (*sizes, elements) if axes else ()
