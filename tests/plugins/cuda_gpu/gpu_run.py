"""Runs the cases on a library of kernels and judges them: values, bytes, and the same bits every time."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from normexport import plugins
from normexport.plugins import kernels
from tests.plugins.cuda_emulated import expected
from tests.plugins.cuda_emulated.emulated import Norm, open_library, run, struct
from tests.plugins.cuda_gpu.gpu_cases import DeviceCase


@dataclass
class Family:
    """What came of all cases of one type and layout. worst: largest error over allowed error; of int8 always 0."""

    cases: int = 0
    worst: float = 0.0
    failures: list[str] = field(default_factory=list)


def judge(lib: ctypes.CDLL, cases: Iterable[DeviceCase], *, repeats: int = 2) -> dict[str, Family]:
    """Families by name, in the order of the cases. Each case runs `repeats` times and must give the same bits."""
    families: dict[str, Family] = {}
    for case in cases:
        family = families.setdefault(case.family, Family())
        family.cases += 1
        try:
            family.worst = max(family.worst, _one(lib, case, repeats))
        except AssertionError as error:
            family.failures.append(f"{case.norm} {case.shape} {dict(case.options)}: {error}")
    return families


def judge_side_by_side(library: Path, cases: Iterable[DeviceCase], jobs: int | None = None) -> dict[str, Family]:
    """`judge` in several processes, each with its own context on the GPU: what takes the time is float64 on the CPU."""
    listed, jobs = list(cases), jobs or min(8, os.cpu_count() or 1)
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        done = list(pool.map(_judge_file, [library] * jobs, [listed[start::jobs] for start in range(jobs)]))
    merged = {case.family: Family() for case in listed}
    for families in done:
        _merge(merged, families)
    return merged


def _judge_file(library: Path, cases: list[DeviceCase]) -> dict[str, Family]:
    return judge(open_library(library), cases)


def _merge(into: dict[str, Family], families: Mapping[str, Family]) -> None:
    for name, each in families.items():
        into[name].cases += each.cases
        into[name].worst = max(into[name].worst, each.worst)
        into[name].failures += each.failures


def _one(lib: ctypes.CDLL, case: DeviceCase, repeats: int) -> float:
    """The case's largest error over allowed error. Raises AssertionError with what is wrong."""
    x, scale, bias = expected.sample(case.norm, case.shape)
    options: dict[str, Any] = dict(case.options)
    results = [run(case.norm, x, scale, bias, lib=lib, **options) for _ in range(repeats)]
    for result in results:
        assert result.status == 0, f"status {result.status}: {result.message}"
        assert result.y.tobytes() == results[0].y.tobytes(), "two runs give different bits"
    y, right = results[0].y, expected.reference(case.norm, x, scale, bias)
    if case.norm.type == "int8":
        wrong = int(np.count_nonzero(y != right))
        assert not wrong, f"{wrong} of {y.size} bytes differ from the integer reference"
        if plugins.find("kernels"):
            wrong = int(np.count_nonzero(y != _on_cpu(case, x, scale, bias)))
            assert not wrong, f"{wrong} of {y.size} bytes differ from the CPU kernel's"
        return 0.0
    errors = expected.error(case.norm, y, right, scale, bias)
    worst = float(np.max(errors, initial=0.0))
    assert worst <= 1, f"error {worst:.3g} times the allowed one"
    return worst


def _on_cpu(case: DeviceCase, x: Any, scale: Any, bias: Any) -> Any:
    """The int8 norm by the CPU kernels, which know the packed LINEAR layout alone."""
    y, described = np.empty_like(x), struct(Norm(**{**vars(case.norm), "layout": "LINEAR", "pad": (0, 0)}), x.shape)
    x_at, scale_at, bias_at, y_at = (array.ctypes.data for array in (np.ascontiguousarray(x), scale, bias, y))
    norm = kernels.NxNorm.from_buffer_copy(described)
    kernels.load().run(norm, x_at, scale_at, bias_at, y_at, threads=1)
    return y
