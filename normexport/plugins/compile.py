"""Build the native libraries with CMake, from the sources of a checkout."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from normexport.errors import MissingComponent, UsageError
from normexport.plugins import locate
from normexport.plugins.private import private

OnStage = Callable[[str], None]

#: A step of ninja's ("[3/12]") or make's ("[ 25%]").
_STEP = re.compile(r"^\[\s*\d+(/\d+|%)\]")
_ERROR = re.compile(r"error:|undefined reference|ptxas fatal", re.IGNORECASE)
_CUDA_ARCHITECTURE = re.compile(r"(?P<number>\d{2,3})[af]?(-real|-virtual)?")


@dataclass(frozen=True)
class BuildConfig:
    """What to build.

    Attributes:
        cuda: the CUDA kernels too; None: as in the last build, at first without. They take minutes to compile and
            serve machines with a GPU alone, so finding nvcc is no reason to build them.
        tensorrt: the plugin library of TensorRT, which needs the CUDA kernels; None: as in the last build.
        architectures: CUDA architectures, "86"; empty: those of plugins/kernels/cuda/architectures.py.
        onnxruntime: the custom-op library of ONNX Runtime.
        jobs: compilers at a time, None: one per core.
        folder: where to build, None: `locate.build_folder()`, where the libraries are looked for.
    """

    cuda: bool | None = None
    tensorrt: bool | None = None
    architectures: Sequence[str] = ()
    onnxruntime: bool = True
    jobs: int | None = None
    folder: Path | None = None

    @property
    def needs_cuda(self) -> bool | None:
        """`cuda`, or what `tensorrt` makes of it."""
        return True if self.tensorrt else self.cuda


@dataclass(frozen=True)
class Built:
    """The libraries there now, the seconds it took, and the log of the tools."""

    libraries: tuple[Path, ...]
    seconds: float
    log: Path


def build(config: BuildConfig = BuildConfig(), on_stage: OnStage = lambda stage: None) -> Built:
    """Configure and build; what is up to date is left alone.

    Raises:
        MissingComponent: the sources, a tool or headers are missing, or the tools report an error.
        UsageError: an architecture is no architecture, `jobs` is below 1, or others can write the build folder.
    """
    start = time.perf_counter()
    _check(config)
    source = _sources()
    generator = _generator()
    folder = config.folder or locate.build_folder()
    folder.mkdir(parents=True, exist_ok=True)
    private(folder)  # what lies in it steers the compilers, and what comes out of it is loaded
    with _hold_build_lock(folder, on_stage):
        on_stage("headers")
        settings = [f"-D{name}={value}" for name, value in _settings(source, config).items()]
        log = folder / "build.log"
        log.write_text("")
        _forget_other_generator(folder, generator)
        on_stage("configure")
        # What CMake found last time may be gone: it searches again.
        anew = ["-UNORMEXPORT_HIGHWAY", "-UNORMEXPORT_ONNXRUNTIME_INCLUDE"]
        _run(["cmake", "-S", str(source), "-B", str(folder), "-G", generator, *anew, *settings], log, on_stage)
        jobs = config.jobs or os.cpu_count() or 1
        _run(["cmake", "--build", str(folder), "--parallel", str(jobs)], log, on_stage)
    return Built(tuple(sorted((folder / "lib").glob("*.so"))), time.perf_counter() - start, log)


def _check(config: BuildConfig) -> None:
    if sys.platform in ("darwin", "win32"):
        raise UsageError("the native libraries", "are for Linux", "do without: the bodies in a file serve everywhere")
    for name in config.architectures:
        if not _CUDA_ARCHITECTURE.fullmatch(name):
            raise UsageError("--arch", f"{name!r} is no CUDA architecture", "write 86, 90 or 120")
    if config.tensorrt and config.cuda is False:
        raise UsageError("--tensorrt", "can't go with --no-cuda: its plugins are CUDA kernels", "drop one of them")
    if config.architectures and not config.needs_cuda:
        raise UsageError("--arch", "has no CUDA kernels to go to", "add --cuda")
    _check_known(config.architectures)
    if config.jobs is not None and config.jobs < 1:
        raise UsageError("-j", f"{config.jobs} compilers can't build anything", "give 1 or more")


def _check_known(architectures: Sequence[str]) -> None:
    """Refuse an architecture that the compiler here does not know, where it says what it knows."""
    nvcc = cuda_compiler() if architectures else None
    known = known_architectures(nvcc) if nvcc is not None else ()
    for name in architectures if known else ():
        match = _CUDA_ARCHITECTURE.fullmatch(name)
        if match is not None and int(match["number"]) not in known:
            choice = f"choose among {', '.join(map(str, known))}, or install another CUDA toolkit"
            raise UsageError("--arch", f"{name} is not known to {nvcc}", choice)


def known_architectures(nvcc: str) -> tuple[int, ...]:
    """The GPU architectures that a CUDA compiler makes code for, (75, 80, ...); empty where it lists none."""
    try:
        done = subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True, errors="replace")
    except OSError:
        return ()
    return tuple(sorted({int(number) for number in re.findall(r"compute_(\d+)\b", done.stdout)}))


def _sources() -> Path:
    source = locate.sources()
    if source is None:
        cause = "are not part of the installed package"
        raise MissingComponent(
            "the sources of the plugins", cause, "build in a checkout of normexport: pip install -e ."
        )
    return source


def _generator() -> str:
    """ "Ninja", or "Unix Makefiles" where only make is there."""
    _require_tool("cmake", "CMake", "install cmake 3.24 or later (apt install cmake, or pip install cmake)")
    compilers = [name for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++") if name]
    if not any(shutil.which(name.split()[0]) for name in compilers):
        raise MissingComponent("a C++ compiler", "is not on PATH", "install one (apt install g++), or set CXX")
    if shutil.which("ninja"):
        return "Ninja"
    _require_tool("make", "ninja", "install it (apt install ninja-build, or pip install ninja)")
    return "Unix Makefiles"


def _require_tool(name: str, words: str, remedy: str) -> None:
    if not shutil.which(name):
        raise MissingComponent(words, "is not on PATH", remedy)


def cuda_compiler() -> str | None:
    """nvcc: CUDACXX, on PATH, or where the toolkit installs it."""
    homes = [os.environ.get("CUDA_HOME", ""), os.environ.get("CUDA_PATH", ""), "/usr/local/cuda"]
    asked = os.environ.get("CUDACXX")
    places = [asked, "nvcc", *(f"{home}/bin/nvcc" for home in homes if home)]
    return next((found for place in places if place and (found := shutil.which(place))), None)


def _headers(source: Path, *names: str) -> list[str]:
    """The include folders that plugins/headers.py prints; a script, so that it also serves who runs CMake alone."""
    command = [sys.executable, str(source / "headers.py"), str(locate.header_folder()), *names]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        cause, _, remedy = (done.stderr.strip().splitlines() or ["failed"])[-1].removeprefix("error: ").partition("; ")
        raise MissingComponent("headers", cause, remedy)
    return done.stdout.splitlines()


def _settings(source: Path, config: BuildConfig) -> dict[str, str]:
    """CMake's variables. What is None in `config` is left out: CMake remembers it."""
    needed = ("highway", "onnxruntime") if config.onnxruntime else ("highway",)
    settings = {
        "NORMEXPORT_HEADERS": ";".join(_headers(source, *needed)),
        "NORMEXPORT_ONNXRUNTIME": _switch(config.onnxruntime),
    }
    if config.needs_cuda is not None:
        settings["NORMEXPORT_CUDA"] = _switch(config.needs_cuda)
    if config.needs_cuda:
        nvcc = cuda_compiler()
        if nvcc is None:
            raise MissingComponent("nvcc", "is not on PATH", "install the CUDA toolkit, or set CUDACXX, or drop --cuda")
        settings["CMAKE_CUDA_COMPILER"] = nvcc
    if config.tensorrt is not None or config.cuda is False:
        settings["NORMEXPORT_TENSORRT"] = _switch(bool(config.tensorrt))
    if config.tensorrt:
        (include,) = _headers(source, "tensorrt")
        settings["NORMEXPORT_TENSORRT_INCLUDE"] = include
    if config.architectures:
        settings["CMAKE_CUDA_ARCHITECTURES"] = ";".join(config.architectures)
    return settings


