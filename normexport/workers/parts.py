"""Running the parts of a job.

    for number, result in run_parts(Where.of("ray"), open_job, job, parts): ...

A job is a frozen value that can be pickled. `open_job(job)`, a function of a module, makes of it what computes one
part, such as a function that has a model open; every process does that once. What a part gives must follow from the
job and the part alone: a part whose process dies is computed again, on another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from normexport.workers.where import Part, Result, Where, Work


def run_parts(
    where: Where, work: Work[Part, Result], job: Any, parts: Iterable[Part], *, alone: bool = False
) -> Iterator[tuple[int, Result]]:
    """The number of each part and what it gave, in the order in which they are done.

    Parts are taken from the iterable as there is room for them: a few more are waiting than are computed.

    Args:
        alone: whether each part has a node of the cluster for itself: all the cores of the largest.

    Raises:
        MissingComponent: Ray is not installed.
        UsageError: no such cluster, or one on which the job can't run.
        NormExportError: of a part.
    """
    if where.ray:
        from normexport.workers.ray_tasks import run_on_ray

        yield from run_on_ray(where, work, job, parts, alone)
        return
    compute = work(job)
    for number, part in enumerate(parts):
        yield number, compute(part)


def run_in_order(
    where: Where, work: Work[Part, Result], job: Any, parts: Iterable[Part], *, alone: bool = False
) -> Iterator[Result]:
    """What each part gave, in the order of the parts; see `run_parts`."""
    early: dict[int, Result] = {}
    due = 0
    for number, result in run_parts(where, work, job, parts, alone=alone):
        early[number] = result
        while due in early:
            yield early.pop(due)
            due += 1
