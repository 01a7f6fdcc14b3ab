"""A Ray cluster of this machine, which lives in a process of its own and ends with this one.

Ray would start it inside of the process that uses it, in C++ that holds Python's lock: where a part of it crashes on
the way, that process waits and hears no signal. A process of its own can be ended from here, after a time.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import IO

from normexport.text import first_line

#: Seconds. Ray itself gives up on a node after 30; of two busy cores a good start took 25.
STARTED_WITHIN = 120.0
_ENDED_WITHIN = 20.0
_HOST = "normexport.workers.cluster_host"


class NotStarted(Exception):
    """A cluster that did not start, in words."""


@contextlib.contextmanager
def own_cluster(cores: int | None) -> Iterator[str]:
    """The address of a cluster that lives within the block; what fails early is tried once more.

    Args:
        cores: of it; None: those of the machine.

    Raises:
        NotStarted: within one and a half times `STARTED_WITHIN`, or not at all.
    """
    with contextlib.ExitStack() as opened:
        began = time.monotonic()
        try:
            address = opened.enter_context(_hosted(cores))
        except NotStarted:  # of two cores that other work keeps busy, one start in two takes Ray's 30 s
            if time.monotonic() - began > STARTED_WITHIN / 2:
                raise
            address = opened.enter_context(_hosted(cores))
        yield address


@contextlib.contextmanager
def _hosted(cores: int | None) -> Iterator[str]:
    """The address of a cluster whose process lives within the block."""
    words = [sys.executable, "-P", "-m", _HOST, str(STARTED_WITHIN), *([] if cores is None else [str(cores)])]
    host = subprocess.Popen(
        words,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for this process, which then ends that one
    )
    assert host.stdin is not None
    assert host.stdout is not None
    started = False
    try:
        address = _address(host.stdout)
        started = True
        yield address
    finally:
        with contextlib.suppress(OSError):
            host.stdin.close()
        _end(host, _ENDED_WITHIN if started else 0)
        host.stdout.close()


def _address(answer: IO[bytes]) -> str:
    """What the host says, when it says it."""
    lines: list[bytes] = []
    # Not `select`, which waits for no pipes on Windows.
    reading = threading.Thread(target=lambda: lines.append(answer.readline()), daemon=True)
    reading.start()
    reading.join(STARTED_WITHIN)
    if not lines:
        raise NotStarted(f"nothing came of it in {STARTED_WITHIN:g} s")
    if not lines[0]:
        raise NotStarted("a part of it crashed, or hung")
    told: dict[str, str] = json.loads(lines[0])
    if "error" in told:
        raise NotStarted(first_line(Exception(told["error"]), 200))
    return told["address"]


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
