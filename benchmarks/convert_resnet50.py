"""What `convert` costs beside a bare `torch.onnx.export`, and how fast what it writes is. ResNet-50, L1 norms.

    PYTHONPATH=. python benchmarks/convert_resnet50.py [--rounds 3] [--size 224]

Every conversion and every export is a process of its own (so that peak memory means something), in turn:
both build the network, read the same kind of state_dict and write one ONNX file; `convert` also folds 53 norms
and judges parity at every module boundary. The bare export is of the same network with BatchNorm2d. Wall time
is from after the imports to the file on disk. Latency is ONNX Runtime's, batch 1, the two files in turn in one
process, medians.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
PATHS = f"import sys; sys.path[:0] = [{str(ROOT)!r}]\n"

MEASURE = """
import json, resource, time
def done(start):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": time.perf_counter() - start, "peak_mib": peak}))
"""

PREPARE = """
import torch
from tests.models.resnet import randomise_statistics, resnet50
from normexport import nn as nxn
for name, norm in (("l1", nxn.L1BatchNorm2d), ("bn", torch.nn.BatchNorm2d)):
    torch.manual_seed(0)
    torch.save(randomise_statistics(resnet50(norm)).state_dict(), FOLDER + f"/{name}.pt")
"""

CONVERT = """
import normexport, normexport.verbs.convert, onnxruntime
start = time.perf_counter()
checkpoint = normexport.load(FOLDER + "/l1.pt", model="resnet50_l1:build")
result = normexport.convert(checkpoint, FOLDER + "/out", inputs=[f"3x{SIZE}x{SIZE}"])
assert result.passed
done(start)
"""

BARE = """
import logging, warnings
import torch, torch.onnx, onnxscript
from tests.models.resnet import resnet50
logging.getLogger("torch.onnx").setLevel(logging.CRITICAL)
warnings.simplefilter("ignore")
start = time.perf_counter()
model = resnet50()
model.load_state_dict(torch.load(FOLDER + "/bn.pt", weights_only=True))
model.eval()
batch = torch.export.Dim("batch")
program = torch.onnx.export(model, (torch.zeros(2, 3, SIZE, SIZE),), dynamo=True, opset_version=20, verbose=False,
                            dynamic_shapes=({0: batch},), input_names=["input"])
program.save(FOLDER + "/bare.onnx")
done(start)
"""

FACTORY = """
from tests.models.resnet import resnet50
from normexport import nn
def build():
    return resnet50(nn.L1BatchNorm2d)
"""


def run(code: str, folder: str, size: int) -> dict[str, float]:
    """Run `code` in a new interpreter; the JSON object on its last line, if it prints one."""
    whole = f"{PATHS}FOLDER, SIZE = {folder!r}, {size}\nsys.path.insert(0, FOLDER)\n{MEASURE}{code}"
    output = subprocess.run([sys.executable, "-c", whole], check=True, capture_output=True, text=True).stdout
    lines = output.strip().splitlines()
    return json.loads(lines[-1]) if lines else {}


def latency(folder: str, size: int, rounds: int) -> dict[str, float]:
    """Median milliseconds of the folded and of the bare file, batch 1, in turn."""
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    files = {"convert": f"{folder}/out/model.onnx", "bare": f"{folder}/bare.onnx"}
    sessions = {name: ort.InferenceSession(file, options) for name, file in files.items()}
    x = np.random.default_rng(0).standard_normal((1, 3, size, size)).astype(np.float32)
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(rounds):
        for name, session in sessions.items():
            start = time.perf_counter()
            session.run(None, {session.get_inputs()[0].name: x})
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values[2:]) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=224)
    arguments = parser.parse_args()
    results: dict[str, list[dict[str, float]]] = {"convert": [], "bare": []}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "resnet50_l1.py").write_text(FACTORY)
        run(PREPARE, folder, arguments.size)
        for _ in range(arguments.rounds):
            for name, code in (("convert", CONVERT), ("bare", BARE)):
                results[name].append(run(code, folder, arguments.size))
        milliseconds = latency(folder, arguments.size, rounds=42)
    print(f"ResNet-50, {arguments.size}x{arguments.size}, {arguments.rounds} rounds in turn, {platform.machine()}")
    print(f"{'':24}{'convert':>12}{'bare export':>14}{'ratio':>9}")
    for key, unit in (("seconds", "s"), ("peak_mib", "MiB")):
        pairs = [(a[key], b[key]) for a, b in zip(results["convert"], results["bare"], strict=True)]
        ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b in pairs)
        print(f"{key + ' (' + unit + ')':24}{ours:12.2f}{theirs:14.2f}{ratio:9.2f}")
    ratio = milliseconds["convert"] / milliseconds["bare"]
    print(f"{'latency (ms, median)':24}{milliseconds['convert']:12.2f}{milliseconds['bare']:14.2f}{ratio:9.3f}")


if __name__ == "__main__":
    main()
