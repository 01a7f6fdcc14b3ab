"""One case on the CPU, at each number of threads."""

from __future__ import annotations

import argparse
import ctypes
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from norm_bench.cases import Case, native_norm
from norm_bench.formulas import batch_norm, compiled, formula
from norm_bench.interleave import Run, Timing, interleaved
from norm_bench.onnx_candidates import on_onnx_runtime
from normexport import plugins
from normexport.plugins import kernels

#: torch's own batch norm computes another norm (L2, epsilon under the root): timed, not checked.
YARDSTICK = "batch_norm"


def measure(case: Case, how: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row of figures per number of threads."""
    torch.set_grad_enabled(False)
    fast = None if how.no_compile else compiled(case)
    for threads in how.threads:
        torch.set_num_threads(threads)
        candidates = dict(_candidates(case, threads, fast))
        for name, run in candidates.items():
            case.ys[0].zero_()
            result = run(0)
            if name != YARDSTICK:
                case.check(name, case.ys[0] if result is None else result)
        copies = _copies(case)
        timings = interleaved({**candidates, **copies}, rotation=case.rotation, seconds=how.seconds)
        yield {
            "op": case.op,
            "dtype": case.dtype,
            "shape": case.shape,
            "threads": threads,
            "device": "cpu",
            "seconds": _with_best_copy(timings),
        }


def _candidates(case: Case, threads: int, fast: Callable[[Tensor], Tensor] | None) -> Iterator[tuple[str, Run]]:
    yield "native", _native(case, threads)
    library = plugins.find("onnxruntime")
    runs = {"in ORT": on_onnx_runtime(case, threads, library) if library else None}
    runs["body"] = on_onnx_runtime(case, threads, None)
    for name, run in runs.items():
        if run is not None:
            yield name, run
    yield "eager", _torch(case, formula(case))
    if fast is not None:
        yield "compile", _torch(case, fast)
    if case.dtype != "int8":
        yield YARDSTICK, _torch(case, batch_norm(case))


def _native(case: Case, threads: int) -> Run:
    """The C function itself, by pointer: what a caller in C++ pays."""
    library, described = kernels.load(), native_norm(case)
    scale, bias = (values.data_ptr() for values in case.parameters)
    xs, ys = ([tensor.data_ptr() for tensor in tensors] for tensors in (case.xs, case.ys))
    return lambda i: library.run(described, xs[i], scale, bias, ys[i], threads)


def _torch(case: Case, function: Callable[[Tensor], Tensor]) -> Run:
    """PyTorch allocates its result, which is kept until the same buffer's next turn, as ys are."""
    kept: list[Tensor | None] = [None] * case.rotation

    def run(i: int) -> Tensor:
        kept[i] = result = function(case.xs[i])
        return result

    return run


def _copies(case: Case) -> dict[str, Run]:
    """memcpy and torch's copy of the tensor, and of the float32 tensor that an int8 one replaces."""

    def torch_copy(i: int) -> None:
        case.ys[i].copy_(case.xs[i])

    def memcpy(i: int) -> None:
        ctypes.memmove(case.ys[i].data_ptr(), case.xs[i].data_ptr(), case.bytes)

    runs: dict[str, Run] = {"torch copy": torch_copy, "memcpy": memcpy}
    if case.dtype == "int8":
        single = Case(case.kind, "float32", case.shape)
        count = single.rotation

        def torch_single(i: int) -> None:
            single.ys[i % count].copy_(single.xs[i % count])

        def memcpy_single(i: int) -> None:
            ctypes.memmove(single.ys[i % count].data_ptr(), single.xs[i % count].data_ptr(), single.bytes)

        runs.update({"torch copy of float32": torch_single, "memcpy of float32": memcpy_single})
    return runs


def _with_best_copy(timings: dict[str, Timing]) -> dict[str, dict[str, float]]:
    best = dict(timings)
    for what in ("copy", "copy of float32"):
        tail = what.removeprefix("copy")
        both = [best.pop(name) for name in (f"torch copy{tail}", f"memcpy{tail}") if name in best]
        if both:
            best[what] = min(both, key=lambda timing: timing.median)
    return {name: vars(timing) for name, timing in best.items()}
