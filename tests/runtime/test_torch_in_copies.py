"""Code of the user's that computes with torch goes on in a copy of the process, where torch's threads are missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

PROGRAM = """
import torch
from normexport.runtime.guarded import in_child
torch.set_num_threads(2)
x = torch.ones(1, 3, 512, 512)
def work():
    return float(torch.nn.functional.interpolate(x, (224, 224), mode="bilinear", antialias=True).sum())
assert work() == in_child(work, "x") == 3 * 224 * 224
"""


def test_torch_that_was_used_before_can_be_used_in_a_copy() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, env=environment, timeout=300)
