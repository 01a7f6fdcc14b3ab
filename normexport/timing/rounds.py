"""Cases take turns, a few calls each, in an order drawn anew for every turn; after some turns all are opened anew."""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from normexport.timing.case import Case
from normexport.timing.child import Child
from normexport.timing.config import BenchConfig
from normexport.timing.intervals import Interval, interval_of
from normexport.timing.result import Ratio, Timing
from normexport.timing.worker import Block, Opened

#: Told what happens: "opening 3 of 10".
OnStage = Callable[[str], None]

TURNS = 12  # at an opening, where calls are short: their median is a value
_TURN = 0.02  # seconds of a turn, at least: longer than a wake-up, shorter than most of what disturbs
_MOST_CALLS = 2000  # in a turn; a call of 10 microseconds
_ALONE = 3  # openings of a case that nothing is compared with
_LONGEST_SEARCH = 3  # openings at most, times those asked for


@dataclass
class _Found:
    """What one case has given so far."""

    opened: list[Opened] = field(default_factory=list)
    wall: list[int] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    #: At each opening, its turns: (median latency, median processor time), in nanoseconds.
    turns: list[list[tuple[float, float]]] = field(default_factory=list)

    def seconds(self) -> float:
        return sum(self.wall) / 1e9


def take_turns(
    cases: Sequence[Case], config: BenchConfig, comparisons: int, on_stage: OnStage
) -> tuple[tuple[Timing, ...], tuple[Ratio, ...]]:
    """Measure cases against each other: the times of each, and all but the first against the first.

    Args:
        cases: those that take turns; the first is what the others are compared with.
        comparisons: of the whole measurement: all of its intervals hold together.

    Raises:
        NormExportError: a file can't be opened or run.
    """
    if len(cases) == 1:
        config = replace(config, openings=_ALONE)
    found = [_Found() for _ in cases]
    draw = random.Random(config.seed)
    by_processor = all(case.by_processor for case in cases)
    for opening in range(_LONGEST_SEARCH * config.openings):
        on_stage(f"{cases[0].file}, opening {opening + 1} of {max(config.openings, opening + 1)}")
        _open_once(cases, found, config, draw)
        ratios = [_ratio(index, found, by_processor, comparisons) for index in range(1, len(found))]
        if opening + 1 >= config.openings and _is_enough([each.interval for each in ratios], found, config):
            break
    return tuple(_timing(case, each) for case, each in zip(cases, found, strict=True)), tuple(ratios)


def _ratio(index: int, found: Sequence[_Found], by_processor: bool, comparisons: int) -> Ratio:
    """How much longer a case takes than the first, by what is known so far."""
    logs = _logs(found[0], found[index], by_processor)
    return Ratio(index, 0, interval_of(logs, comparisons), by_processor, len(logs))


def _is_enough(intervals: Sequence[Interval], found: Sequence[_Found], config: BenchConfig) -> bool:
    """Whether every ratio is known as well as was asked for, or has taken as long as it may."""
    known = all(each.half_width <= config.precision or _is_settled(each) for each in intervals)
    return known or min(each.seconds() for each in found) >= config.most * config.duration


def _is_settled(interval: Interval) -> bool:
    """Whether a difference is far larger than what is not known of it."""
    return math.isfinite(interval.half_width) and abs(math.log(interval.ratio)) > 5 * interval.half_width


def _open_once(cases: Sequence[Case], found: Sequence[_Found], config: BenchConfig, draw: random.Random) -> None:
    """Open all cases, let them take their turns, close them."""
    with contextlib.ExitStack() as stack:
        order = draw.sample(range(len(cases)), len(cases))  # where a file comes to lie must not follow from its place
        children = {index: stack.enter_context(Child(cases[index])) for index in order}
        for index in order:
            found[index].opened.append(children[index].open(config.warm_up / 1e3))
            found[index].turns.append([])
        calls = [_calls(each.opened[-1].warm, config) for each in found]
        turns = max(2, *(_turns(each.opened[-1].warm, count, config) for each, count in zip(found, calls, strict=True)))
        for _ in range(turns):
            for index in draw.sample(order, len(order)):
                _add(found[index], children[index].block(calls[index]))
        for index, child in children.items():
            memory = child.memory()
            if memory is not None:
                found[index].memory.append(memory)


def _calls(warm: float, config: BenchConfig) -> int:
    """Counted calls of a turn, by what a call takes."""
    turn = max(_TURN, config.duration / config.openings / TURNS)
    return max(1, min(_MOST_CALLS, round(turn / max(warm, 1e-7))))


def _turns(warm: float, calls: int, config: BenchConfig) -> int:
    """Turns at an opening: for the seconds and the calls that were asked for; two at least."""
    seconds = config.duration / config.openings / max(calls * warm, 1e-9)
    iterations = config.iterations / config.openings / calls
    return min(4 * TURNS, math.ceil(max(seconds, iterations)))


def _add(found: _Found, block: Block) -> None:
    found.wall += block.wall
    found.turns[-1].append((float(np.median(block.wall)), float(np.median(block.processor))))


def _logs(base: _Found, other: _Found, by_processor: bool) -> list[float]:
    """The logarithm of the ratio at each opening: the median of those of its turns."""
    which = 1 if by_processor else 0
    return [
        float(np.median([math.log(max(b[which], 1.0) / max(a[which], 1.0)) for a, b in zip(ours, theirs, strict=True)]))
        for ours, theirs in zip(base.turns, other.turns, strict=True)
    ]


def _timing(case: Case, found: _Found) -> Timing:
    opening = case.opening
    return Timing(
        case.file,
        opening.runtime,
        opening.threads,
        case.batch,
        np.asarray(found.wall, dtype=np.float64) / 1e9,
        float(np.median([each.load for each in found.opened])),
        float(np.median([each.first for each in found.opened])),
        max(found.memory, default=None),
        all(each.settled for each in found.opened),
    )
