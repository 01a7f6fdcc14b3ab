"""Seconds that `fold` takes on the naive export of a ResNet-50 with L1 norms: 53 Conv, 212 norm nodes.

PYTHONPATH=. python benchmarks/fold_resnet50.py [--repeat 5]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

import torch

from normexport.folding import fold
from tests.models.original import NaiveL1BatchNorm2d
from tests.models.resnet import randomise_statistics, resnet50

TARGET = 3.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    repeat = parser.parse_args().repeat
    model = randomise_statistics(resnet50(NaiveL1BatchNorm2d)).eval()
    start = time.perf_counter()
    program = torch.onnx.export(model, (torch.randn(1, 3, 224, 224),), dynamo=True, opset_version=20)
    assert program is not None
    raw = program.model
    print(f"torch.onnx.export  {time.perf_counter() - start:6.2f} s")
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        result = fold(raw)
        seconds.append(time.perf_counter() - start)
    print(f"fold               {min(seconds):6.2f} s best, {max(seconds):.2f} s worst of {repeat}")
    counts = Counter(node.op_type for node in result.model.graph)
    left = counts["Sub"] + counts["Mul"] + counts["Div"]
    print(f"{counts['Conv']} Conv, {left} Sub/Mul/Div, {counts['Add']} Add (16 of them residual)")
    ok = max(seconds) < TARGET and left == 0 and counts["Add"] == 16
    print(f"target: under {TARGET:.0f} s and nothing left: {'met' if ok else 'MISSED'}")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
