"""Compiles the CUDA kernels once for all tests: machine code, its disassembly and PTX, kept under build/cuda."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
KERNELS = ROOT / "plugins" / "kernels"
SOURCES = {
    "float32": "float/float32.cu",
    "float16": "float/float16.cu",
    "bfloat16": "float/bfloat16.cu",
    "int8": "int8/int8.cu",
}
ARCHITECTURES = ("80", "90")


def nvcc() -> str | None:
    """The CUDA compiler: of CUDA_HOME, of the PATH, or where the toolkit usually is."""
    homes = [Path(home) for name in ("CUDA_HOME", "CUDA_PATH") if (home := os.environ.get(name))]
    for toolkit in [*homes, Path("/usr/local/cuda")]:
        if (toolkit / "bin" / "nvcc").is_file():
            return str(toolkit / "bin" / "nvcc")
    return shutil.which("nvcc")


def nvdisasm() -> str | None:
    """The disassembler: of the PATH, of the toolkit, or of the package nvidia-cuda-nvdisasm."""
    beside = Path(nvcc() or "").parent / "nvdisasm"
    packaged = [path for entry in sys.path for path in Path(entry).glob("nvidia/cu*/bin/nvdisasm")]
    return shutil.which("nvdisasm") or next((str(path) for path in [beside, *packaged] if path.is_file()), None)


def missing() -> str | None:
    """Why nothing can be compiled here, in words; None where it can."""
    return None if nvcc() else "nvcc is not on this machine: install the CUDA toolkit, or set CUDA_HOME"


@cache
def cubins() -> dict[tuple[str, str], Path]:
    """(type, architecture) -> machine code. Two compilers at a time; nothing is compiled again while no source changed.

    Raises:
        AssertionError: nvcc refused a source; the message is nvcc's.
    """
    wanted = [(kind, arch) for kind in SOURCES for arch in ARCHITECTURES]
    with _folder() as folder, ThreadPoolExecutor(2) as pool:
        made = pool.map(lambda w: _made(folder, *w, "cubin", "-Xptxas=-v"), wanted)
        return dict(zip(wanted, made, strict=True))


@cache
def ptx(kind: str) -> str:
    """PTX of a type's kernels for sm_90."""
    with _folder() as folder:
        return _made(folder, kind, "90", "ptx").read_text()


@cache
def usage() -> list[dict[str, Any]]:
    """Registers, stack and spills of every kernel on every architecture; see registers.py."""
    return [
        record
        for path in sorted(cubins().values())
        for record in json.loads((path.parent / "registers" / f"{path.name}.json").read_text())
    ]


@cache
def usage_of(kind: str, arch: str) -> list[dict[str, Any]]:
    """As `usage`, of one type's kernels on an architecture that is not among those."""
    with _folder() as folder:
        target = _made(folder, kind, arch, "cubin", "-Xptxas=-v", records="more")
        found: list[dict[str, Any]] = json.loads((folder / "more" / f"{target.name}.json").read_text())
    return found


@cache
def known() -> frozenset[int]:
    """Architectures that the compiler lists."""
    listed = subprocess.run([str(nvcc()), "--list-gpu-arch"], capture_output=True, text=True, check=True).stdout
    return frozenset(int(line.rpartition("_")[2]) for line in listed.split())


@cache
def code(kind: str, arch: str) -> dict[str, list[str]]:
    """Machine instructions of every kernel, by its readable name: one line each, predicates and operands included."""
    tool = nvdisasm()
    assert tool
    text = subprocess.run([tool, "-c", str(cubins()[kind, arch])], capture_output=True, text=True, check=True).stdout
    kernels: dict[str, list[str]] = {}
    for section in text.split("\n.text.")[1:]:
        name, _, body = section.partition(":")
        kernels[_registers_tool().readable(name)] = [
            line.split("*/", 1)[1].strip() for line in body.splitlines() if line.strip().startswith("/*")
        ]
    return kernels


@cache
def _registers_tool() -> Any:
    sys.path.insert(0, str(KERNELS / "cuda"))
    try:
        import registers  # type: ignore[import-not-found]  # a script beside the kernels
    finally:
        sys.path.pop(0)
    return registers


def table() -> subprocess.CompletedProcess[str]:
    """What the build prints at its end, from the kernels as compiled."""
    folder = next(iter(cubins().values())).parent / "registers"
    command = [sys.executable, str(KERNELS / "cuda" / "registers.py"), "table", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _made(folder: Path, kind: str, arch: str, form: str, *options: str, records: str = "registers") -> Path:
    target = folder / f"{kind}.sm_{arch}.{form}"
    if not target.exists():
        launcher = [sys.executable, str(KERNELS / "cuda" / "registers.py"), "compile", str(folder / records)]
        paths = [f"-I{KERNELS}", f"-I{KERNELS / 'include'}"]
        source = str(KERNELS / "cuda" / SOURCES[kind])
        what = [f"-{form}", f"-arch=sm_{arch}", "-std=c++17", "-O3", "-Werror=all-warnings", *options]
        command = [*launcher, str(nvcc()), *what, *paths, source, "-o", str(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            target.unlink(missing_ok=True)
        assert done.returncode == 0, done.stderr
    return target


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder of its own for these very sources; other test processes wait."""
    digest = hashlib.sha256(str(nvcc()).encode())
    for path in sorted([*KERNELS.glob("cuda/**/*"), *KERNELS.glob("include/**/*.h"), *KERNELS.glob("common/*")]):
        if path.is_file():
            digest.update(path.name.encode() + path.read_bytes())
    base = ROOT / "build" / "cuda"
    folder = base / digest.hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    with (base / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for old in base.iterdir():
            if old.is_dir() and old != folder:
                shutil.rmtree(old)
        yield folder
