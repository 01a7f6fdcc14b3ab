"""Does `bench` tell equal files from different ones? Runs on two equal files, and on one with 5 % more of the work.

The files: 20 convolutions of 32 channels at 56x56, each with a ReLU, and 21 of them.
Another process loads one core meanwhile, unless --quiet.

    python benchmarks/bench_differences.py [--runs 20] [--threads 1] [--duration 3] [--quiet]
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

import normexport

CONVOLUTIONS, CHANNELS, SIZE = 20, 32, 56


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--duration", type=float, default=normexport.BenchConfig.duration)
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--only", choices=("same", "more"), help="one of the two comparisons")
    parser.add_argument("--quiet", action="store_true", help="without the process that loads a core")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, loaded(not options.quiet):
        folder = Path(place)
        paths = [folder / name for name in ("first.onnx", "same.onnx", "more.onnx")]
        for path, count in zip(paths, (CONVOLUTIONS, CONVOLUTIONS, CONVOLUTIONS + 1), strict=True):
            convolutions(path, count, options.size)
        found = {
            path.stem: [told(paths[0], path, seed, options) for seed in range(options.runs)]
            for path in paths[1:]
            if options.only in (None, path.stem)
        }
    good = True
    if "same" in found:
        equal = sum(not each.interval.differs for each in found["same"])
        held = sum(each.interval.low <= 1 <= each.interval.high for each in found["same"])
        print(f"equal files: no difference in {equal} of {options.runs}, the interval holds 1 in {held}")
        good &= equal == options.runs
    if "more" in found:
        slower = sum(each.interval.low > 1 and each.interval.differs for each in found["more"])
        print(f"5 % more work: slower in {slower} of {options.runs}, ratios {spread(found['more'])}")
        good &= slower >= 0.9 * options.runs
    return 0 if good else 1


def told(first: Path, second: Path, seed: int, options: argparse.Namespace) -> normexport.Ratio:
    """One run."""
    config = normexport.BenchConfig(threads=(options.threads,), duration=options.duration, seed=seed)
    began = time.perf_counter()
    result = normexport.bench([first, second], config=config)
    (ratio,) = result.ratios
    interval = ratio.interval
    words = (
        f"{second.stem:5} run {seed:2}: {interval.ratio:.4f} ({interval.low:.4f} to {interval.high:.4f}) {ratio.words}"
    )
    p50 = result.timings[0].latency(50)
    print(
        f"{words}; p50 {1e3 * p50:.1f} ms, {ratio.openings} openings, {time.perf_counter() - began:.0f} s", flush=True
    )
    return ratio


def spread(ratios: list[normexport.Ratio]) -> str:
    """The median ratio, the least and the largest."""
    values = [each.interval.ratio for each in ratios]
    return f"{np.median(values):.4f} ({min(values):.4f} to {max(values):.4f})"


def convolutions(path: Path, count: int, size: int) -> None:
    """A file of so many convolutions, one behind the other."""
    dice = np.random.default_rng(0)
    nodes, weights, last = [], [], "x"
    for number in range(count):
        array = dice.normal(size=(CHANNELS, CHANNELS, 3, 3)) / np.sqrt(9 * CHANNELS)
        weights.append(numpy_helper.from_array(array.astype(np.float32), f"w{number}"))
        nodes.append(helper.make_node("Conv", [last, f"w{number}"], [f"c{number}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{number}"], [f"r{number}"]))
        last = f"r{number}"
    shape: list[str | int | None] = ["N", CHANNELS, size, size]
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in ("x", last)]
    graph = helper.make_graph(nodes, "convolutions", ends[:1], ends[1:], weights)
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)


@contextlib.contextmanager
def loaded(wanted: bool) -> Iterator[None]:
    """Another process that computes all the time, meanwhile."""
    if not wanted:
        yield
        return
    busy = subprocess.Popen([sys.executable, "-c", "while True: sum(i * i for i in range(100000))"])
    try:
        yield
    finally:
        busy.kill()
        busy.wait()


if __name__ == "__main__":
    sys.exit(main())
