"""Time and memory of the float64 interpreter on ResNet-50 (random weights, 224x224), beside ONNX Runtime in float32.

    python benchmarks/float64_interpreter.py [batch]

Both on one thread, the best of three runs; each in a process of its own, whose peak of resident memory over what
it held before the model was loaded is told. ONNX Runtime's activations are its peak less its weights.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SIDE, RUNS = 224, 3
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def export(path: Path) -> None:
    """The network with its norms unfolded: every operator that the interpreter has to compute."""
    import torch

    from tests.models.resnet import resnet50

    torch.manual_seed(0)
    net = resnet50(torch.nn.BatchNorm2d).eval()
    batch = torch.export.Dim("batch", min=1)
    program = torch.onnx.export(
        net, (torch.zeros(2, 3, SIDE, SIDE),), dynamo=True, dynamic_shapes=({0: batch},), optimize=False
    )
    assert program is not None
    program.save(str(path))


def measure(kind: str, path: Path, batch: int) -> None:
    """Print the seconds of the best run and the megabytes of the peak."""
    import time

    import numpy as np

    from normexport.runtime import Float64Runtime, OnnxRuntime

    if kind == "torch":
        import torch

        torch.set_num_threads(1)
        torch.conv2d(torch.zeros(1, 1, 4, 4).double(), torch.zeros(1, 1, 3, 3).double())
    x = np.random.default_rng(0).standard_normal((batch, 3, SIDE, SIDE)).astype(np.float32)
    before = _resident("VmRSS")
    runtime = OnnxRuntime(path, threads=1) if kind == "onnxruntime" else Float64Runtime(path, torch=kind == "torch")
    (name,) = runtime.input_names
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        (y,) = runtime.run({name: x}).values()
        times.append(time.perf_counter() - start)
    assert np.isfinite(y).all()
    print(min(times), (_resident("VmHWM") - before) / 1e6)


def _resident(field: str) -> float:
    """Bytes of resident memory, now (VmRSS) or at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def main() -> None:
    batch = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    places = str(ROOT)
    sys.path[:0] = [str(ROOT)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "resnet50.onnx"
        export(path)
        for kind in ("onnxruntime", "torch", "numpy"):
            done = subprocess.run(
                [sys.executable, __file__, kind, str(path), str(batch)],
                check=True,
                capture_output=True,
                text=True,
                env={**os.environ, **ONE_THREAD, "PYTHONPATH": places},
            )
            seconds, megabytes = map(float, done.stdout.split()[-2:])
            print(f"{kind:12} {seconds:6.2f} s  {megabytes:6.0f} MB above what the process held")


if __name__ == "__main__":
    if len(sys.argv) == 4:
        measure(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
