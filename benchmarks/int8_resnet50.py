"""int8 ResNet-50 with L1 norms: what `convert --precision int8` takes by effort, and the speed of what it writes.

Random weights; the running statistics are those of real images (crops of the two sample photographs of scikit-learn),
so that activations are spread as a trained network's are.

Each conversion is a process of its own, as a user starts it: `normexport convert folded.onnx --precision int8
--calibration-data ... --data ...`, with its start, its proof of the float32 file and its verdict. What of that is int8
is told by `convert folded.onnx` beside it. Wall time means something on an idle machine; processor time says nearly the
same on a busy one. Speed is ONNX Runtime's, float32 and int8 in turn in one process.

python benchmarks/int8_resnet50.py [--effort standard ...] [--samples 128] [--batch 8] [--method mse] [--no-race]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from normexport import onnx_export
from normexport.folding import fold
from normexport.io.onnx_model import save_onnx
from normexport.nn import L1BatchNorm2d
from normexport.onnx_export import InputSpec
from normexport.precision.config import EFFORTS
from normexport.runtime import OnnxRuntime
from tests.models.resnet import resnet50

SPEC = InputSpec("input", (3, 224, 224))
JUDGED = 32  # images that no calibration sees
#: By effort, seconds of wall time on two idle cores, and gigabytes.
TARGETS = {"none": (60.0, 1.5), "standard": (60.0, 1.5), "high": (600.0, float("inf"))}
RATIO = 2.0  # int8 to float32


@dataclass(frozen=True)
class Took:
    """What a process took: wall and processor seconds, and gigabytes at its peak."""

    wall: float
    processor: float
    peak: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--effort", choices=EFFORTS, action="append", help="repeatable; by default all but high")
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--method", default="mse")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--repeat", type=int, default=12)
    parser.add_argument("--no-race", action="store_true", help="measure no speed")
    options = parser.parse_args()
    missed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = crops(options.samples + JUDGED)
        prepare(images, options.samples, folder)
        plain = timed(["convert", str(folder / "folded.onnx"), "-o", str(folder / "plain"), "-q"])
        print(f"convert alone: {words(plain)}", flush=True)
        for effort in options.effort or EFFORTS[:2]:
            took, precision = converted(folder, effort, options)
            print(f"convert --precision int8 --effort {effort}, {options.samples} images: {words(took)}")
            seconds, most = TARGETS[effort]
            share = took.wall - plain.wall
            print(f"  int8 of that: {share:.0f} s wall, {took.processor - plain.processor:.0f} s of processor time")
            print(f"  SNR {precision['accuracy']['snr_db']:.1f} dB")
            for edit in precision["edits"]:
                gained = "" if edit["after_db"] is None else f", {edit['before_db']:.2f} to {edit['after_db']:.2f} dB"
                print(f"  {edit['name']}: {'kept' if edit['kept'] else 'not kept'}{gained}")
            holds = share < seconds and took.peak < most
            limits = f"{seconds:.0f} s of wall time" + (f" and {most} GB" if most < float("inf") else "")
            print(f"  target, on two idle cores: {limits}: {'met' if holds else 'MISSED'}", flush=True)
            missed |= not holds
        if not options.no_race:
            files = [folder / "folded.onnx", folder / (options.effort or EFFORTS[:2])[-1] / "model.onnx"]
            missed |= not raced(files, images[: options.batch], options)
    return int(missed)


def prepare(images: np.ndarray, samples: int, folder: Path) -> None:
    """The folded file, the images that calibrate and those that judge."""
    save_onnx(fold(onnx_export.export(with_statistics(images[:16]), (SPEC,)).model).model, folder / "folded.onnx")
    np.savez(folder / "calibration.npz", input=images[:samples])
    np.savez(folder / "judged.npz", input=images[samples:])


def converted(folder: Path, effort: str, options: argparse.Namespace) -> tuple[Took, dict[str, Any]]:
    """A conversion to int8: what it took, and what its report says of it."""
    output = folder / effort
    asked = ["--precision", "int8", "--effort", effort, "--calibration", options.method, "--min-snr", "5"]
    asked += ["--calibration-data", str(folder / "calibration.npz"), "--data", str(folder / "judged.npz")]
    asked += ["--calibration-batch", str(options.batch)]
    took = timed(["convert", str(folder / "folded.onnx"), "-o", str(output), "-q", *asked])
    return took, json.loads((output / "report.json").read_text())["precision"]


def timed(command: list[str]) -> Took:
    """Run `normexport` with these arguments."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tools'}"}
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "normexport_cli", *command], env=environment, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"normexport {' '.join(command)} ended with {process.returncode}")
    return Took(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6)


def words(took: Took) -> str:
    return f"{took.wall:.0f} s wall, {took.processor:.0f} s of processor time, {took.peak:.2f} GB"


def raced(files: list[Path], x: np.ndarray, options: argparse.Namespace) -> bool:
    """Print how fast int8 is; whether that is what it should be."""
    float32, int8 = (ir.load(each) for each in files)
    ratio, single, eight, snr = race(float32, int8, x, options)
    print(f"batch {options.batch}: float32 {single:.0f} ms, int8 {eight:.0f} ms, SNR {snr:.1f} dB")
    print(f"int8 is {ratio:.2f} times as fast")
    print(f"target: at least {RATIO:g} times: {'met' if ratio >= RATIO else 'MISSED'}")
    return ratio >= RATIO


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


if __name__ == "__main__":
    sys.exit(main())
