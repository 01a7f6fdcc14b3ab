"""Builds the CUDA kernels with nvcc alone: a machine with a GPU often has neither CMake nor a network."""

from __future__ import annotations

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
KERNELS = HERE.parents[1] / "plugins" / "kernels"


def nvcc() -> str | None:
    """The CUDA compiler: of CUDA_HOME, of the PATH, or where NVIDIA's packages put it."""
    homes = [Path(home) for name in ("CUDA_HOME", "CUDA_PATH") if (home := os.environ.get(name))]
    for home in [*homes, Path("/usr/local/cuda")]:
        if (home / "bin" / "nvcc").is_file():
            return str(home / "bin" / "nvcc")
    return shutil.which("nvcc")


def build(folder: Path, architecture: str, jobs: int | None = None) -> dict[str, Path]:
    """Builds in `folder` for one `architecture` ("90"); sources are compiled side by side.

    Returns:
        "cuda": libnormexport_cuda.so, the product; "harness": the same with the calls that the checks make;
        "run_cases": the program for the sanitizer.

    Raises:
        RuntimeError: there is no nvcc, or it refused; its words are in the message.
    """
    compiler = nvcc()
    if compiler is None:
        raise RuntimeError("nvcc is not on this machine: install the CUDA toolkit, or set CUDA_HOME")
    folder.mkdir(parents=True, exist_ok=True)
    target = f"-gencode=arch=compute_{architecture},code=sm_{architecture}"
    options = [target, "-O3", "-std=c++17", "-lineinfo", "-Xcompiler=-fPIC,-fvisibility=hidden"]
    options += [f"-I{KERNELS}", f"-I{KERNELS / 'include'}", f"-I{KERNELS / 'cuda'}"]
    kernels = [*sorted((KERNELS / "cuda").rglob("*.cu")), KERNELS / "common" / "norm.cpp"]
    harness, program = HERE / "device_harness.cu", HERE.parent / "emulation" / "run_cases.cpp"

    def compiled(source: Path) -> Path:
        made = folder / (source.name + ".o")
        _run([compiler, *options, "-c", str(source), "-o", str(made)])
        return made

    def linked(name: str, objects: list[Path], *how: str) -> Path:
        _run([compiler, target, "-cudart=static", *how, *map(str, objects), "-o", str(folder / name)])
        return folder / name

    with ThreadPoolExecutor(jobs or os.cpu_count()) as pool:
        *own, of_harness, of_program = pool.map(compiled, [*kernels, harness, program])
    return {
        "cuda": linked("libnormexport_cuda.so", own, "-shared"),
        "harness": linked("libnormexport_on_device.so", [*own, of_harness], "-shared"),
        "run_cases": linked("run_cases", [*own, of_harness, of_program]),
    }


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr[-4000:]}")
