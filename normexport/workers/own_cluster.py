"""A Ray cluster of this machine, which lives in a process of its own and ends with this one; and one that is joined.

Ray would start it inside of the process that uses it, in C++ that holds Python's lock: where a part of it crashes on
the way, that process waits and hears no signal. So it does where a cluster that is joined hangs. A process of its own
can be ended from here, after a time.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import IO

from normexport.text import first_line
from normexport.workers.calls import Call

#: Seconds. Ray itself gives up on a node after 30; of two busy cores a good start took 25.
STARTED_WITHIN = 120.0
#: Of one that runs; idle it takes 3, of two busy cores it took 12.
JOINED_WITHIN = 60.0
_ENDED_WITHIN = 20.0
_HOST = "normexport.workers.cluster_host"
_NO_TOKEN = b"InvalidAuthToken"  # what Ray's C++ says to stderr alone, from Ray 2.52 on
_LAST_WORDS = 1 << 16  # bytes


class NotStarted(Exception):
    """A cluster that did not start or can't be joined, in words."""


class NeedsToken(NotStarted):
    """One that wants a token, and was given none or another."""


@contextlib.contextmanager
def own_cluster(cores: int | None) -> Iterator[str]:
    """The address of a cluster that lives within the block; what fails early is tried once more.

    Args:
        cores: of it; None: those of the machine.

    Raises:
        NotStarted: within one and a half times `STARTED_WITHIN`, or not at all.
    """
    words = [] if cores is None else [str(cores)]
    with contextlib.ExitStack() as opened:
        began = time.monotonic()
        try:
            address = opened.enter_context(_hosted(words, STARTED_WITHIN))
        except NotStarted:  # of two cores that other work keeps busy, one start in two takes Ray's 30 s
            if time.monotonic() - began > STARTED_WITHIN / 2:
                raise
            address = opened.enter_context(_hosted(words, STARTED_WITHIN))
        yield address


def require_joinable(address: str) -> None:
    """Join a cluster and leave it.

    Raises:
        NotStarted: it can't be joined, or not within `JOINED_WITHIN`.
    """
    with _hosted([address], JOINED_WITHIN):
        pass


@contextlib.contextmanager
def _hosted(words: list[str], seconds: float) -> Iterator[str]:
    """The address of a cluster of which a process is part that lives within the block."""
    with tempfile.TemporaryFile() as said:
        host = subprocess.Popen(
            [sys.executable, "-P", "-m", _HOST, str(seconds), *words],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            start_new_session=True,  # Ctrl-C is for this process, which then ends that one
        )
        assert host.stdin is not None
        assert host.stdout is not None
        started = False
        try:
            address = _address(host.stdout, seconds)
            started = True
            yield address
        except NotStarted:
            if not started and _asks_for_token(said):
                raise NeedsToken("it asks for a token") from None
            raise
        finally:
            with contextlib.suppress(OSError):
                host.stdin.close()
            _end(host, _ENDED_WITHIN if started else 0)
            host.stdout.close()


def _address(answer: IO[bytes], seconds: float) -> str:
    """What the host says, when it says it."""
    line = Call(answer.readline)  # not `select`, which waits for no pipes on Windows
    if not line.is_done(seconds):
        raise NotStarted(f"nothing came of it in {seconds:g} s")
    if not line.result():
        raise NotStarted("a part of it crashed, or hung")
    told: dict[str, str] = json.loads(line.result())
    if "error" in told:
        raise NotStarted(first_line(Exception(told["error"]), 200))
    return told["address"]


def _asks_for_token(said: IO[bytes]) -> bool:
    end = said.seek(0, os.SEEK_END)
    said.seek(max(0, end - _LAST_WORDS))
    return _NO_TOKEN in said.read()


def _end(host: subprocess.Popen[bytes], seconds: float) -> None:
    """Let it end its cluster; where it does not in time, end it: what it has started ends with it."""
    try:
        host.wait(seconds)
    except subprocess.TimeoutExpired:
        pass
    finally:
        if host.poll() is None:
            host.kill()
        host.wait()
