"""Timing in turn: every candidate once per round, in a new order each round, each call on the next buffers."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

#: A call on buffer i. It returns its result where it makes a tensor of its own, else None: the result is in ys[i].
Run = Callable[[int], Any]


@dataclass(frozen=True)
class Timing:
    """Seconds per call."""

    median: float
    p10: float
    runs: int


def interleaved(candidates: Mapping[str, Run], *, rotation: int, seconds: float, least: int = 15) -> dict[str, Timing]:
    """Time `candidates` for about `seconds`, at least `least` rounds, after two rounds that do not count.

    Warm code and cold data: a call's buffers were last used `rotation` calls ago. A round is fair to all: whatever
    disturbs the machine for longer than a round disturbs each of them.
    """
    order = list(candidates)
    taken: dict[str, list[float]] = {name: [] for name in order}
    turn, shuffle, end, rounds = 0, random.Random(0), 0.0, -2
    while rounds < least or time.perf_counter() < end:
        if rounds == 0:
            end = time.perf_counter() + seconds
        shuffle.shuffle(order)
        for name in order:
            run, turn = candidates[name], (turn + 1) % rotation
            start = time.perf_counter()
            run(turn)
            elapsed = time.perf_counter() - start
            if rounds >= 0:
                taken[name].append(elapsed)
        rounds += 1
    return {
        name: Timing(float(np.median(each)), float(np.percentile(each, 10)), len(each)) for name, each in taken.items()
    }
