"""Parts as tasks of a Ray cluster: each on one core, again on another where its process or node dies.

The job travels once to each node. At most as many tasks wait as run, so that parts which carry arrays do not fill the
object store; a task has several parts where they are quick, for each costs the cluster and this process some 6 ms. What
a cluster says of itself goes nowhere: what matters arrives as an error.
"""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from normexport import errors
from normexport.errors import MissingComponent, NormExportError, UsageError
from normexport.workers.ray_cluster import imported, joined
from normexport.workers.where import Part, Result, Where, Work

_AGAIN = 5  # times that a part is computed anew after its process or node has died
_WORTH_A_TASK = 0.25  # seconds of computing
_MOST_IN_A_TASK = 16
_opened: dict[str, Callable[[Any], Any]] = {}


@dataclass(frozen=True)
class _Refusal:
    """An error of ours, whose class may not stand being pickled."""

    kind: str
    place: str
    cause: str
    remedy: str

    def error(self) -> NormExportError:
        """The error again."""
        made: NormExportError = getattr(errors, self.kind)(self.place, self.cause, self.remedy)
        return made


def run_on_ray(
    where: Where, work: Work[Part, Result], job: Any, parts: Iterable[Part], alone: bool
) -> Iterator[tuple[int, Result]]:
    """See `normexport.workers.run_parts`."""
    ray = imported()
    with joined(ray, where) as cluster:
        cores = cluster.ask(partial(_cores_of_a_node, ray)) if alone else 1
        task = ray.remote(num_cpus=cores, max_retries=_AGAIN)(_compute)
        waiting: dict[Any, list[int]] = {}  # the numbers of the parts of each task
        try:
            shared, token = cluster.ask(partial(ray.put, job)), uuid.uuid4().hex
            coming, several = iter(enumerate(parts)), 1
            more = True
            while more or waiting:
                while more and len(waiting) < cluster.ask(partial(_at_a_time, ray, where, cores)):
                    taken = dict(itertools.islice(coming, several))
                    more = len(taken) == several
                    if taken:
                        begun = cluster.ask(partial(task.remote, work, token, shared, list(taken.values())))
                        waiting[begun] = list(taken)
                if not waiting:
                    break
                done, answer = cluster.first_of(list(waiting))
                if isinstance(answer, _Refusal):
                    raise answer.error()
                results, seconds = answer
                yield from zip(waiting.pop(done), results, strict=True)
                several = 1 if alone else _worth_a_task(seconds / len(results))
        except ray.exceptions.RayError as error:
            raise _failure(where, error) from error
        finally:
            cluster.give_up(list(waiting))


def _compute(
    work: Work[Part, Result], token: str, job: Any, parts: list[Part]
) -> tuple[list[Result], float] | _Refusal:
    """The parts of a task and the seconds that they took, in a process of the cluster."""
    try:
        if token not in _opened:
            _opened.clear()  # the model of the job before goes first
            _opened[token] = work(job)
        start = time.perf_counter()
        return [_opened[token](part) for part in parts], time.perf_counter() - start
    except NormExportError as error:
        return _Refusal(type(error).__name__, error.place, error.cause, error.remedy)


def _worth_a_task(seconds: float) -> int:
    """How many parts of so many seconds each a task has."""
    return max(1, min(_MOST_IN_A_TASK, int(_WORTH_A_TASK / max(seconds, 1e-6))))


def _at_a_time(ray: Any, where: Where, cores: int) -> int:
    """How many parts of so many cores may be under way: those that run, and as many that wait.

    Where fewer shall run than the cluster has room for, none waits: it would be run.
    """
    room = max(int(ray.cluster_resources().get("CPU", 1)) // cores, 1)
    return 2 * room if where.workers is None or where.workers >= room else where.workers


def _cores_of_a_node(ray: Any) -> int:
    """Those of the largest: of two parts that take as many, no node computes both at once."""
    return max((int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]), default=1) or 1


def _failure(where: Where, error: Exception) -> NormExportError:
    """What Ray says, in one line."""
    kind = type(error).__name__
    if "ModuleNotFoundError" in str(error) and "normexport" in str(error):
        cause = "has a worker in whose environment normexport is not installed"
        return MissingComponent(f"--on {where.words}", cause, "run on every node: pip install 'normexport[ray,cpu]'")
    if kind in ("WorkerCrashedError", "OutOfMemoryError", "NodeDiedError", "ObjectLostError"):
        cause = f"lost a part {_AGAIN + 1} times ({kind})"
        return UsageError(f"--on {where.words}", cause, "look at the memory of its nodes, or take a smaller batch")
    if any(word in kind for word in ("ObjectStoreFullError", "OutOfDiskError")):  # of a worker: RayTaskError(...)
        cause = f"has a node whose object store is full, and its disk too ({kind})"
        remedy = "make room below /tmp/ray; what was written on the way is gone on with by --resume"
        return UsageError(f"--on {where.words}", cause, remedy)
    told = str(error).strip().splitlines()
    cause = f"could not compute a part ({kind}: {told[-1][:200] if told else 'no reason given'})"
    return UsageError(f"--on {where.words}", cause, "see its logs, or run it with --on local")
