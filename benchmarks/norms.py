"""How fast the live norms are, as a ratio to a copy of the same tensor.

    python benchmarks/norms.py                                  # CPU, the shapes of docs/performance.md
    python benchmarks/norms.py --kinds l1 --dtypes int8 --shapes 8x64x56x56 --threads 1
    python benchmarks/norms.py --device cuda --json gpu.json    # CUDA events around graphs
    python benchmarks/norms.py --device cuda --layouts HWC8 CHW32 --shapes 16x256x56x56

Every candidate's output is checked against float64 before it is timed. All candidates of a case are timed in turn in
one process, on buffers in rotation that exceed the caches; times are medians, and p10 beside them. 1.0 is the copy
of the tensor itself: on the CPU the faster of memcpy and torch's `copy_` on as many threads, on a GPU `copy_`. int8
is also set against the copy of the float32 tensor it replaces. Idle threads sleep in every pool.
"""

from __future__ import annotations

import os

# Before anything loads OpenMP: a pool that spins while it waits takes the core from whoever is timed.
os.environ.update(OMP_WAIT_POLICY="PASSIVE", GOMP_SPINCOUNT="0", KMP_BLOCKTIME="0")

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from norm_bench.cases import DTYPES, SHAPES, cases
from norm_bench.layouts import LAYOUTS
from norm_bench.machine import machine
from norm_bench.table import print_table

from normexport import norms


def _shape(text: str) -> tuple[int, ...]:
    return tuple(int(size) for size in text.split("x"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--kinds", nargs="+", choices=list(norms.KINDS), default=["l1", "linf", "topk", "range"])
    parser.add_argument("--dtypes", nargs="+", choices=list(DTYPES), default=list(DTYPES))
    parser.add_argument("--shapes", nargs="+", type=_shape, default=list(SHAPES), help="N x C x space, 8x64x56x56")
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=["LINEAR"], help="in memory; cuda only")
    parser.add_argument("--instance", action="store_true", help="statistics per sample")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="CPU only")
    parser.add_argument("--seconds", type=float, default=2.0, help="per case and number of threads")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out: it takes seconds a case")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    how = parser.parse_args()
    if how.device == "cpu" and how.layouts != ["LINEAR"]:
        parser.error("--layouts: the CPU kernels take LINEAR alone")
    return how


def main() -> int:
    how = _arguments()
    if how.device == "cuda":
        from norm_bench.gpu import measure
    else:
        from norm_bench.cpu import measure
    rows: list[dict[str, Any]] = []
    for case in cases(how.kinds, how.dtypes, how.shapes, how.device, how.instance, how.layouts):
        for row in measure(case, how):
            rows.append(row)
            print_table([row], heading=len(rows) == 1)
        # The buffers of a case go before the next one's come.
        for name in ("xs", "ys"):
            case.__dict__.pop(name, None)
    if how.json:
        how.json.write_text(json.dumps({"machine": machine(how.device), "rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
