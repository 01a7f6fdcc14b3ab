"""Builds the emulation's libraries and programs, once for all test processes."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent
ROOT = SOURCE.parents[2]
KERNELS = ROOT / "plugins" / "kernels" / "cuda"


def cuda_include() -> Path | None:
    """The CUDA toolkit's include folder, by CUDA_HOME, nvcc on PATH, or /usr/local/cuda."""
    nvcc = shutil.which("nvcc")
    homes = [os.environ.get("CUDA_HOME"), nvcc and str(Path(nvcc).resolve().parents[1]), "/usr/local/cuda"]
    for home in map(Path, filter(None, homes)):
        for include in (home / "include", home / "targets" / "x86_64-linux" / "include"):
            if (include / "cuda_runtime.h").exists() and (include / "cuda_fp16.h").exists():
                return include
    return None


def missing() -> str | None:
    """Why nothing can be built here, in words; None where it can."""
    if cuda_include() is None:
        return "no CUDA headers: install the CUDA toolkit, or set CUDA_HOME to one"
    for tool in ("cmake", "ninja", "g++"):
        if shutil.which(tool) is None:
            return f"no {tool} on PATH"
    return None


@contextmanager
def configured() -> Iterator[Path]:
    """The build folder, ready for CMake and ctest; nobody else is in it until the end."""
    folder = ROOT / "build" / "emulation"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test processes run side by side
        if not (folder / "build.ninja").exists():
            _run("cmake", "-S", SOURCE, "-B", folder, "-G", "Ninja", f"-DCUDA_INCLUDE={cuda_include()}")
        yield folder


@cache
def build(target: str) -> Path:
    """The file that CMake target `target` makes, up to date.

    Raises:
        AssertionError: the build failed; the message is the compiler's.
    """
    with configured() as folder:
        _run("cmake", "--build", folder, "-j", "2", "--target", target)
    made = [folder / name for name in (f"lib{target}.so", f"lib{target}.a", target) if (folder / name).exists()]
    assert len(made) == 1, made
    return made[0]


def build_altered(kernels: Path, source: str, variant: str, folder: Path) -> Path:
    """One .cu file of a changed copy of the kernels' folder (named "cuda"), linked with the rest as it is.

    variant "plain" makes a library for numpy, "tsan" the program run_cases.

    Raises:
        AssertionError: it does not compile.
    """
    archive = build(f"archive_{variant}")
    common = KERNELS.parent
    command: list[str | Path] = ["g++", "-std=c++17", "-O1", "-fPIC", "-DNX_EMU", "-ffp-contract=off", "-w"]
    command += ["-isystem", str(cuda_include()), "-I", SOURCE / "cuda_emu", "-I", kernels.parent, "-I", common]
    command += ["-I", common / "include", "-x", "c++", kernels / source]
    if variant == "tsan":
        command += [SOURCE / "run_cases.cpp", "-fsanitize=thread", "-DNX_EMU_TSAN", "-g1", "-rdynamic"]
    else:
        command += ["-shared", "-Wl,-Bsymbolic", "-Wl,-u,nx_cuda_norm", "-Wl,-u,nx_message", "-Wl,-u,nx_emu_launches"]
    made = folder / f"altered_{variant}"
    _run(*command, "-x", "none", archive, "-ldl", "-o", made)
    return made


def _run(*command: str | Path) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"


def run_sanitized(program: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a sanitized program to its end; its report is in stderr.

    Sanitizers need addresses that a kernel with much address randomisation may give away, so that is switched off
    where this process may. Where a sanitizer can't start for it all the same, the test is skipped.
    """
    command = [*_without_randomisation(), str(program), *map(str, words)]
    environment = os.environ | {
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "TSAN_OPTIONS": "exitcode=66",
    }
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("ThreadSanitizer can't start under this kernel's address randomisation (vm.mmap_rnd_bits)")
    return done


@cache
def _without_randomisation() -> list[str]:
    command = ["setarch", "-R"]
    allowed = shutil.which(command[0]) and subprocess.run([*command, "true"], capture_output=True).returncode == 0
    return command if allowed else []
