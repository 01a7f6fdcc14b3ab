"""The kernels for 64-bit ARM, built by a cross compiler, pass their C++ tests under qemu."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "build" / "aarch64"


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """A tool, at the root of the checkout."""
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)


def test_every_kind_and_type_is_right_on_neon() -> None:
    for tool in ("aarch64-linux-gnu-g++", "qemu-aarch64", "cmake", "ninja"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool}: apt install g++-aarch64-linux-gnu qemu-user cmake ninja-build")
    found = run(sys.executable, "plugins/headers.py", "build/headers", "highway")
    if found.returncode:
        pytest.skip(found.stderr.strip())
    toolchain = ROOT / "plugins" / "aarch64.cmake"
    made = run("cmake", "-S", "tests", "-B", FOLDER, "-G", "Ninja", "--toolchain", toolchain, "-DCUDA_INCLUDE=")
    assert made.returncode == 0, made.stderr
    done = run("ctest", "--test-dir", FOLDER, "-R", "^cpu", "--output-on-failure")
    assert "100% tests passed, 0 tests failed out of 26" in done.stdout, done.stdout[-4000:]
    assert len(re.findall(r"cpu\.NEON\.\w+\.\w+ \.+ +Passed", done.stdout)) == 25
    header = (FOLDER / "cpu" / "check_cpu").read_bytes()[:20]
    assert int.from_bytes(header[18:20], "little") == 183  # EM_AARCH64: what has passed is no program of this machine
