"""The caller's end of the child process: start it, ask it, and turn whatever becomes of it into words."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from normexport.engine.config import OnStage
from normexport.engine.flavor import Flavor, cant_be_loaded, runtime_library
from normexport.errors import EngineError, MissingComponent, UsageError
from normexport.io.atomic import scratch_folder
from normexport.io.interrupts import hold_back_signals

#: How TensorRT's own logger writes: "[11/25/2026-22:21:53] [TRT] [E] text", text over several lines perhaps.
_LOGGED = re.compile(r"^\[[^\]]*\] \[TRT\] \[(?P<severity>[A-Z])\] (?P<text>.*)")
#: Bodies are inlined with the names of their inner nodes, and copy sizes by Reshape's 0.
_OF_BODIES = ("already exists, the output tensors of this new instance", "zeroIsPlaceHolder=true")
_WORKER = Path(__file__).with_name("worker.py")

#: What the vendor says of a machine without an NVIDIA driver or GPU: beside every error of the parser and of the
#: registry, and as the only word where a build needs one.
_NO_DRIVER = ("cudaError 35", "cudaError 100", "no CUDA-capable device", "driver version is insufficient")
_NO_GPU = (*_NO_DRIVER, "CHECK(status == CUDA_SUCCESS)")

#: A builder copies the weights several times. Where large blocks come from the heap as well, copies use memory that is
#: mapped already: a ResNet-50 is built in 0.51 s instead of 0.57, and takes 610 MB at its peak instead of 520. Other
#: libraries than glibc do not know the variable.
_MEMORY = {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=4294967296"}


class BuilderProcess:
    """A context manager around one builder process.

    The process starts as this object is made, and loads the vendor's library at once, while the caller prepares its
    model; or while the caller finds out what to build at all: what depends on that comes with `hello`.
    """

    def __init__(self, flavor: Flavor) -> None:
        self.flavor = flavor
        self._libraries: list[str] = []
        self._timed_out, self._timeout = False, 0.0
        self._timer: threading.Timer | None = None
        self._folder = scratch_folder()
        self._log = self._folder.path / "log"
        reading, writing = os.pipe()
        command = [sys.executable, str(_WORKER), str(writing), flavor.module]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, pass_fds=(writing,), env=self._environment()
            )
        os.close(writing)
        self._messages = os.fdopen(reading)

    def __enter__(self) -> BuilderProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with hold_back_signals():  # a second signal must not leave the process behind
            self._end()

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._messages.close()
        with suppress(OSError):  # a pipe that nobody reads any more
            if self._process.stdin is not None:
                self._process.stdin.close()
        self._folder.remove()

    def hello(self, libraries: Sequence[Path] = (), timeout: float | None = None) -> dict[str, Any]:
        """Version and plugin creators, once the vendor's and the plugins' libraries are loaded.

        Args:
            timeout: seconds from now after which all that is asked of this child is given up; None: never.

        Raises:
            EngineError: a library can't be loaded.
        """
        self._stage = "load"
        self._libraries = [str(path.resolve()) for path in libraries]
        if timeout is not None:
            self._timeout, self._timer = timeout, threading.Timer(timeout, self._give_up)
            self._timer.start()
        self._send({"libraries": self._libraries})
        hello: dict[str, Any] = self._answer("hello")
        return hello

    def parse(self, onnx: Path) -> dict[str, Any]:
        """Inputs, outputs and layers of the network that the file becomes.

        Raises:
            EngineError: the vendor refused or died.
        """
        self._stage = "parse"
        self._send({"onnx": str(onnx)})
        parsed: dict[str, Any] = self._answer("parsed")
        return parsed

    def start(self, request: dict[str, Any]) -> None:
        """Let it build; `finish` waits for the end."""
        self._stage = "build"
        self._send(request)

    def finish(self, on_stage: OnStage) -> str:
        """The SHA-256 of the plan, once it is written.

        Raises:
            EngineError: the vendor refused, died, or took too long.
            MissingComponent: it needs a GPU, and there is none.
        """
        digest: str = self._answer("done", on_stage)
        self._process.kill()  # to free all by itself takes it 50 ms
        return digest

    def log(self) -> str:
        """All that the vendor has said so far."""
        return self._log.read_text(errors="replace")

    def warnings(self) -> tuple[str, ...]:
        """What the vendor warned of, each once, without what it says of every function body."""
        found = (one_line(text) for severity, text in _entries(self.log()) if severity == "W")
        return tuple(dict.fromkeys(text for text in found if not any(words in text for words in _OF_BODIES)))

    def _send(self, request: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it died; what is read next says how
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()

    def _answer(self, wanted: str, on_stage: OnStage = lambda stage: None) -> Any:
        for line in self._messages:
            message = json.loads(line)
            if wanted in message:
                return message[wanted]
            if "failed" in message:
                raise self._failure(**message["failed"])
            self._stage = message["stage"]
            on_stage(self._stage)
        raise self._death()

    def _failure(self, stage: str, cause: str, node: str) -> EngineError | MissingComponent | UsageError:
        if stage == "write":
            return UsageError(node, cause, "free some space, or choose another output with -o")
        if stage == "import":
            return cant_be_loaded(self.flavor, one_line(cause))
        errors = [text for severity, text in _entries(self.log()) if severity == "E"]
        telling = [text for text in errors if not any(words in text for words in _NO_DRIVER)]
        cause = cause or ((telling or errors)[-1:] or ["it gives no reason"])[0]
        if stage == "builder":
            remedy = "build on a machine with an NVIDIA GPU and its driver, or with --flavor rtx, which needs neither"
            return MissingComponent(self.flavor.title, f"makes no builder here ({one_line(cause)})", remedy)
        if stage in ("target", "build", "config") and any(words in cause for words in _NO_GPU):
            remedy = "build on a machine that has one"
            if self.flavor.targets:
                remedy += ", or name other targets than current and leave --refit out"
            return MissingComponent(self.flavor.title, "needs an NVIDIA GPU and its driver for this", remedy)
        places = {"plugins": ", ".join(self._libraries), "parse": node and f"node {node}"}
        remedies = {
            "plugins": "see what is wrong: normexport plugins doctor FILE",
            "parse": "see what the operator needs in the log (--log FILE)",
            "build": "see the log (--log FILE)",
            "open": "name the GPUs that it is to run on (--target), or see the log (--log FILE)",
        }
        verbs = {
            "plugins": "can't load it: ",
            "parse": "can't parse it: ",
            "build": "can't build it: ",
            "open": "built it, and can't open it on this GPU: ",
        }
        place = places.get(stage) or self.flavor.title
        subject = "" if place == self.flavor.title else f"{self.flavor.title} "
        return EngineError(place, subject + verbs.get(stage, "refuses it: ") + one_line(cause), remedies.get(stage, ""))

    def _death(self) -> EngineError:
        code = self._process.wait()
        if self._timed_out:
            cause = f"was given up after {self._timeout:g} s (while it was at: {self._stage})"
            return EngineError(self.flavor.title, cause, "give it more time with --timeout")
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        said = self.log().strip().splitlines()
        last = f"; its last words: {one_line(said[-1])}" if said else ""
        return EngineError(self.flavor.title, f"{how} (while it was at: {self._stage}){last}", "no plan was written")

    def _give_up(self) -> None:
        self._timed_out = True
        self._process.kill()

    def _environment(self) -> dict[str, str]:
        """Ours, where the parser finds the runtime library under the name it opens once a plugin is created.

        The RTX wheel has only libtensorrt_rtx.so.1; the parser opens libtensorrt_rtx.so, and aborts without it.
        """
        ours = {**_MEMORY, **os.environ}
        library = runtime_library(self.flavor)
        if library is None:
            return ours
        Path(self._folder.path, self.flavor.link).symlink_to(library)
        # An empty entry is the working folder: libraries in it would be loaded.
        paths = [str(self._folder.path), *os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)]
        return {**ours, "LD_LIBRARY_PATH": os.pathsep.join(path for path in paths if path)}


def _entries(log: str) -> Iterator[tuple[str, str]]:
    """(severity, text) of every entry of TensorRT's logger."""
    severity, text = "", ""
    for line in log.splitlines():
        match = _LOGGED.match(line)
        if match is None:
            text += f" {line}"
            continue
        yield severity, text
        severity, text = match["severity"], match["text"]
    yield severity, text


def one_line(text: str, most: int = 300) -> str:
    """The vendor's words on one line, the useful end of long ones: causes come last."""
    words = " ".join(text.split())
    return words if len(words) <= most else "..." + words[-most:]
