"""The CUDA kernels under sanitizers: no byte read or written out of place, and no data race.

Under ThreadSanitizer every CUDA thread is a thread of its own, and CUDA's own barriers, atomics and fences alone order
them. That is slow: a few cases here, many more by `make tsan`.
"""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path

import pytest

from normexport.plugins.cuda import LAYOUTS
from tests.plugins.cuda_emulated import emulation_build
from tests.plugins.cuda_emulated.emulated import KINDS, TYPES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(emulation_build.missing() is not None, reason=emulation_build.missing() or ""),
]


def case(
    kind: str,
    dtype: str,
    layout: str,
    shape: tuple[int, int, int],
    compute_capability: int,
    *,
    instance: bool = False,
    seed: int = 0,
) -> str:
    """A line for run_cases.cpp: k and chunks as large as is interesting, samples packed."""
    n = shape[2] if instance else shape[0] * shape[2]
    words = [KINDS[kind], TYPES[dtype], LAYOUTS[layout], int(instance), *shape, 0, 0, min(n, 10), 5, compute_capability]
    return " ".join(map(str, [*words, seed]))


def run_cases(program: str, cases: list[str], folder: Path) -> None:
    """Run them all; the failure names the case that was running."""
    (folder / "cases").write_text("\n".join(cases))
    done = emulation_build.run_sanitized(emulation_build.build(program), folder / "cases")
    running = done.stdout.splitlines()[-1:]
    assert done.returncode == 0, f"case {running}\n{done.stderr[-6000:]}"
    assert f"{len(cases)} cases, 0 bad" in done.stderr


@pytest.mark.parametrize("dtype", TYPES)
def test_kernels_keep_to_their_memory(dtype: str, tmp_path: Path) -> None:
    cases = []
    for kind, layout in product(KINDS, LAYOUTS):
        for instance, shape in product((False, True), [(2, 5, 63), (2, 9, 16), (1, 3, 1), (1, 2, 300)]):
            cases.append(case(kind, dtype, layout, shape, 90, instance=instance))
        cases.append(case(kind, dtype, layout, (2, 17, 49), 75, seed=3))
    for kind, layout, compute_capability in product(KINDS, ("LINEAR", "CHW4", "HWC8"), (75, 90)):
        cases.append(case(kind, dtype, layout, (3, 2, 5000), compute_capability))
    cases += [case("l1", dtype, "LINEAR", (5, 1, 31360), 90), case("linf", dtype, "LINEAR", (5, 1, 31361), 90)]
    run_cases("run_cases_asan", cases, tmp_path)


def test_kernels_have_no_data_race(tmp_path: Path) -> None:
    cases = [case(kind, dtype, "HWC8", (2, 8, 20), 90) for kind, dtype in product(KINDS, ("float32", "int8"))]
    run_cases("run_cases_tsan", cases, tmp_path)


def run_thread_sanitizer(folder: Path) -> None:
    cases = []
    for kind, dtype, layout in product(KINDS, TYPES, ("LINEAR", "CHW4", "HWC8")):
        cases.append(case(kind, dtype, layout, (2, 8, 130), 75))
        cases.append(case(kind, dtype, layout, (2, 3, 130), 90, seed=1))
    cases += [case(kind, dtype, "LINEAR", (4, 1, 20_000), 90) for kind, dtype in product(KINDS, TYPES)]
    run_cases("run_cases_tsan", cases, folder)


if __name__ == "__main__":
    if reason := emulation_build.missing():
        sys.exit(reason)
    target = emulation_build.ROOT / "build" / "emulation"
    target.mkdir(parents=True, exist_ok=True)
    run_thread_sanitizer(target)
    print("no data race")
