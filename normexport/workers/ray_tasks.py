"""Parts as tasks of a Ray cluster: each on one core, again on another where its process or node dies.

The job travels once to each node. At most as many tasks wait as run, so that parts which carry arrays do not fill the
object store; a task has several parts where they are quick, for each costs the cluster and this process some 6 ms. What
a cluster says of itself goes nowhere: what matters arrives as an error.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from normexport import errors
from normexport.errors import MissingComponent, NormExportError, UsageError
from normexport.text import first_line
from normexport.workers.own_cluster import own_cluster
from normexport.workers.where import Part, Result, Where, Work

_AGAIN = 5  # times that a part is computed anew after its process or node has died
_ANSWERED_WITHIN = 10.0  # seconds
_WORTH_A_TASK = 0.25  # seconds of computing
_MOST_IN_A_TASK = 16
#: What Ray reads: no reports of usage to its makers, no notes on stderr.
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_enable_metrics_collection": "0",
}
#: Of a cluster that is not there: one of this machine, one to join.
_REMEDIES = "look at its logs below /tmp/ray, or run it with --on local", "give the ADDRESS:PORT of a cluster's head"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

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
    ray = _import()
    with _cluster(ray, where):
        cores = _cores_of_a_node(ray) if alone else 1
        task = ray.remote(num_cpus=cores, max_retries=_AGAIN)(_compute)
        waiting: dict[Any, list[int]] = {}  # the numbers of the parts of each task
        try:
            shared, token = ray.put(job), uuid.uuid4().hex
            coming, several = iter(enumerate(parts)), 1
            more = True
            while more or waiting:
                while more and len(waiting) < _at_a_time(ray, where, cores):
                    taken = dict(itertools.islice(coming, several))
                    more = len(taken) == several
                    if taken:
                        waiting[task.remote(work, token, shared, list(taken.values()))] = list(taken)
                if not waiting:
                    break
                (done,), _ = ray.wait(list(waiting), num_returns=1)
                answer = ray.get(done)
                if isinstance(answer, _Refusal):
                    raise answer.error()
                results, seconds = answer
                yield from zip(waiting.pop(done), results, strict=True)
                several = 1 if alone else _worth_a_task(seconds / len(results))
        except ray.exceptions.RayError as error:
            raise _failure(where, error) from error
        finally:
            for each in waiting:
                with contextlib.suppress(Exception):  # the cluster may be gone
                    ray.cancel(each, force=True)


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


def _import() -> Any:
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise MissingComponent.of("ray", "ray") from error
    return ray


@contextlib.contextmanager
def _cluster(ray: Any, where: Where) -> Iterator[None]:
    """Connected to the cluster; one that was started here is ended, one that the caller has joined stays joined."""
    if ray.is_initialized():
        yield
        return
    with contextlib.ExitStack() as opened:
        try:
            address = where.address or opened.enter_context(own_cluster(where.workers))
            if not where.address:
                _use_token()
            _require_listening(address)
            opened.callback(ray.shutdown)  # of one that was reached half-way, too
            with _keeping_signals():
                ray.init(address=address, logging_level="ERROR", log_to_driver=False)
        except Exception as error:  # of a node that does not start in time it is no class of its own
            cause = f"can't be reached or started ({first_line(error, 200)})"
            raise UsageError(f"--on {where.words}", cause, _REMEDIES[bool(where.address)]) from error
        yield


def _use_token() -> None:
    """Be known to a cluster of this machine: from Ray 2.60 on it asks for the token that its start has written."""
    with contextlib.suppress(ImportError):
        from ray._private.authentication import authentication_token_setup

        logging.getLogger(authentication_token_setup.__name__).setLevel(logging.ERROR)  # what it does is no warning
        authentication_token_setup.enable_token_auth_by_default()


def _require_listening(address: str) -> None:
    """Raise OSError where nobody listens at HOST:PORT: Ray itself would try for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWERED_WITHIN).close()


@contextlib.contextmanager
def _keeping_signals() -> Iterator[None]:
    """Ray's own handler of SIGTERM would end this process without a word."""
    here = threading.current_thread() is threading.main_thread()
    before = {each: signal.getsignal(each) for each in _SIGNALS} if here else {}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


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
    told = str(error).strip().splitlines()
    cause = f"could not compute a part ({kind}: {told[-1][:200] if told else 'no reason given'})"
    return UsageError(f"--on {where.words}", cause, "see its logs, or run it with --on local")
