"""At which of their lengths a network with open sizes is judged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from normexport.onnx_export import BatchRange, InputSpec

_MOST_NUMBERS = 1 << 20  # in a sample: 3x512x512 takes a ResNet-50 two seconds in float64


def open_numbers(specs: Sequence[InputSpec]) -> tuple[dict[str, int], ...]:
    """The sizes to judge at, as numbers of the open sizes by symbol; one, and empty, where none is open.

    In the middle of their ranges; all at their least; all at their most; next to the middle, where what comes out even
    by chance no longer does; and one at its most where the others are at their least. Of ranges that have no end, or
    whose end makes samples of more than a million numbers, the most is twice the middle.
    """
    middle, least, most = _middle(specs), _least(specs), _most(specs)
    odd = {symbol: min(number + 1 + index, most[symbol]) for index, (symbol, number) in enumerate(middle.items())}
    first = next(iter(middle), "")
    mixed = {symbol: (most if symbol == first else least)[symbol] for symbol in middle}
    between = {symbol: (least[symbol] + number) // 2 for symbol, number in middle.items()}
    found = [middle, least, most, odd, mixed if len(middle) > 1 else between]
    return tuple(dict(items) for items in dict.fromkeys(tuple(each.items()) for each in found))


def lengths_left_out(specs: Sequence[InputSpec]) -> tuple[str, ...]:
    """In words, the open sizes that were not tried to the end of their range."""
    most, notes = _most(specs), {}
    for symbol, each in _ranges(specs).items():
        if each.most != most[symbol]:
            end = "without an end" if each.most is None else f"to {each.length(each.most)}"
            notes[symbol] = f"{symbol}: sizes tried to {each.length(most[symbol])}, of a range {end}"
    return tuple(notes.values())


def _ranges(specs: Sequence[InputSpec]) -> dict[str, BatchRange]:
    return {each.symbol: each.range for spec in specs for each in spec.open}


def _middle(specs: Sequence[InputSpec]) -> dict[str, int]:
    """The number of each symbol that its spec's own length has."""
    return {
        each.symbol: each.range.batch_of(spec.shape[each.axis]) or each.range.usual()
        for spec in specs
        for each in spec.open
    }


def _least(specs: Sequence[InputSpec]) -> Mapping[str, int]:
    return {symbol: each.least for symbol, each in _ranges(specs).items()}


def _most(specs: Sequence[InputSpec]) -> Mapping[str, int]:
    ranges, middle = _ranges(specs), _middle(specs)
    ends = {symbol: each.most for symbol, each in ranges.items() if each.most is not None}
    affordable = all(math.prod(spec.at(ends).shape) <= _MOST_NUMBERS for spec in specs)
    return {
        symbol: ends[symbol] if symbol in ends and (affordable or ends[symbol] < 2 * number) else 2 * number
        for symbol, number in middle.items()
    }
