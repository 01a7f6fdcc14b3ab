"""Where the parts of a job run, and running them there.

    for number, result in run_parts(Where.of("ray"), open_job, job, parts): ...

A job is a frozen value that can be pickled. `open_job(job)`, a function of a module, makes of it what computes one
part, such as a function that has a model open; every process does that once. What a part gives must follow from the
job and the part alone: a part whose process dies is computed again, on another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from normexport.errors import UsageError

Part = TypeVar("Part")
Result = TypeVar("Result")

#: job -> what computes one part of it.
Work: TypeAlias = Callable[[Any], Callable[[Part], Result]]

_CHOICES = "give local, ray (a cluster of this machine) or ray:ADDRESS (one that runs)"


@dataclass(frozen=True)
class Where:
    """Which processes compute.

    Attributes:
        ray: whether those of a Ray cluster do, each task on one core; False: this process.
        address: of the cluster to join, "10.0.0.1:6379" or "auto"; "": one is started on this machine, and ended.
        workers: parts at a time, at most; None: as many as the cluster has cores, those of nodes that join later too.

    Raises:
        UsageError: fewer than one worker, or several in this process.
    """

    ray: bool = False
    address: str = ""
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"--workers {self.workers}", "is not a number of workers", "give at least 1")
        if self.workers is not None and not self.ray:
            raise UsageError(f"--workers {self.workers}", "is for a Ray cluster", "give --on ray too, or leave it out")

    @classmethod
    def of(cls, text: str, workers: int | None = None) -> Where:
        """What a command line says: "local", "ray" or "ray:ADDRESS".

        Raises:
            UsageError: it is something else; see `Where`.
        """
        word, colon, address = text.partition(":")
        if word == "ray" and bool(colon) == bool(address):
            return cls(True, address, workers)
        if text == "local":
            return cls(workers=workers)
        raise UsageError(f"--on {text}", "is no place to compute", _CHOICES)

    @property
    def words(self) -> str:
        """As a command line says it."""
        return "local" if not self.ray else f"ray:{self.address}" if self.address else "ray"


LOCAL = Where()


def run_parts(where: Where, work: Work[Part, Result], job: Any, parts: Iterable[Part]) -> Iterator[tuple[int, Result]]:
    """The number of each part and what it gave, in the order in which they are done.

    Parts are taken from the iterable as there is room for them: a few more are waiting than are computed.

    Raises:
        MissingComponent: Ray is not installed.
        UsageError: no such cluster, or one on which the job can't run.
        NormExportError: of a part.
    """
    if where.ray:
        from normexport.workers.ray_tasks import run_on_ray

        yield from run_on_ray(where, work, job, parts)
        return
    compute = work(job)
    for number, part in enumerate(parts):
        yield number, compute(part)


def run_in_order(where: Where, work: Work[Part, Result], job: Any, parts: Iterable[Part]) -> Iterator[Result]:
    """What each part gave, in the order of the parts; see `run_parts`."""
    early: dict[int, Result] = {}
    due = 0
    for number, result in run_parts(where, work, job, parts):
        early[number] = result
        while due in early:
            yield early.pop(due)
            due += 1
