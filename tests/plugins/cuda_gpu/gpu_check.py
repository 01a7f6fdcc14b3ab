"""`make gpu-check`: everything about the CUDA kernels that only a GPU can say, in one report.

    PYTHONPATH=.:benchmarks python tests/plugins/cuda_gpu/gpu_check.py --report build/gpu-report.md

Needs an NVIDIA GPU, nvcc and torch; no network, no CMake; TensorRT is tried where it is there. Builds the kernels for
this GPU (or takes those that `gpu_build.py` built before: --built), runs every kind, type and layout against float64,
each twice for the same bits (int8: byte for byte against the integer reference, and against the CPU kernels where they
are built), meanwhile under compute-sanitizer where there is one, then the TensorRT plugin and engines (`gpu_engines`),
then the benchmark, alone.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.engine.tensorrt_headers import tensorrt_headers
from tests.plugins.cuda_gpu import gpu_build, gpu_engines, gpu_sanitizer

if TYPE_CHECKING:
    from tests.plugins.cuda_gpu.gpu_report import Report

ROOT = Path(__file__).parents[3]
#: Seconds that the whole check may take; what is left of them goes to the benchmark.
BUDGET = 8 * 60
#: What is timed: as networks have it, and the layouts that TensorRT has beside it.
BENCHMARKS = (
    ("--shapes", "8x64x56x56", "32x256x14x14", "16x256x56x56"),
    ("--shapes", "16x256x56x56", "--dtypes", "float16", "int8", "--layouts", "HWC8", "CHW32"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--report", type=Path, default=ROOT / "build" / "gpu-report.md")
    parser.add_argument("--folder", type=Path, default=gpu_build.FOLDER, help="where to build")
    parser.add_argument("--built", action="store_true", help="take what gpu_build.py has built in the folder")
    how = parser.parse_args()
    reason = missing()
    if reason:
        print(f"gpu-check: {reason}", file=sys.stderr)
        return 6
    from tests.plugins.cuda_gpu.gpu_report import Report

    start = time.monotonic()
    report = Report(_facts())
    try:
        made = _found(how.folder) if how.built else _built(report, how.folder)
    except RuntimeError as error:
        report.failed("build", str(error))
        report.write(how.report)
        return 5
    watched = gpu_sanitizer.start(report, made["run_cases"], how.folder)
    _values(report, made["harness"])
    gpu_sanitizer.finish(report, watched)
    if "plugin" in made:
        gpu_engines.check(report, made["plugin"], made["plugin_host"], how.folder, f"sm{_architecture()}")
    _benchmark(report, how.folder, BUDGET - (time.monotonic() - start))
    report.passed("time", f"{time.monotonic() - start:.0f} s of {BUDGET}")
    report.write(how.report)
    print(f"{'FAILED' if report.bad else 'PASSED'}: {how.report}")
    return 1 if report.bad else 0


def missing() -> str | None:
    """Why the check can't run on this machine; None where it can."""
    if gpu_build.nvcc() is None:
        return "needs nvcc: install the CUDA toolkit, or set CUDA_HOME"
    for module in ("torch", "onnx", "ml_dtypes"):
        if importlib.util.find_spec(module) is None:
            return f"needs {module}: pip install {module}"
    import torch

    return None if torch.cuda.is_available() else "needs an NVIDIA GPU with a driver; there is none here"


def _architecture() -> str:
    import torch

    return "".join(map(str, torch.cuda.get_device_capability()))


def _found(folder: Path) -> dict[str, Path]:
    made = gpu_build.found(folder)
    missing = sorted({"cuda", "harness", "run_cases"} - set(made))
    if missing:
        files = ", ".join(gpu_build.FILES[name] for name in missing)
        raise RuntimeError(f"{folder} holds no {files}: run gpu_build.py")
    return made


def _built(report: Report, folder: Path) -> dict[str, Path]:
    begin, headers = time.monotonic(), None
    try:
        headers = tensorrt_headers(folder)
    except LookupError as missing:
        report.skipped("TensorRT plugin", str(missing))
    made = gpu_build.build(folder, _architecture(), headers)
    report.passed("build", f"sm_{_architecture()} in {time.monotonic() - begin:.0f} s")
    return made


def _facts() -> dict[str, Any]:
    import torch

    properties = torch.cuda.get_device_properties(0)
    nvcc = subprocess.run([str(gpu_build.nvcc()), "--version"], capture_output=True, text=True, check=False).stdout
    return {
        "GPU": properties.name,
        "compute capability": ".".join(map(str, torch.cuda.get_device_capability())),
        "multiprocessors": properties.multi_processor_count,
        "memory": f"{properties.total_memory / 2**30:.0f} GiB",
        "torch": torch.__version__,
        "CUDA of torch": torch.version.cuda,
        "nvcc": nvcc.strip().splitlines()[-1] if nvcc else "?",
    }


def _values(report: Report, harness: Path) -> None:
    from tests.plugins.cuda_gpu.gpu_cases import large_cases, odd_cases
    from tests.plugins.cuda_gpu.gpu_run import judge_side_by_side

    for name, cases in (("odd shapes", odd_cases()), ("large shapes", large_cases())):
        begin = time.monotonic()
        report.families(name, judge_side_by_side(harness, cases), time.monotonic() - begin)


def _benchmark(report: Report, folder: Path, seconds: float) -> None:
    figures, end = folder / "benchmark.json", time.monotonic() + max(60, seconds)
    paths = os.pathsep.join([str(ROOT), str(ROOT / "benchmarks")])
    environment = {**os.environ, "NORMEXPORT_PLUGIN_DIR": str(folder), "PYTHONPATH": paths}
    command = [sys.executable, str(ROOT / "benchmarks" / "norms.py"), "--device", "cuda", "--no-compile"]
    command += ["--seconds", "0.2", "--json", str(figures)]
    rows: list[dict[str, Any]] = []
    for what in BENCHMARKS:
        left = max(1.0, end - time.monotonic())
        try:
            done = subprocess.run(
                [*command, *what], capture_output=True, text=True, check=False, env=environment, timeout=left
            )
        except subprocess.TimeoutExpired as slow:
            report.skipped("benchmark", "ran out of time")
            report.text("Benchmark", (slow.stdout or b"").decode())
            break
        report.text("Benchmark", done.stdout)
        if done.returncode:
            report.failed("benchmark", done.stderr[-3000:])
            break
        rows += json.loads(figures.read_text())["rows"]
    else:
        report.passed("benchmark", f"{len(rows)} cases, outputs checked before timing")
    report.bandwidth(rows)


if __name__ == "__main__":
    sys.exit(main())
