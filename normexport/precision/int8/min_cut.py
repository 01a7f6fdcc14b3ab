"""The cheapest way to part a graph in two: by the largest flow, along shortest paths (Edmonds and Karp 1972)."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Mapping

SOURCE, SINK = "source", "sink"
_LEAST = 1e-12  # of the largest capacity: less flow is none


def smallest_cut(capacities: Mapping[tuple[Hashable, Hashable], float]) -> set[Hashable]:
    """The vertices on the side of `SOURCE`, where those edges that lead out of it cost least together.

    Of several cheapest ways the one with the fewest vertices there. Edges cost nothing the other way.

    Args:
        capacities: what each edge (from, to) costs, from 0 to infinity; no path of infinite ones may lead from
            `SOURCE` to `SINK`.
    """
    left: dict[Hashable, dict[Hashable, float]] = {SOURCE: {}, SINK: {}}
    for (start, end), capacity in capacities.items():
        left.setdefault(start, {})[end] = capacity
        left.setdefault(end, {}).setdefault(start, 0.0)
    least = _LEAST * max((each for each in capacities.values() if math.isfinite(each)), default=0.0)
    while path := _path(left, least):
        flow = min(left[start][end] for start, end in path)
        for start, end in path:
            left[start][end] -= flow
            left[end][start] += flow
    return _reached(left, least).keys() - {SOURCE}


def _reached(left: Mapping[Hashable, Mapping[Hashable, float]], least: float) -> dict[Hashable, Hashable]:
    """What can be reached from the source, each with where from, nearest first."""
    came: dict[Hashable, Hashable] = {SOURCE: SOURCE}
    queue: deque[Hashable] = deque([SOURCE])
    while queue:
        start = queue.popleft()
        for end, capacity in left[start].items():
            if capacity > least and end not in came:
                came[end] = start
                queue.append(end)
    return came


def _path(left: Mapping[Hashable, Mapping[Hashable, float]], least: float) -> list[tuple[Hashable, Hashable]]:
    """The edges of a shortest path to the sink; none where no path is left."""
    came = _reached(left, least)
    path: list[tuple[Hashable, Hashable]] = []
    end: Hashable = SINK
    while end in came and end != SOURCE:
        path.append((came[end], end))
        end = came[end]
    return path
