"""A C++ engineer's way to the same kernels: ctest, from the build folder."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.plugins.cuda_emulated import emulation_build

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(emulation_build.missing() is not None, reason=emulation_build.missing() or ""),
]


def ctest(*words: str) -> subprocess.CompletedProcess[str]:
    """What ctest says of the emulation's build folder; it builds what the tests need."""
    emulation_build.build("normexport_emulated")  # and the list of tests, where it is older than its source
    with emulation_build.configured() as folder:
        return subprocess.run(["ctest", "--test-dir", str(folder), *words], capture_output=True, text=True)


def test_ctest_checks_the_kernels_against_their_formulas_and_the_probes() -> None:
    done = ctest("-R", r"^emulated\.(topk\.int8|l1\.float16)$|^probes\.plain", "--output-on-failure")
    assert done.returncode == 0, done.stdout[-4000:]
    assert re.search(r"100% tests passed, 0 tests failed out of 4", done.stdout)


def test_ctest_knows_every_kind_and_type_and_both_sanitizers() -> None:
    listed = ctest("-N").stdout
    for kind in ("l1", "linf", "topk", "range", "l2"):
        for dtype in ("float32", "float16", "bfloat16", "int8"):
            assert f"emulated.{kind}.{dtype}\n" in listed
    assert {"asan", "tsan"} <= set(re.findall(r"emulated\.(\w+)\.", listed))
