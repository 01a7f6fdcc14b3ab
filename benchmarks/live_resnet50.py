"""What the custom-op library saves end to end: ResNet-50 whose 53 norms compute their statistics at inference.

    PYTHONPATH=. python benchmarks/live_resnet50.py [--kind l1] [--batch 8] [--size 224] [--rounds 12] [--threads 2]

ONNX Runtime runs the same file twice in one process, in turn: once with the library, once on the bodies in the file.
Medians of milliseconds. The floor is the same file with every norm left out: what is above it, norms cost. Outputs are
compared before anything is timed. `--model FILE` keeps the exported file, or takes the one that is there.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx


def export(kind: str, size: int, path: Path) -> None:
    """ResNet-50 with live norms of `kind`, random weights."""
    import torch

    import normexport
    from normexport import nn as nxn
    from normexport.norms import KINDS
    from tests.models.resnet import randomise_statistics, resnet50

    torch.manual_seed(0)
    live = getattr(nxn, f"{KINDS[kind].title}BatchNorm2d")
    model = randomise_statistics(resnet50(lambda channels: live(channels, track_running_stats=False))).eval()
    with tempfile.TemporaryDirectory() as folder:
        torch.save(model.state_dict(), f"{folder}/weights.pth")
        checkpoint = normexport.load(f"{folder}/weights.pth", model=lambda: model)
        normexport.export(checkpoint, [f"input=3x{size}x{size}"], output=path)


def without_norms(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which every live norm hands its input on."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    passed = {node.output[0]: node.input[0] for node in bare.graph.node if node.domain == "normexport"}
    kept = [node for node in bare.graph.node if node.domain != "normexport"]
    for node in kept:
        node.input[:] = [passed.get(name, name) for name in node.input]
    del bare.graph.node[:], bare.functions[:]
    bare.graph.node.extend(kept)
    return bare


def session(model: onnx.ModelProto, threads: int, library: Path | None = None) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    if library is not None:
        options.register_custom_ops_library(str(library))
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def measure(sessions: dict[str, Any], x: np.ndarray, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each session, in turn; two rounds to warm up are not counted."""
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(rounds + 2):
        for name, each in sessions.items():
            start = time.perf_counter()
            each.run(None, {each.get_inputs()[0].name: x})
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: values[2:] for name, values in times.items()}


def main() -> None:
    from normexport import plugins

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kind", default="l1")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--model", type=Path)
    arguments = parser.parse_args()
    library = plugins.require("onnxruntime")
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.model or Path(folder, "live.onnx")
        if not path.exists():
            export(arguments.kind, arguments.size, path)
        model = onnx.load(path)
    sessions = {
        "library": session(model, arguments.threads, library),
        "bodies": session(model, arguments.threads),
        "no norms": session(without_norms(model), arguments.threads),
    }
    x = np.random.default_rng(0).standard_normal((arguments.batch, 3, arguments.size, arguments.size), np.float32)
    ours, bodies = (sessions[name].run(None, {"input": x})[0] for name in ("library", "bodies"))
    difference = float(np.abs(ours - bodies).max() / np.abs(bodies).max())
    assert difference < 1e-3, difference
    times = measure(sessions, x, arguments.rounds)
    print(
        f"ResNet-50, live {arguments.kind} norms, batch {arguments.batch}, {arguments.size}x{arguments.size}, "
        f"{arguments.threads} threads, {platform.machine()}; outputs differ by {difference:.1e}"
    )
    for name, values in times.items():
        print(f"{name:12}{statistics.median(values):10.1f} ms   p10 {np.percentile(values, 10):8.1f}")
    ratios = [b / a for a, b in zip(times["library"], times["bodies"], strict=True)]
    print(f"bodies / library, median of pairs: {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
