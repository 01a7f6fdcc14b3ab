"""What recognition does to a file that ONNX Runtime runs without the native library: the graph before and after.

    PYTHONPATH=. python benchmarks/recognised_norms.py [--rounds 30] [--threads 1]

Four 3x3 convolutions, each with a norm of ordinary operators and a ReLU behind it. The two files run in turn; the least
processor time of all rounds counts, in milliseconds. "plain" divides and then scales, as most people write it;
"reciprocal" scales by one factor per channel.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import torch
from torch import nn

from normexport.norms import KINDS
from normexport.recognition import fold_recognised
from tests.recognition.raw_norms import RawNorm

SHAPES = ((1, 32, 56, 56), (8, 64, 28, 28))


def network(kind: str, scope: str, spelling: str, channels: int) -> nn.Module:
    layers: list[nn.Module] = []
    for _ in range(4):
        convolution = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        layers += [convolution, RawNorm(kind, scope, spelling, (channels,)), nn.ReLU()]
    return nn.Sequential(*layers).eval()


def session(content: bytes, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def best(sessions: list[ort.InferenceSession], x: np.ndarray, rounds: int) -> list[float]:
    """Milliseconds of each, run in turn."""
    found = [float("inf")] * len(sessions)
    for _ in range(rounds):
        for index, each in enumerate(sessions):
            start = time.process_time()
            each.run(None, {"x": x})
            found[index] = min(found[index], 1e3 * (time.process_time() - start))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    for shape in SHAPES:
        for kind in KINDS:
            for scope in ("batch", "instance"):
                for spelling in ("plain", "reciprocal"):
                    x = torch.randn(shape)
                    path = "/dev/shm/recognised.onnx"
                    model = network(kind, scope, spelling, shape[1])
                    axes = {"x": {0: "N"}}
                    torch.onnx.export(model, (x,), path, dynamo=False, input_names=["x"], dynamic_axes=axes)
                    after = fold_recognised(ir.load(path), live_operators=True).model
                    contents = [onnx.load(path).SerializeToString(), ir.to_proto(after).SerializeToString()]
                    sessions = [session(each, arguments.threads) for each in contents]
                    raw, ours = best(sessions, x.numpy(), arguments.rounds)
                    ratio = f"{raw:9.2f} ms  {ours:9.2f} ms  {ours / raw:5.2f}"
                    print(f"{shape!s:18} {kind:6} {scope:9} {spelling:11} {ratio}", flush=True)


if __name__ == "__main__":
    main()
