"""Calibration and evaluation in parts: memory of driver and workers, size of states, and what a second worker brings.

Images are made as they are asked for, from their numbers; none lies on disk. The network is a ResNet-50 with L1 norms,
or its first block.

python benchmarks/scale.py states                                     # how large the states are that travel
python benchmarks/scale.py memory [--samples 100000] [--workers 2] [--minutes 25]    # while samples go by
python benchmarks/scale.py speed [--batches 64] [--rounds 5]          # evaluation by 1 and 2 workers of one thread
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from normexport import onnx_export
from normexport.folding import fold
from normexport.nn import L1BatchNorm2d
from normexport.onnx_export import InputSpec
from normexport.precision.elsewhere import Elsewhere
from normexport.precision.int8.gather import gather
from normexport.precision.numbered import Numbered, numbered, samples_by_number
from normexport.workers import LOCAL, Where
from tests.models.resnet import randomise_statistics, resnet50

SPEC = InputSpec("input", (3, 224, 224))
MB = 1 << 20
_TOLD_EVERY = 60.0  # seconds


@dataclass(frozen=True)
class Images:
    """Smooth random images, each made of its number."""

    count: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Any]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, number: int) -> Any:
        coarse = np.random.default_rng(number).normal(size=(3, 14, 14)).astype(np.float32)
        return np.kron(coarse, np.ones((1, 16, 16), np.float32))


def network(whole: bool) -> ir.Model:
    """A ResNet-50, folded; or its stem and first bottleneck, with ten classes."""
    torch.manual_seed(0)
    model: Any = randomise_statistics(resnet50(L1BatchNorm2d)).eval()
    if not whole:
        children = list(model.children())
        head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 10)
        model = nn.Sequential(*children[:4], children[4][0], *head).eval()
    return fold(onnx_export.export(model, (SPEC,)).model).model


def data(count: int) -> Numbered:
    return numbered(samples_by_number(Images(count), (SPEC,)), 8)


def states(options: argparse.Namespace) -> None:
    for name, whole in (("first block", False), ("ResNet-50", True)):
        state = gather(network(whole), data(options.samples or 16), LOCAL)
        size = len(state.text())
        print(f"{name:12} {len(state.tensors):4} tensors, {size / MB:.2f} MB after {len(state.samples)} samples")


def memory(options: argparse.Namespace) -> None:
    import ray

    model = network(False)
    ray.init(
        address="local",
        num_cpus=options.workers,
        include_dashboard=False,
        logging_level=logging.ERROR,
        log_to_driver=False,
    )
    total, start, workers, told = options.samples or 100_000, time.monotonic(), 0, 0.0
    sizes: list[int] = []

    def look(seen: int) -> None:
        nonlocal workers, told
        sizes.append(_resident(os.getpid()))
        workers = max([workers, *(_peak(pid) for pid in _workers())])
        passed = time.monotonic() - start
        if passed - told > _TOLD_EVERY or seen == total:
            told = passed
            rate, driver = seen / passed, f"{sizes[-1] / MB:.0f} MB ({min(sizes) / MB:.0f} to {max(sizes) / MB:.0f})"
            print(f"{seen} samples in {passed:.0f} s, {rate:.1f}/s; driver {driver}", end="; ", flush=True)
            print(f"worker {workers / MB:.0f} MB at most", flush=True)
        if passed > 60 * options.minutes:
            raise TimeoutError

    try:
        gather(model, data(total), Where(True, workers=options.workers), on_batch=look)
    except TimeoutError:
        print(f"ended after {options.minutes:g} minutes, of {total} samples")
    finally:
        ray.shutdown()


def speed(options: argparse.Namespace) -> None:
    import ray

    model, batches = network(False), options.batches
    images = data(8 * batches)
    ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    seconds: dict[int, list[float]] = {1: [], 2: []}
    try:
        for turn in range(options.rounds + 1):  # the first opens models
            for workers in (1, 2):
                start = time.monotonic()
                runs = Elsewhere(Where(True, workers=workers), model).run_numbered(images, range(batches), (), ())
                assert sum(1 for _ in runs) == batches
                if turn:
                    seconds[workers].append(time.monotonic() - start)
    finally:
        ray.shutdown()
    ratios = sorted(one / two for one, two in zip(seconds[1], seconds[2], strict=True))
    one, two = (statistics.median(seconds[workers]) for workers in (1, 2))
    within = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    print(f"{batches} batches of 8: 1 worker {one:.2f} s, 2 workers {two:.2f} s; ratio {within}")


def _workers() -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cmdline").read_bytes().startswith((b"ray::_compute", b"ray::IDLE")):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def _status(pid: int, field: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field)), 0)


def _resident(pid: int) -> int:
    return _status(pid, "VmRSS:")


def _peak(pid: int) -> int:
    return _status(pid, "VmHWM:")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("states", "memory", "speed"))
    parser.add_argument("--samples", type=int, default=None)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--batches", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    {"states": states, "memory": memory, "speed": speed}[options.what](options)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
