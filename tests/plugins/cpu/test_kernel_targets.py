"""Every instruction set that this CPU has, and what the compiled library does to its process."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from normexport import plugins
from tests.plugins.cpu.kernel_cases import needs_library

pytestmark = [pytest.mark.slow, needs_library]

TARGETS = ["AVX3_DL", "AVX3", "AVX2", "SSE2"]

# Run where NORMEXPORT_CPU is set: a child process, for a library chooses once.
CHECK = """
import sys
sys.path[:0] = {paths!r}
from tests.plugins.cpu.kernel_cases import KINDS, case, check
from normexport import norms
from normexport.plugins import norm_call
if norm_call.target() != {target!r}:
    print("skip", norm_call.target())
    sys.exit()
for kind in KINDS:
    for dtype in ("float32", "float16", "float64"):
        for shape in [(3, 4, 7, 7), (2, 3, 65), (5, 33, 14, 14), (2, 2, 20001), (8, 200, 28, 28)]:
            check(kind, *case(shape, dtype), k=9, chunks=5, threads=2)
        offset = 0.0 if dtype == "float64" else 3.0  # there is no wider type to keep a float64 mean in
        check(kind, *case((2, 3, 31, 31), dtype, offset=offset), k=900, chunks=50, scope=norms.Scope.INSTANCE)
    for shape in [(3, 4, 7, 7), (2, 3, 65), (5, 33, 14, 14), (2, 2, 70001), (1, 1, 5)]:
        for k in (1, 5, min(200, shape[0] * shape[2])):
            x, scale, bias = case(shape, "float32", spread=50)
            q = x.clip(-128, 127).round().astype("int8")
            expected = norms.quantized_reference(norms.KINDS[kind], q, 30 * scale, 9 * bias, k=k)
            assert norm_call.norm(kind, q, 30 * scale, 9 * bias, k=k).tobytes() == expected.tobytes(), (kind, shape)
import numpy as np
for dtype in ("float16", "float32", "float64"):
    for poison in (np.nan, np.inf, -np.inf):
        x, scale, bias = case((2, 3, 70), dtype)
        x[1, 1, 69] = poison
        with np.errstate(all="ignore"):
            y = norm_call.norm("l1", x, scale, bias)
        assert np.isnan(y[:, 1]).all() and np.isfinite(y[:, ::2]).all(), dtype
halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
pairs = np.stack([-halves, halves])[None].transpose(0, 2, 1).copy()  # (1, 65536, 2): every float16, and its negative
one, zero = np.ones(1 << 16, np.float32), np.zeros(1 << 16, np.float32)
with np.errstate(all="ignore"):
    y = norm_call.norm("l2", pairs, one, zero, epsilon=1.0)
    exact = norms.reference(norms.KINDS["l2"], pairs, one, zero, epsilon=1.0)
    # float16 results of exact float32 ratios d / (d + 1): rounded twice, at most one unit apart
    assert np.array_equal(np.isnan(y), np.isnan(exact))
    assert np.nanmax(np.abs(y - exact) / np.maximum(np.abs(exact), 2.0**-14)) <= 2.0**-11 * 1.01
print("good")
"""


def child(code: str, **environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("target", TARGETS)
def test_every_instruction_set_gives_correct_results(target: str) -> None:
    paths = [str(Path(__file__).parents[2]), str(Path(__file__).parents[3])]
    said = child(CHECK.format(paths=paths, target=target), NORMEXPORT_CPU=target)
    if said[0] == "skip":
        pytest.skip(f"this CPU lacks {target} (best: {said[1]})")
    assert said == ["good"]


def test_an_unknown_instruction_set_is_ignored() -> None:
    code = "from normexport.plugins import norm_call; print(norm_call.target())"
    best = child(code, NORMEXPORT_CPU="")
    assert best[0] in TARGETS
    assert child(code, NORMEXPORT_CPU="AVX9") == best


def test_denormals_survive_the_library() -> None:
    # A fast-math object switches them off for the whole process as it is loaded.
    code = """
import ctypes, numpy as np
from normexport import plugins
from normexport.plugins import norm_call
tiny = np.array([[[1e-40, 2e-40, 5e-40]]], np.float32)
for kind in ("l1", "l2", "linf", "topk", "range"):
    norm_call.norm(kind, tiny, np.ones(1, np.float32), np.zeros(1, np.float32), k=1, threads=2)
small = np.full(1000, 2.0**-126, np.float32)
assert (small / np.float32(2)).all(), "flushed to zero"
assert (np.full(1000, 1e-40, np.float32) * np.float32(1)).all(), "denormals are zero"
y = norm_call.norm("linf", tiny, np.ones(1, np.float32), np.zeros(1, np.float32), epsilon=1.0)
assert y.any() and np.abs(y).max() < 1e-39, y
"""
    child(code)


def test_nothing_compiled_for_one_instruction_set_can_replace_code_of_another() -> None:
    # A weak symbol is merged with its namesakes at link time: an AVX-512 copy could then run on an older CPU.
    objects = sorted((plugins.build_folder() / "kernels" / "cpu").rglob("target.cpp.o"))
    if not objects or not shutil.which("nm"):
        pytest.skip("no objects of a build in this checkout, or no nm (binutils) to read them with")
    for path in objects:
        symbols = subprocess.run(["nm", str(path)], capture_output=True, text=True, check=True).stdout
        assert re.search(r" [RDB] .*kernels_", symbols)
        assert not re.findall(r"^.* [VWu] .*$", symbols, re.MULTILINE), path


def test_the_library_exports_the_interface_and_nothing_else() -> None:
    if not shutil.which("nm"):
        pytest.skip("no nm (binutils) to read the library with")
    path = str(plugins.require("kernels"))
    lines = subprocess.run(["nm", "-D", "--defined-only", path], capture_output=True, text=True, check=True).stdout
    names = {line.split()[-1] for line in lines.splitlines()}
    assert {"nx_cpu_norm", "nx_cpu_workspace", "nx_message", "nx_pool_create"} <= names
    assert all(name.startswith("nx_") for name in names)
