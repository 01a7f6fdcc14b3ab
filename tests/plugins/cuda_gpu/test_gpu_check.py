"""The device check itself: its judgement on the emulated kernels everywhere, on a GPU's own where there is one."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.plugins.cuda_emulated import emulation_build, expected
from tests.plugins.cuda_emulated.emulated import Norm, Result, library
from tests.plugins.cuda_gpu import gpu_build, gpu_check, gpu_run
from tests.plugins.cuda_gpu.gpu_cases import DeviceCase, large_cases, odd_cases, sanitizer_lines
from tests.plugins.cuda_gpu.gpu_report import Report

emulated = pytest.mark.skipif(emulation_build.missing() is not None, reason=emulation_build.missing() or "")
on_gpu = pytest.mark.skipif(gpu_check.missing() is not None, reason=gpu_check.missing() or "")


@emulated
def test_emulated_kernels_pass_the_judgement_of_the_device() -> None:
    families = gpu_run.judge(library(), itertools.islice(odd_cases(), 0, None, 97))
    assert sum(each.cases for each in families.values()) > 20
    assert not [line for each in families.values() for line in each.failures]


@emulated
@pytest.mark.slow
def test_processes_side_by_side_judge_what_one_does() -> None:
    cases = list(itertools.islice(odd_cases(), 0, None, 197))
    path = emulation_build.build("normexport_emulated")
    assert gpu_run.judge_side_by_side(path, cases, jobs=2) == gpu_run.judge(library(), cases)


#: Every run is a stand-in.
NO_LIBRARY: Any = None


@pytest.mark.parametrize(
    ("dtype", "spoil", "words"),
    [
        ("float32", lambda y: y + np.float32(1e-4), "times the allowed one"),
        ("int8", lambda y: y ^ 1, "bytes differ"),
        ("float16", lambda y: np.full_like(y, np.nan), "times the allowed one"),
    ],
)
def test_wrong_results_are_failures(
    monkeypatch: pytest.MonkeyPatch, dtype: str, spoil: Callable[..., Any], words: str
) -> None:
    case = DeviceCase(Norm("l1", dtype), (2, 3, 40))
    x, scale, bias = expected.sample(case.norm, case.shape)
    right = expected.reference(case.norm, x, scale, bias).astype(x.dtype)
    monkeypatch.setattr(gpu_run, "run", lambda *_, **__: Result(0, spoil(right), "", ()))
    (family,) = gpu_run.judge(NO_LIBRARY, [case]).values()
    assert len(family.failures) == 1
    assert words in family.failures[0]


def test_results_that_change_from_run_to_run_are_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    case = DeviceCase(Norm("l1", "float32"), (2, 3, 40))
    x, scale, bias = expected.sample(case.norm, case.shape)
    right = expected.reference(case.norm, x, scale, bias).astype(np.float32)
    runs = iter([right, np.nextafter(right, np.float32(9))])
    monkeypatch.setattr(gpu_run, "run", lambda *_, **__: Result(0, next(runs), "", ()))
    (family,) = gpu_run.judge(NO_LIBRARY, [case]).values()
    assert "different bits" in family.failures[0]


def test_a_status_is_a_failure_and_the_report_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpu_run, "run", lambda *_, **__: Result(8, np.zeros(1), "an illegal memory access", ()))
    families = gpu_run.judge(NO_LIBRARY, [DeviceCase(Norm("topk", "int8", "HWC8"), (2, 3, 40))])
    report = Report({"GPU": "none"})
    report.families("odd shapes", families, 1.0)
    report.write(tmp_path / "report.md")
    assert report.bad == 1
    assert "an illegal memory access" in (tmp_path / "report.md").read_text()


def test_the_cases_cover_every_kind_type_and_layout() -> None:
    seen = {(c.norm.kind, c.norm.type, c.norm.layout, c.norm.instance) for c in odd_cases()}
    assert len(seen) == 5 * 4 * 7 * 2
    assert {c.norm.layout for c in large_cases()} >= {"LINEAR", "HWC8", "CHW32"}
    assert len(set(sanitizer_lines())) == len(list(sanitizer_lines()))


@on_gpu
def test_every_kernel_is_right_on_this_gpu(tmp_path: Path) -> None:
    from tests.plugins.cuda_emulated.emulated import open_library

    harness = gpu_build.build(tmp_path, gpu_check._architecture())["harness"]
    families = gpu_run.judge(open_library(harness), odd_cases())
    assert not [line for each in families.values() for line in each.failures]
