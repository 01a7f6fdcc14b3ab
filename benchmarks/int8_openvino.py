"""int8 ResNet-50 with L1 norms on OpenVINO against float32 on ONNX Runtime, on one thread, taken in turn in one run.

Both int8 files: with zero points, and the symmetric one, which engines take.

python benchmarks/int8_openvino.py [--samples 32] [--batch 8] [--repeat 10]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from int8_resnet50 import SPEC, crops, with_statistics

from normexport import onnx_export
from normexport.folding import fold
from normexport.precision.int8.calibration import calibrate
from normexport.precision.int8.quantise import quantize
from normexport.precision.samples import batches_of
from normexport.runtime import OnnxRuntime, OpenVinoRuntime, Runtime

TARGET = 4.5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=10)
    options = parser.parse_args()
    if "avx512_vnni" not in Path("/proc/cpuinfo").read_text():
        print("this processor has no VNNI: the target is for one that has")
    images = crops(options.samples)
    folded = fold(onnx_export.export(with_statistics(images[:16]), (SPEC,)).model).model
    models = {"float32": folded}
    for name, symmetric in (("int8", False), ("int8 symmetric", True)):
        found = calibrate(folded, batches_of(list(images), (SPEC,))(), "minmax", symmetric=symmetric)
        models[name] = quantize(folded, found.ranges, symmetric=symmetric).model
    times = race(models, images[: options.batch], options.repeat)
    base = times["float32 on ONNX Runtime"]
    for name, own in times.items():
        ratio = statistics.median(a / b for a, b in zip(base, own, strict=True))
        print(f"{name:32} {statistics.median(own):7.0f} ms  {ratio:5.2f} times as fast", flush=True)
    worst = min(statistics.median(a / b for a, b in zip(base, own, strict=True))
                for name, own in times.items() if name.startswith("int8") and name.endswith("OpenVINO"))  # fmt: skip
    print(f"target: at least {TARGET} times in OpenVINO: {'met' if worst >= TARGET else 'MISSED'}")
    return 0 if worst >= TARGET else 1


def race(models: dict[str, ir.Model], x: np.ndarray, repeat: int) -> dict[str, list[float]]:
    """Milliseconds of each run, of every model on both runtimes, taken in turn."""
    kinds: dict[str, Callable[..., Runtime]] = {"ONNX Runtime": OnnxRuntime, "OpenVINO": OpenVinoRuntime}
    runtimes = {f"{name} on {on}": kinds[on](model, threads=1) for name, model in models.items() for on in kinds}
    times: dict[str, list[float]] = {name: [] for name in runtimes}
    for turn in range(repeat + 1):
        for name, runtime in runtimes.items():
            start = time.perf_counter()
            runtime.run({SPEC.name: x})
            if turn:
                times[name].append(1000 * (time.perf_counter() - start))
    return times


if __name__ == "__main__":
    sys.exit(main())
