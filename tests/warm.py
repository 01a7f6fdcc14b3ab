"""A process that has imported the packages of others and run nothing, and forks: a run costs its own work only.

In a process of its own a run takes 1.4 to 4 seconds until numpy, onnx and torch are there. `Warm` starts one process. A
first run, in a copy of it, tells what it imported; the process imports that, and every later run is a copy of it again.
Nothing of this repository is imported in the process itself: each copy imports whichever library it is given.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Done:
    """How a run ended.

    Attributes:
        code: its exit code; negative, the signal that ended it.
        out, err: what it wrote.
        taken: the modules of others that it imported, in their order.
        loaded: the files of normexport that it imported, below the library's folder.
    """

    code: int
    out: str
    err: str
    taken: tuple[str, ...] = ()
    loaded: tuple[str, ...] = ()


class Warm:
    """The process, as its parent sees it; it ends with its parent, or when this is closed."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        environment.pop("PYTHONPATH", None)
        program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.warm import serve; serve()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def run(self, target: str, library: Path, argument: str, seconds: float) -> Done:
        """`module:function` of `target`, given `argument`, in a copy that finds normexport in `library`'s folder.

        The function returns the exit code. A copy that takes longer than `seconds` is ended by SIGKILL.
        """
        return Done(**self._ask(run=[target, str(library), argument, seconds]))

    def load(self, modules: Iterable[str]) -> None:
        """Have these imported once and for all, as far as they can be."""
        self._ask(load=list(modules))

    def close(self) -> None:
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()

    def _ask(self, **question: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the process that claims are held in has ended"
        answer: dict[str, Any] = json.loads(line)
        return answer


def serve() -> None:
    """Answer each line of stdin on stdout until it ends; whatever else is written there goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        question = json.loads(line)
        answer = _load(question["load"]) if "load" in question else asdict(_forked(*question["run"]))
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _load(modules: Iterable[str]) -> dict[str, Any]:
    """Import what can be imported; a copy has one thread, so that this process may have no other."""
    for name in modules:
        if name.partition(".")[0] in _START_THREADS:
            continue
        with warnings.catch_warnings(), contextlib.suppress(Exception):  # names that no import has: torch.classes
            warnings.simplefilter("ignore")
            importlib.import_module(name)
    assert _threads() == 1, f"{_threads()} threads: what was imported has started some"
    assert not any(_is_ours(module) for module in list(sys.modules.values()) if module.__name__ not in _OURS)
    gc.freeze()
    return {}


def _threads() -> int:
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.exists() else threading.active_count()


#: Packages that start a thread when they are imported: each copy imports them itself, in a tenth of a second.
_START_THREADS = ("onnxruntime",)
#: What of this repository the process itself needs.
_OURS = ("tests", "tests.warm")


def _is_ours(module: ModuleType) -> bool:
    """Whether it stands in the repository, packages of an environment that stands there apart."""
    file = getattr(module, "__file__", None) or ""
    return module.__name__.partition(".")[0] in ("normexport", "tests") or (
        Path(file).is_relative_to(ROOT) and "site-packages" not in file
    )


def _forked(target: str, library: str, argument: str, seconds: float) -> Done:
    """Run it in a copy of this process, which ends within `seconds`, with all that it started."""
    with tempfile.TemporaryDirectory() as folder:
        child = os.fork()
        if child == 0:
            _answer(target, Path(library), argument, Path(folder))
        try:
            _wait(child, seconds)
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child, signal.SIGKILL)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        texts = {path.name: path.read_text(errors="replace") for path in Path(folder).iterdir()}
    taken, loaded = (tuple(texts.get(name, "").split()) for name in ("taken", "loaded"))
    return Done(code, texts.get("out", ""), texts.get("err", ""), taken, loaded)


def _wait(child: int, seconds: float) -> None:
    """Until the copy has ended or the time is over."""
    handle = os.pidfd_open(child)
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        poll.poll(seconds * 1000)
    finally:
        os.close(handle)


def _answer(target: str, library: Path, argument: str, folder: Path) -> NoReturn:
    """The whole life of a copy."""
    code = 70
    try:
        faulthandler.disable()
        os.setsid()
        os.chdir(library.parent)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT), number)
        code = _function(target, library)(argument)
        _tell_what_was_imported(library, folder)
    except BaseException:  # whatever ends it is told by its code and its words
        traceback.print_exc()
    with contextlib.suppress(BaseException):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _tell_what_was_imported(library: Path, folder: Path) -> None:
    """Into files `taken` and `loaded` of a folder."""
    modules = {name: module for name, module in list(sys.modules.items()) if name != "__main__"}
    taken = [name for name, module in modules.items() if not _is_ours(module)]
    files = [Path(getattr(module, "__file__", None) or "") for module in modules.values()]
    loaded = [str(file.relative_to(library)) for file in files if file.is_relative_to(library)]
    for name, words in (("taken", taken), ("loaded", loaded)):
        (folder / name).write_text("\n".join(words))


def _function(target: str, library: Path) -> Callable[[str], int]:
    """The function that is named, once normexport is the one in `library`."""
    sys.path[:0] = [str(library.parent), str(ROOT)]
    # An editable install finds the checkout by a hook, which would come before the path.
    sys.meta_path[:] = [each for each in sys.meta_path if not type(each).__name__.startswith("ScikitBuild")]
    import normexport

    assert (normexport.__file__ or "").startswith(str(library)), normexport.__file__
    module, _, name = target.partition(":")
    function: Callable[[str], int] = getattr(importlib.import_module(module), name)
    return function
