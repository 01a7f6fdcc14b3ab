"""The cluster that this process has joined, asked so that one which hangs is noticed, and Ctrl-C is heard.

Where the head, or the raylet of this machine, stops without ending, Ray's calls wait in C++ without end. So they are
made by threads (`workers.calls`), and where one takes long the head is asked which nodes live: it takes a raylet for
dead after some 60 seconds of silence.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from normexport.errors import MissingComponent, UsageError
from normexport.text import first_line
from normexport.workers.calls import Call
from normexport.workers.own_cluster import NeedsToken, own_cluster, require_joinable
from normexport.workers.where import Where

T = TypeVar("T")

# Seconds.
_CONNECTED_WITHIN = 10.0
_LOOKED_AFTER = 15.0  # of a call, or of no result, until the head is asked
_ANSWERED_WITHIN = 30.0  # by it
_WAITED = 1.0  # for a result, in C++, at a time
_GIVEN_UP_WITHIN = 10.0
_LEFT_WITHIN = 10.0
#: What Ray reads: no reports of usage to its makers, no notes on stderr.
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_enable_metrics_collection": "0",
}
#: Of a cluster that is not there: one of this machine, one to join.
_REMEDIES = "look at its logs below /tmp/ray, or run it with --on local", "give the ADDRESS:PORT of a cluster's head"
_TOKEN = "set RAY_AUTH_MODE=token, and the cluster's token in RAY_AUTH_TOKEN or ~/.ray/auth_token"
_hanging: list[Any] = []
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class RayCluster:
    """A cluster that this process has joined."""

    def __init__(self, ray: Any, where: Where) -> None:
        self._ray, self._where = ray, where
        self._node = ray.get_runtime_context().get_node_id()
        self._asked: Call[Any] | None = None

    def ask(self, call: Callable[[], T]) -> T:
        """What a call of Ray gives, however long that takes while the cluster lives.

        Raises:
            UsageError: it does not.
        """
        self._asked = asked = Call(call)
        while not asked.is_done(_LOOKED_AFTER):
            self._require_life()
        return asked.result()

    def first_of(self, tasks: Sequence[Any]) -> tuple[Any, Any]:
        """The first of some tasks that is done, and its result; see `ask`."""
        looked = time.monotonic()
        while not (done := self.ask(lambda: self._ray.wait(tasks, num_returns=1, timeout=_WAITED)[0])):
            if time.monotonic() - looked > _LOOKED_AFTER:
                self._require_life()
                looked = time.monotonic()
        return done[0], self.ask(lambda: self._ray.get(done[0]))

    def give_up(self, tasks: Sequence[Any]) -> None:
        """End tasks whose results nobody waits for, as far as the cluster hears it."""

        def cancel() -> None:
            for task in tasks:
                with contextlib.suppress(Exception):  # the cluster may be gone
                    self._ray.cancel(task, force=True)

        if self._asked is not None:
            self._asked.is_done(2 * _WAITED)  # one that waits for a result would meet the end of all
        if tasks:
            Call(cancel).is_done(_GIVEN_UP_WITHIN)

    def _require_life(self) -> None:
        """Refuse to wait for a head that does not answer, or for a raylet of this machine that it takes for dead."""
        asked = Call(lambda: {node["NodeID"] for node in self._ray.nodes() if node["Alive"]})
        place = f"--on {self._where.words}"
        remedy = "start it again; what was written on the way is gone on with by --resume"
        if not asked.is_done(_ANSWERED_WITHIN):
            raise UsageError(place, f"hangs: its head has not answered for {_ANSWERED_WITHIN:g} s", remedy)
        if self._node not in asked.result():
            raise UsageError(place, "hangs, or has died: its head takes this machine's node for dead", remedy)


def imported() -> Any:
    """The module `ray`, told to be quiet.

    Raises:
        MissingComponent: it is not installed.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise MissingComponent.of("ray", "ray") from error
    return ray


@contextlib.contextmanager
def joined(ray: Any, where: Where) -> Iterator[RayCluster]:
    """The cluster; one that was started here is ended, one that the caller has joined stays joined.

    Raises:
        UsageError: it can't be reached or started, or not in time.
    """
    if ray.is_initialized():
        yield RayCluster(ray, where)
        return
    with contextlib.ExitStack() as opened:
        try:
            if where.address:
                _require_listening(where.address)
                require_joinable(where.address)
                address = where.address
            else:
                address = opened.enter_context(own_cluster(where.workers))
                _use_token()
            opened.callback(_leave, ray)  # of one that was reached half-way, too
            with _keeping_signals():
                ray.init(address=address, logging_level="ERROR", log_to_driver=False)
            cluster = RayCluster(ray, where)
        except Exception as error:  # of a node that does not start in time it is no class of its own
            cause = f"can't be reached or started ({first_line(error, 200)})"
            remedy = _TOKEN if isinstance(error, NeedsToken) else _REMEDIES[bool(where.address)]
            raise UsageError(f"--on {where.words}", cause, remedy) from error
        yield cluster


def _leave(ray: Any) -> None:
    """Leave the cluster; one that hangs is left as it is, and so is the end of this process to Ray."""
    left = False
    try:
        left = Call(ray.shutdown).is_done(_LEFT_WITHIN)
    finally:
        if not left:
            _hanging.append(ray)
            atexit.unregister(ray.shutdown)  # it would wait for this one


def is_left_hanging() -> bool:
    """Whether threads of Ray wait for a cluster that hangs: its C++ may crash at the ordinary end of this process."""
    return bool(_hanging)


def _use_token() -> None:
    """Be known to a cluster of this machine: from Ray 2.59 on it asks for the token that its start has written."""
    with contextlib.suppress(ImportError):
        from ray._private.authentication import authentication_token_setup

        logging.getLogger(authentication_token_setup.__name__).setLevel(logging.ERROR)  # what it does is no warning
        authentication_token_setup.enable_token_auth_by_default()


def _require_listening(address: str) -> None:
    """Raise OSError where nobody listens at HOST:PORT: Ray itself would try for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECTED_WITHIN).close()


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
