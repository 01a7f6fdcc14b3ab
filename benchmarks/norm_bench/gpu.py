"""One case on a GPU: CUDA graphs over all buffers in rotation, timed by events."""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from norm_bench.cases import Case, native_norm
from norm_bench.formulas import batch_norm, compiled, formula
from norm_bench.interleave import Timing
from normexport.plugins import cuda

#: Not checked: another norm.
YARDSTICK = "batch_norm"


def measure(case: Case, how: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row; `fraction` is the share of the measured copy bandwidth that a read and a write of x would need."""
    torch.set_grad_enabled(False)
    graphs: dict[str, torch.cuda.CUDAGraph] = {}
    for name, run in _candidates(case, how.no_compile):
        result = run(0)
        torch.cuda.synchronize()
        if name not in (YARDSTICK, "copy", "copy of float32"):
            case.check(name, case.ys[0] if result is None else result)
        graphs[name] = _captured(run, case.rotation)
    timings = _timed(graphs, case.rotation, how.seconds)
    copy = timings["copy"].median
    yield {
        "op": case.op,
        "dtype": case.dtype,
        "shape": case.shape,
        "layout": case.layout,
        "threads": 0,
        "device": "cuda",
        "copy_bytes_per_second": 2 * case.bytes / copy,
        "fraction": copy / timings["native"].median,
        "seconds": {name: vars(timing) for name, timing in timings.items()},
    }


def _candidates(case: Case, no_compile: bool) -> Iterator[tuple[str, Callable[[int], Any]]]:
    yield "native", _native(case)
    yield "copy", lambda i: case.ys[i].copy_(case.xs[i])
    if case.layout != "LINEAR":  # torch's own candidates know no other
        return
    plain = formula(case)
    yield "eager", lambda i: plain(case.xs[i])
    if not no_compile:
        fast = compiled(case)
        yield "compile", lambda i: fast(case.xs[i])
    if case.dtype == "int8":
        single = Case(case.kind, "float32", case.shape, device="cuda")
        yield "copy of float32", lambda i: single.ys[i % single.rotation].copy_(single.xs[i % single.rotation])
    else:
        torchs = batch_norm(case)
        yield YARDSTICK, lambda i: torchs(case.xs[i])


def _native(case: Case) -> Callable[[int], None]:
    library, described = cuda.load(), native_norm(case)
    size = library.workspace(described)
    room = torch.empty(max(size, 1), dtype=torch.uint8, device="cuda")

    def run(i: int) -> None:
        x, y = case.xs[i].data_ptr(), case.ys[i].data_ptr()
        scale, bias = (values.data_ptr() for values in case.parameters)
        stream = torch.cuda.current_stream().cuda_stream
        library.run(described, x, scale, bias, y, room.data_ptr() if size else None, size, stream)

    return run


def _captured(run: Callable[[int], Tensor | None], rotation: int) -> torch.cuda.CUDAGraph:
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):  # a graph wants everything loaded and allocated before it is captured
        for i in range(min(3, rotation)):
            run(i)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for i in range(rotation):
            run(i)
    return graph


def _timed(graphs: dict[str, torch.cuda.CUDAGraph], rotation: int, seconds: float) -> dict[str, Timing]:
    order, shuffle = list(graphs), random.Random(0)
    taken: dict[str, list[float]] = {name: [] for name in order}
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    spent, rounds = 0.0, -2
    while rounds < 15 or spent < seconds:
        shuffle.shuffle(order)
        for name in order:
            begin.record()
            graphs[name].replay()
            end.record()
            end.synchronize()
            elapsed = begin.elapsed_time(end) / 1e3
            if rounds >= 0:
                taken[name].append(elapsed / rotation)
                spent += elapsed
        rounds += 1
    return {
        name: Timing(float(np.median(each)), float(np.percentile(each, 10)), len(each)) for name, each in taken.items()
    }
