"""Threads of PyTorch's OpenMP under the compiled kernels, beside others: another OpenMP, other callers, a fork."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from normexport.nn.openmp import torchs_openmp
from normexport.nn.ops.native import native_norm
from normexport.plugins import kernels
from tests.plugins.cpu.kernel_cases import needs_library

pytestmark = needs_library

needs_openmp = pytest.mark.skipif(torchs_openmp() is None, reason="no OpenMP that can be told to be PyTorch's")


def step(seed: int = 0) -> list[bytes]:
    """Forward and backward of tensors that are shared out to threads, as bytes."""
    made = torch.Generator().manual_seed(seed)
    x = torch.randn(8, 6, 40, 40, generator=made).requires_grad_()
    one, zero = torch.ones(6), torch.zeros(6)
    y, mean, stat, _ = native_norm(x, one, zero, "l1", 1e-5, 0.0, 1, 1)
    (dx,) = torch.autograd.grad(y, x, torch.randn(x.shape, generator=made))
    return [bytes_of(each) for each in (y, mean, stat, dx)]


def bytes_of(tensor: Tensor) -> bytes:
    return tensor.detach().numpy().tobytes()


def libraries() -> dict[str, list[tuple[int, int]]]:
    """Where the libraries of this process lie, by path."""
    found: dict[str, list[tuple[int, int]]] = {}
    for line in Path("/proc/self/maps").read_text().splitlines():
        place, *_, path = line.split(maxsplit=5)
        start, end = (int(each, 16) for each in place.split("-"))
        found.setdefault(path, []).append((start, end))
    return found


@needs_openmp
def test_the_openmp_is_the_one_that_pytorch_links() -> None:
    address = torchs_openmp()
    assert address is not None
    (path,) = (path for path, places in libraries().items() if any(a <= address < b for a, b in places))
    linked = subprocess.run(["ldd", str(Path(torch.__file__).parent / "lib/libtorch_cpu.so")], capture_output=True)
    if linked.returncode:
        pytest.skip("ldd does not read PyTorch's library")
    names = [line.split(" => ")[1].split(" (")[0] for line in linked.stdout.decode().splitlines() if " => " in line]
    assert os.path.realpath(path) in [os.path.realpath(name) for name in names]


@needs_openmp
def test_another_openmp_with_threads_of_its_own_changes_nothing() -> None:
    """It is loaded and runs before ours, between two steps, and while PyTorch's threads watch for work."""
    others = [
        each for each in ("/usr/lib/x86_64-linux-gnu/libgomp.so.1", "/usr/lib64/libgomp.so.1") if Path(each).exists()
    ]
    if not others:
        pytest.skip("there is no other libgomp on this machine")
    script = f"""
import ctypes, torch
from normexport import nn
from normexport.nn import openmp
from tests.nn.test_native_threads import libraries, step
torch.set_num_threads(3)
right = step()
other = ctypes.CDLL({others[0]!r})
met = []
member = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: met.append(1))
other.GOMP_parallel(member, None, 3, 0)
assert len(met) == 3 and sum("libgomp" in path for path in libraries()) >= 2
torch.randn(1 << 20).exp()
openmp.torchs_openmp.cache_clear()
nn.use_native_kernels()
found = step()
other.GOMP_parallel(member, None, 2, 0)
assert found == step() == right and len(met) == 5
"""
    run_alone(script)


@needs_openmp
def test_a_forked_process_computes_the_same_on_threads_of_its_own() -> None:
    """PyTorch's own operators wait for ever there, where the parent had several threads: the kernels do not."""
    script = """
import os, torch
from normexport import nn
from tests.nn.test_native_threads import step
torch.set_num_threads(2)
nn.use_native_kernels()
right = step()
child = os.fork()
if child == 0:
    try:
        good = step() == right
        torch.set_num_threads(3)
        good &= step() == right
    finally:
        os._exit(0 if good else 1)
assert os.waitpid(child, 0)[1] == 0
assert step() == right
"""
    run_alone(script)


def run_alone(script: str) -> None:
    """In a process of its own, which is ended where it waits for ever."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@needs_openmp
def test_callers_on_several_threads_at_once_get_what_each_gets_alone() -> None:
    library, before = kernels.load(), torch.get_num_threads()
    ours, library.openmp = library.openmp, torchs_openmp()
    try:
        torch.set_num_threads(2)
        alone = [step(seed) for seed in range(4)]
        with ThreadPoolExecutor(4) as callers:
            for _ in range(3):
                assert list(callers.map(step, range(4))) == alone
    finally:
        library.openmp = ours
        torch.set_num_threads(before)
