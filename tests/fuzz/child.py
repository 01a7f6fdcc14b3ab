"""One command in a forked child: limited in time and memory; its streams, its end and audit events are recorded."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType
from typing import Any

from tests.fuzz import hostile

#: Runs in the child, in the folder of the case; returns the exit code.
Command = Callable[[], int]

_POLL = 0.02  # seconds between two looks at the child's memory: at 2 GB/s it is 40 MB further then
_CRASHED = 99  # exit code of a command that let out an exception
_STREAMS = ((1, "strict"), (2, "backslashreplace"))  # as Python opens them
_PAGE = resource.getpagesize()


@dataclass(frozen=True)
class Limits:
    """Seconds, and bytes of resident memory beyond what the child had inherited."""

    seconds: float
    memory: int


@dataclass(frozen=True)
class Observation:
    """What one command did.

    Attributes:
        exit_code: None where a signal ended it.
        signal: the signal that ended it, None where it left by itself.
        seconds: wall time.
        memory: peak resident memory of the child (`ru_maxrss` of wait4) above its own at the start, just after the
            fork. Pages of libraries that it is the first to touch count too: some 200 MB in an honest conversion.
        stopped: "time" or "memory" where it was killed for going over its limits.
        events: what the audit hook saw: hostile text compiled, a forbidden global looked up, a secret opened.
    """

    exit_code: int | None
    signal: int | None
    seconds: float
    memory: int
    stopped: str
    stdout: bytes
    stderr: bytes
    events: tuple[str, ...] = field(default=())


def observe(command: Command, folder: Path, streams: Path, limits: Limits) -> Observation:
    """Run `command` in a child whose working folder is `folder`; its streams go to files in `streams`."""
    sys.stdout.flush()
    sys.stderr.flush()
    started = time.monotonic()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, str(_resident(os.getpid())).encode())
        _run(command, folder, streams)
    inherited = int(os.read(reading, 20))
    os.close(reading)
    os.close(writing)
    stopped = ""
    try:
        stopped = _watch(child, started, inherited, limits)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if stopped or sys.exc_info()[0] is not None:
                os.kill(child, signal.SIGKILL)
        _, status, usage = os.wait4(child, 0)
        with contextlib.suppress(ProcessLookupError, PermissionError):  # whatever it started and left running
            os.killpg(child, signal.SIGKILL)
    exited = os.WIFEXITED(status)
    return Observation(
        exit_code=os.WEXITSTATUS(status) if exited else None,
        signal=None if exited else os.WTERMSIG(status),
        seconds=time.monotonic() - started,
        memory=max(usage.ru_maxrss * 1024 - inherited, 0),
        stopped=stopped,
        stdout=(streams / "stdout").read_bytes()[: 2**22],
        stderr=(streams / "stderr").read_bytes()[: 2**22],
        events=tuple(sorted(set(_lines(streams / "events")))),
    )


def _lines(path: Path) -> list[str]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _watch(child: int, started: float, inherited: int, limits: Limits) -> str:
    """Wait for the child; the word for the limit that it went over, or nothing."""
    handle = os.pidfd_open(child)
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        while not poll.poll(_POLL * 1000):
            if time.monotonic() - started > limits.seconds:
                return "time"
            if _resident(child) - inherited > limits.memory or _of_children(child) > limits.memory:
                return "memory"
    finally:
        os.close(handle)
    return ""


def _resident(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):  # gone
        return 0


def _of_children(process: int) -> int:
    """The largest of the processes that the child started."""
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return 0
    return max((_resident(int(each)) for each in children), default=0)


def _run(command: Command, folder: Path, streams: Path) -> None:
    """The child's whole life."""
    code = _CRASHED
    try:
        faulthandler.disable()  # which pytest enables
        os.setsid()
        os.chdir(folder)
        for number, name in ((1, "stdout"), (2, "stderr")):
            file = os.open(streams / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, number)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", errors=errors) for number, errors in _STREAMS)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**32, 2**32))
        _listen(os.open(streams / "events", os.O_WRONLY | os.O_CREAT | os.O_APPEND))
        code = command()
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else _CRASHED
    except BaseException:  # a crash is what is looked for
        traceback.print_exc()
    with contextlib.suppress(BaseException):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


_FORBIDDEN = ("os", "posix", "subprocess", "builtins", "__builtin__", hostile.MODULE)


def _listen(file: int) -> None:
    """Have Python tell of what comes near to running code of the file, though no marker was made."""

    def hear(event: str, args: tuple[Any, ...]) -> None:
        if event == "exec":
            code = args[0]
            if isinstance(code, CodeType) and not code.co_filename.startswith("/") and (text := _mention(code)):
                tell(f"hostile text was compiled: {text[:80]!r}")
        elif (
            event == "pickle.find_class"
            and args[0] in _FORBIDDEN
            and args[1] in ("mkdir", "system", "eval", "exec", "f")
        ):
            tell(f"the global {args[0]}.{args[1]} was looked up")
        elif event in ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "ctypes.dlopen"):
            if hostile.MARKER in repr(args):
                tell(f"{event} with text of the file")
        elif event == "import" and args[0] == hostile.MODULE:
            tell("a module named by the file was imported")
        elif event == "open" and isinstance(args[0], (str, bytes)) and _is_secret(os.fsdecode(args[0])):
            tell("a file outside the folder was opened")

    def tell(words: str) -> None:
        os.write(file, json.dumps(words).encode() + b"\n")

    sys.addaudithook(hear)


def _mention(code: CodeType) -> str:
    """A constant or name of this code that holds the marker; empty where none does."""
    for part in (*code.co_consts, *code.co_names, *code.co_varnames):
        text = _mention(part) if isinstance(part, CodeType) else part
        if isinstance(text, str) and hostile.MARKER in text:
            return text
    return ""


def _is_secret(path: str) -> bool:
    return path.endswith(("secret.bin", "/etc/passwd", "/proc/self/environ"))
