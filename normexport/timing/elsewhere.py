"""Groups of cases measured on the nodes of a cluster, each group on one node that computes nothing else meanwhile.

Cases of a group take turns on one machine, so that their ratios mean what they mean here. Times of different groups are
of different machines: the result says which.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from normexport.errors import UsageError
from normexport.io.atomic import scratch
from normexport.timing.case import Case
from normexport.timing.config import BenchConfig
from normexport.timing.machine import machine_facts
from normexport.timing.result import Ratio, Timing
from normexport.timing.rounds import OnStage, take_turns
from normexport.workers import Where, run_in_order


@dataclass(frozen=True)
class _Group:
    """Cases that take turns, and the content of the files made for them; others have to be on the node."""

    cases: tuple[Case, ...]
    files: Mapping[Path, bytes]


@dataclass(frozen=True)
class Measured:
    """A group that was measured: times, ratios with positions in the group, what it ran on."""

    timings: tuple[Timing, ...]
    ratios: tuple[Ratio, ...]
    node: str
    machine: Mapping[str, str]


def measure_on(
    where: Where, groups: Sequence[Sequence[Case]], config: BenchConfig, comparisons: int, made_in: Path, told: OnStage
) -> list[Measured]:
    """Every group, in their order.

    Args:
        made_in: the folder whose files are sent along.
        told: hears what has been measured.

    Raises:
        NormExportError: a file can't be opened or run there; see `run_parts`.
    """
    found: list[Measured] = []
    parts = (_Group(tuple(group), _files_of(group, made_in)) for group in groups)
    for group, measured in zip(
        groups, run_in_order(where, open_measuring, (config, comparisons), parts, alone=True), strict=True
    ):
        told(f"{group[0].file}, measured on {measured.node}")
        found.append(measured)
    return found


def open_measuring(job: tuple[BenchConfig, int]) -> Callable[[_Group], Measured]:
    """What measures one group, on the node that it came to."""
    config, comparisons = job

    def measure(group: _Group) -> Measured:
        with scratch() as folder:
            placed = {path: folder / path.name for path in group.files}
            for path, content in group.files.items():
                placed[path].write_bytes(content)
            cases = [_placed(case, placed) for case in group.cases]
            timings, ratios = take_turns(cases, config, comparisons, lambda stage: None)
        return Measured(timings, ratios, platform.node() or "a node", machine_facts())

    return measure


def node_notes(found: Sequence[Measured]) -> tuple[str, ...]:
    """Where each group was measured, in words."""
    notes = [
        f"{each.timings[0].words}{' and those beside it' if len(each.timings) > 1 else ''}: measured on {each.node}"
        for each in found
    ]
    processors = sorted({each.machine["processor"] for each in found})
    if len(processors) > 1:
        notes.append(f"on several processors ({', '.join(processors)}): compare times of one node alone")
    return tuple(notes)


def _files_of(group: Sequence[Case], made_in: Path) -> dict[Path, bytes]:
    files = {case.opening.file for case in group}
    return {file: file.read_bytes() for file in files if isinstance(file, Path) and made_in in file.parents}


def _placed(case: Case, placed: Mapping[Path, Path]) -> Case:
    """The case with the files that lie here.

    Raises:
        UsageError: one does not.
    """
    file, library = case.opening.file, case.opening.library
    if isinstance(file, Path) and file in placed:
        file = placed[file]
    named = file if isinstance(file, Path) else file.path
    for needed in (named, library):
        if needed is not None and not needed.exists():
            cause = f"is not on the node {platform.node()}"
            raise UsageError(str(needed), cause, "put it where all nodes have it")
    return replace(case, opening=replace(case.opening, file=file))
