"""int8 ResNet-50 with L1 norms on ONNX Runtime: speed against float32 in one run, time and memory of quantising it.

Random weights; the running statistics are those of real images (crops of the two sample photographs of scikit-learn),
so that activations are spread as a trained network's are.

python benchmarks/int8_resnet50.py [--samples 128] [--batch 8] [--method mse] [--threads N] [--cache FILE.json]
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from normexport import onnx_export  # noqa: E402
from normexport.folding import fold  # noqa: E402
from normexport.nn import L1BatchNorm2d  # noqa: E402
from normexport.onnx_export import InputSpec  # noqa: E402
from normexport.precision.int8.calibration import calibrate, read_calibration  # noqa: E402
from normexport.precision.int8.quantise import quantize  # noqa: E402
from normexport.precision.samples import batches_of  # noqa: E402
from normexport.runtime import OnnxRuntime  # noqa: E402
from tests.models.resnet import resnet50  # noqa: E402

SPEC = InputSpec("input", (3, 224, 224))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--method", default="mse")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--repeat", type=int, default=12)
    parser.add_argument("--cache", type=Path, default=None, help="calibration results: read if there, else written")
    options = parser.parse_args()
    images = crops(options.samples)
    model = with_statistics(images[:16])
    folded = fold(onnx_export.export(model, (SPEC,)).model).model
    del model
    base = peak()
    start = time.perf_counter()
    if options.cache is not None and options.cache.exists():
        calibration = read_calibration(options.cache, folded, options.method)
    else:
        calibration = calibrate(folded, batches_of(list(images), (SPEC,))(), options.method)
        if options.cache is not None:
            calibration.save(options.cache)
    calibrated = time.perf_counter() - start
    quantised = quantize(folded, calibration.ranges).model
    seconds = time.perf_counter() - start
    print(f"quantised in {seconds:.1f} s (calibration {calibrated:.1f} s, {calibration.samples} images)")
    print(f"peak memory {peak():.2f} GB, {base:.2f} GB of it before quantising")
    ratio, single, eight, snr = race(folded, quantised, images[: options.batch], options)
    print(f"batch {options.batch}: float32 {single:.0f} ms, int8 {eight:.0f} ms, SNR {snr:.1f} dB")
    print(f"int8 is {ratio:.2f} times as fast")
    print(f"target: at least 2 times: {'met' if ratio >= 2 else 'MISSED'}")
    return 0 if ratio >= 2 else 1


def race(
    folded: ir.Model, quantised: ir.Model, x: np.ndarray, options: argparse.Namespace
) -> tuple[float, float, float, float]:
    """Median of the ratios of runs taken in turn, and medians of both in ms."""
    runtimes = [OnnxRuntime(each, threads=options.threads) for each in (folded, quantised)]
    exact, got = (next(iter(runtime.run({"input": x}).values())) for runtime in runtimes)
    times: list[list[float]] = [[], []]
    for _ in range(options.repeat):
        for runtime, own in zip(runtimes, times, strict=True):
            start = time.perf_counter()
            runtime.run({"input": x})
            own.append(1000 * (time.perf_counter() - start))
    ratio = statistics.median(a / b for a, b in zip(*times, strict=True))
    snr = 20 * np.log10(np.linalg.norm(exact) / np.linalg.norm(exact.astype(np.float64) - got))
    return ratio, statistics.median(times[0]), statistics.median(times[1]), float(snr)


def with_statistics(images: np.ndarray) -> torch.nn.Module:
    """The network after a pass in training mode over real images: each norm's statistics are those of its input."""
    torch.manual_seed(0)
    model = resnet50(lambda channels: L1BatchNorm2d(channels, momentum=1.0))
    with torch.no_grad():
        model.train()(torch.from_numpy(images))
    return model.eval()


def crops(count: int) -> np.ndarray:
    """(count, 3, 224, 224) float32, normalised: random crops of two photographs."""
    from sklearn.datasets import load_sample_images

    photographs = [np.asarray(each, np.float32) / 255 for each in load_sample_images().images]
    rng = np.random.default_rng(0)
    cut = []
    for number in range(count):
        photograph = photographs[number % len(photographs)]
        top, left = (int(rng.integers(0, size - 224)) for size in photograph.shape[:2])
        cut.append(photograph[top : top + 224, left : left + 224].transpose(2, 0, 1))
    return (np.stack(cut) - 0.45) / np.float32(0.225)


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    sys.exit(main())
