"""Builds the CUDA kernels with nvcc alone: a machine with a GPU often has neither CMake nor a network.

PYTHONPATH=. python tests/plugins/cuda_gpu/gpu_build.py --architecture 90

does it ahead, wherever nvcc is; `gpu_check.py --built` then takes the result.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.engine.tensorrt_headers import tensorrt_headers

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
KERNELS, PLUGIN = ROOT / "plugins" / "kernels", ROOT / "plugins" / "tensorrt"
HOST = HERE.parents[1] / "engine" / "host"
FOLDER = ROOT / "build" / "gpu"

#: "cuda" is the product; "harness" the same with the calls that the checks make; "run_cases" the program for the
#: sanitizer; "plugin" the TensorRT plugin on these kernels; "plugin_host" the program that uses it without TensorRT.
FILES = {
    "cuda": "libnormexport_cuda.so",
    "harness": "libnormexport_on_device.so",
    "run_cases": "run_cases",
    "plugin": "libnormexport_tensorrt.so",
    "plugin_host": "plugin_host",
}


def nvcc() -> str | None:
    """The CUDA compiler: of CUDA_HOME, of the PATH, or where NVIDIA's packages put it."""
    named = [value for name in ("CUDA_HOME", "CUDA_PATH") if (value := os.environ.get(name))]
    for home in map(Path, [*named, "/usr/local/cuda"]):
        if (home / "bin" / "nvcc").is_file():
            return str(home / "bin" / "nvcc")
    return shutil.which("nvcc")


def found(folder: Path) -> dict[str, Path]:
    """Those of FILES that lie in `folder`."""
    return {name: folder / file for name, file in FILES.items() if (folder / file).is_file()}


def build(folder: Path, architecture: str, headers: Path | None = None, jobs: int | None = None) -> dict[str, Path]:
    """Builds FILES in `folder` for one `architecture` ("90"), the plugin's where there are `headers` of TensorRT.

    Raises:
        RuntimeError: there is no nvcc, or it refused; its words are in the message.
    """
    compiler = nvcc()
    if compiler is None:
        raise RuntimeError("nvcc is not on this machine: install the CUDA toolkit, or set CUDA_HOME")
    folder.mkdir(parents=True, exist_ok=True)
    target = f"-gencode=arch=compute_{architecture},code=sm_{architecture}"
    options = [target, "-O3", "-std=c++17", "-Xcompiler=-fPIC,-fvisibility=hidden"]
    options += [f"-I{KERNELS}", f"-I{KERNELS / 'include'}"]
    options += [] if headers is None else ["-isystem", str(headers), "-DON_DEVICE"]

    def compiled(source: Path) -> Path:
        made = folder / f"{source.parent.name}_{source.name}.o"
        _run([compiler, *options, "-c", str(source), "-o", str(made)])
        return made

    def linked(name: str, objects: list[Path], *how: str) -> None:
        _run([compiler, target, "-cudart=static", *how, *map(str, objects), "-o", str(folder / FILES[name])])

    with ThreadPoolExecutor(jobs or os.cpu_count()) as pool:
        waiting = {name: [pool.submit(compiled, source) for source in of] for name, of in _sources(headers).items()}
        objects = {name: [each.result() for each in of] for name, of in waiting.items()}
    own = objects["kernels"]
    linked("cuda", own, "-shared")
    linked("harness", own + objects["harness"], "-shared")
    linked("run_cases", own + objects["harness"] + objects["run_cases"])
    if headers is not None:
        linked("plugin", own + objects["plugin"], "-shared", f"-Xlinker=--version-script={PLUGIN / 'exports.map'}")
        linked("plugin_host", objects["plugin_host"], "-ldl")
    return found(folder)


def _sources(headers: Path | None) -> dict[str, list[Path]]:
    sources = {
        "kernels": [*sorted((KERNELS / "cuda").rglob("*.cu")), KERNELS / "common" / "norm.cpp"],
        "harness": [HERE / "device_harness.cu"],
        "run_cases": [HERE.parent / "cuda_emulated" / "run_cases.cpp"],
    }
    if headers is not None:
        sources["plugin"] = sorted(PLUGIN.glob("*.cpp"))
        sources["plugin_host"] = [each for each in sorted(HOST.glob("*.cpp")) if each.name != "broken_library.cpp"]
    return sources


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr[-4000:]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--architecture", required=True, help="compute capability of the GPU, 90")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    how = parser.parse_args()
    try:
        made = build(how.folder, how.architecture, tensorrt_headers(how.folder))
    except (LookupError, RuntimeError) as error:
        print(f"gpu-build: {error}", file=sys.stderr)
        return 6
    print("\n".join(map(str, made.values())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