def _switch(on: bool) -> str:
    return "ON" if on else "OFF"


def _forget_other_generator(folder: Path, generator: str) -> None:
    """CMake refuses a folder that another generator has configured: forget that configuration, keep the headers."""
    cache = folder / "CMakeCache.txt"
    if cache.is_file() and f"CMAKE_GENERATOR:INTERNAL={generator}\n" not in cache.read_text():
        cache.unlink()
        shutil.rmtree(folder / "CMakeFiles", ignore_errors=True)


def _run(command: list[str], log: Path, on_stage: OnStage) -> None:
    """Run a tool, its output into the log, its steps to `on_stage`.

    Raises:
        MissingComponent: it failed; the message holds the first line that looks like the reason.
    """
    with log.open("a") as file:
        file.write(f"$ {' '.join(command)}\n")
        # A group of its own, so that the compilers end with the tool that started them.
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        lines = []
        with process, _ended_early(process):
            for line in process.stdout or ():
                file.write(line)
                lines.append(line.strip())
                step = _STEP.match(line)
                if step:
                    on_stage(step.group())
    if process.returncode:
        raise MissingComponent("the plugins", f"could not be built ({_reason(lines)[:300]})", f"see {log}")


@contextlib.contextmanager
def _ended_early(process: subprocess.Popen[str]) -> Iterator[None]:
    """End a tool and all that it has started where the block is left by an exception: Ctrl-C, or `kill`."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        raise


def _reason(lines: Sequence[str]) -> str:
    """The first error among what the tools said. CMake says where first, and what in the lines below."""
    for index, line in enumerate(lines):
        if line.startswith("CMake Error"):
            return " ".join([line, *(each for each in lines[index + 1 : index + 5] if each)])
        if _ERROR.search(line):
            return line
    return lines[-1] if lines else "no message"


@contextlib.contextmanager
def _hold_build_lock(folder: Path, on_stage: OnStage) -> Iterator[None]:
    """One build in a folder at a time: two would write the same files."""
    import fcntl  # not there on Windows, where `_check` ends a build before

    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_stage("waiting for another build")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
