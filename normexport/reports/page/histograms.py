"""Histograms as small pictures in a table: a path of bars and the range that int8 stands for.

They are drawn here and not by matplotlib, which takes 0.2 s for each, and a network has hundreds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from normexport.reports.page.values import Bins, Ranged

WIDTH, HEIGHT = 240, 36  # units of the picture


@dataclass(frozen=True)
class Bars:
    """A histogram to be drawn: the path of its bars, heights by the logarithm of counts, and the two ends of int8.

    `lost` is the share of what was seen that int8 has no number for: it lies outside of the range.
    """

    path: str
    ends: tuple[float, float]
    lost: float


def bars(bins: Bins) -> Bars:
    """The picture, over all that was seen and all that int8 stands for."""
    seen = bins.low, bins.low + bins.width * len(bins.counts)
    low, high = min(seen[0], bins.range[0]), max(seen[1], bins.range[1])
    scale = WIDTH / (high - low) if high > low else 0.0
    most = math.log1p(max(bins.counts)) or 1.0
    pieces = []
    for index, number in enumerate(bins.counts):
        if number:
            left, height = (seen[0] + bins.width * index - low) * scale, HEIGHT * math.log1p(number) / most
            pieces.append(f"M{left:.1f} {HEIGHT}v-{height:.1f}h{max(bins.width * scale, 0.5):.1f}v{height:.1f}z")
    ends = tuple((end - low) * scale for end in bins.range)
    return Bars("".join(pieces), (ends[0], ends[1]), _outside(bins))


def _outside(bins: Bins) -> float:
    """Share of the values in bins whose middle is out of the range."""
    middles = (bins.low + bins.width * (index + 0.5) for index in range(len(bins.counts)))
    out = sum(
        number
        for middle, number in zip(middles, bins.counts, strict=True)
        if not bins.range[0] <= middle <= bins.range[1]
    )
    return out / max(1, sum(bins.counts))


def spans(ranges: Sequence[Ranged]) -> list[tuple[Ranged, Bars]]:
    """Ranges alone, all on one axis: a bar from end to end, and a line at zero."""
    low = min((min(each.range) for each in ranges), default=0.0)
    high = max((max(each.range) for each in ranges), default=0.0)
    low, high = min(low, 0.0), max(high, 0.0)
    scale = WIDTH / (high - low) if high > low else 0.0

    def drawn(ends: tuple[float, float]) -> Bars:
        left, width = (ends[0] - low) * scale, max((ends[1] - ends[0]) * scale, 1.0)
        path = f"M{min(left, WIDTH - width):.1f} {HEIGHT / 3:.1f}h{width:.1f}v{HEIGHT / 3:.1f}h-{width:.1f}z"
        return Bars(path, (-low * scale, -low * scale), 0.0)

    return [(each, drawn(each.range)) for each in ranges]
