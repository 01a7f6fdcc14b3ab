"""What `normexport build` costs beside TensorRT's own parse and build, on a folded ResNet-50; no GPU.

    PYTHONPATH=. python benchmarks/build_resnet50.py

Bare: a process that starts another, which parses, builds for sm89 and writes the plan with tensorrt_rtx alone. Both are
timed in turn, start of Python included. Before each run a process touches as much memory as a build takes: a virtual
machine that has given free memory back to its host pays some 0.2 s, at random, for getting it again.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

import normexport
from normexport import nn as nxn
from normexport.engine import read_manifest
from tests.models.resnet import randomise_statistics, resnet50

SIZE = 224
SHAPES = {"--minShapes": 1, "--optShapes": 8, "--maxShapes": 32}

BARE = f"""
import sys
import tensorrt_rtx as trt
logger = trt.Logger(trt.Logger.INFO)
builder = trt.Builder(logger)
network = builder.create_network(0)
parser = trt.OnnxParser(network, logger)
assert parser.parse_from_file(sys.argv[1])
config = builder.create_builder_config()
config.num_compute_capabilities = 1
config.set_compute_capability(trt.ComputeCapability.SM89, 0)
profile = builder.create_optimization_profile()
profile.set_shape("input", *((size, 3, {SIZE}, {SIZE}) for size in {tuple(SHAPES.values())}))
config.add_optimization_profile(profile)
open(sys.argv[2], "wb").write(builder.build_serialized_network(network, config))
"""
TOUCH = "b'1' * 1_500_000_000"
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]], check=True)"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--runs", type=int, default=7)
    runs = arguments.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        model, plan = str(Path(folder, "model.onnx")), str(Path(folder, "model.plan"))
        torch.manual_seed(0)
        network = randomise_statistics(resnet50(nxn.L1BatchNorm2d)).eval()
        exported = normexport.export(network, [f"input=3x{SIZE}x{SIZE}"])
        normexport.fold(exported.model, model)
        bare = [sys.executable, "-c", PARENT, BARE, model, plan]
        shapes = [word for name, batch in SHAPES.items() for word in (name, f"input:{batch}x3x{SIZE}x{SIZE}")]
        ours = [sys.executable, "-m", "normexport_cli", "build", model, "-o", plan, "--target", "sm89", *shapes]
        times: dict[str, list[float]] = {"bare": [], "normexport build": []}
        for _ in range(runs):
            for name, command in zip(times, (bare, ours), strict=True):
                subprocess.run([sys.executable, "-c", TOUCH], check=True)
                times[name].append(_seconds(command))
        print(f"{len(read_manifest(Path(plan)).layers)} layers, plan of {Path(plan).stat().st_size / 1e6:.0f} MB")
    for name, each in times.items():
        print(f"{name:18} median {statistics.median(each):.2f} s, least {min(each):.2f} s")
    print(f"ratio of the medians {statistics.median(times['normexport build']) / statistics.median(times['bare']):.2f}")


def _seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
