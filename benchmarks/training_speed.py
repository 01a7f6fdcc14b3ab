"""What a training step of a norm costs beside torch.nn.BatchNorm2d: forward and backward, eagerly and compiled.

    PYTHONPATH=. python benchmarks/training_speed.py [--rounds 15] [--threads 1] [--compile] [--channels-last]
                                                     [--only L1 Linf] [--no-memory]

Ratios of medians of processor time (of wall time with several threads, whose waiting is no work), all layers in turn in
one run; "native" is the norm under `use_native_kernels`, where the kernel library is built, "formula" the norm in
PyTorch's operators with the gradient of automatic differentiation. The allocator keeps the pages that it has: else it
gives them back and takes them anew, in one layer's step or another's as chance has it, for longer than a native step
takes. Memory is what the step adds at its peak beside x and the gradient of y, in copies of x, each layer in a process
of its own.
"""

from __future__ import annotations

import argparse
import ctypes
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from normexport import nn as nxn
from normexport import plugins
from normexport.nn.ops import live_formula
from normexport.norms import KINDS

BASE = "torch.nn.BatchNorm2d"
SHAPES = ((32, 64, 56, 56), (64, 256, 14, 14))
MEMORY_SHAPE = (64, 64, 112, 112)


class FormulaNorm(nn.Module):
    """The formula of a kind, differentiated automatically."""

    def __init__(self, kind: str, channels: int) -> None:
        super().__init__()
        self.kind = kind
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return live_formula.norm(x, self.weight, self.bias, self.kind, False, 1e-5, 0.0, 10, 16)[0]


class NativeNorm(nn.Module):
    """A norm on the compiled kernels."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        with nxn.use_native_kernels():
            normed: Tensor = self.norm(x)
        return normed


def layers(channels: int) -> dict[str, nn.Module]:
    made: dict[str, nn.Module] = {BASE: nn.BatchNorm2d(channels)}
    for kind in KINDS.values():
        norm = getattr(nxn, f"{kind.title}BatchNorm2d")
        if plugins.find("kernels") is not None:
            made[f"{kind.title}, native"] = NativeNorm(norm(channels))
        made[kind.title] = norm(channels)
        made[f"{kind.title}, formula"] = FormulaNorm(kind.name, channels)
    return made


def compiled(layers: Mapping[str, nn.Module]) -> dict[str, Any]:
    """Layers compiled, beside an eager BatchNorm2d; the switch to native kernels stays outside, as in a training loop.

    All norms share one forward function, of which dynamo keeps eight programs and runs what comes then eagerly, without
    an error: here there is room for all, and an error.
    """
    torch._dynamo.config.recompile_limit = 8 * len(layers)
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    torch._inductor.config.force_disable_caches = True
    made: dict[str, Any] = {BASE: layers[BASE]}
    for name, layer in layers.items():
        own = NativeNorm(torch.compile(layer.norm)) if isinstance(layer, NativeNorm) else torch.compile(layer)
        made[f"{name}, compiled" if name == BASE else name] = own
    return made


def step(layer: Callable[[Tensor], Tensor], x: Tensor, g: Tensor) -> None:
    x.grad = None
    layer(x).backward(g)


def times(steps: Mapping[str, Callable[[Tensor], Tensor]], x: Tensor, rounds: int) -> dict[str, float]:
    """Milliseconds of each, in turn."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    g = torch.randn_like(x)
    x = x.clone().requires_grad_()
    found: dict[str, list[float]] = {name: [] for name in steps}
    for index in range(rounds + 2):
        for name, layer in steps.items():
            start = clock()
            step(layer, x, g)
            if index >= 2:  # the first steps compile, and find memory
                found[name].append(1e3 * (clock() - start))
    return {name: statistics.median(each) for name, each in found.items()}


def keep_memory() -> None:
    """Of glibc: what was freed stays this process's, however large. Another allocator is left as it is."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    trim_threshold, mmap_max = -1, -4
    for parameter, value in ((trim_threshold, 2**31 - 1), (mmap_max, 0)):
        if mallopt is not None:
            mallopt(parameter, value)


def peak_copies(name: str) -> float:
    """Copies of x that a step adds to the process at its peak."""
    torch.set_num_threads(1)
    layer = layers(MEMORY_SHAPE[1])[name]
    step(layer, torch.randn(2, MEMORY_SHAPE[1], 8, 8, requires_grad=True), torch.randn(2, MEMORY_SHAPE[1], 8, 8))
    x, g = torch.randn(MEMORY_SHAPE, requires_grad=True), torch.randn(MEMORY_SHAPE)
    # From here on the peak counts, not that of what was imported.
    Path("/proc/self/clear_refs").write_text("5")
    before = _peak_bytes()
    step(layer, x, g)
    return (_peak_bytes() - before) / (x.numel() * 4)


def _peak_bytes() -> int:
    """Of memory of this process, since its peak was reset."""
    line = next(each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def memory() -> dict[str, float]:
    found = {}
    for name in layers(1):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found[name] = pool.apply(peak_copies, (name,))
    return found


def show(title: str, columns: Sequence[Mapping[str, float]]) -> None:
    print(f"\n| {title} | " + " | ".join("x".join(map(str, shape)) for shape in SHAPES) + " |")
    for name in columns[0]:
        print(f"| {name} | " + " | ".join(f"{each[name]:.2f}" for each in columns) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="compile all layers; ratios are to eager BatchNorm2d's")
    parser.add_argument("--channels-last", action="store_true", help="the memory format of x and of the gradient of y")
    parser.add_argument("--only", nargs="*", default=[each.title for each in KINDS.values()], help="kinds")
    parser.add_argument("--no-memory", action="store_true", help="measure times alone")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    keep_memory()
    columns = []
    for shape in SHAPES:
        wanted = (BASE, *arguments.only)
        steps: dict[str, Any] = {name: each for name, each in layers(shape[1]).items() if name.startswith(wanted)}
        if arguments.compile:
            steps = compiled(steps)
        form = torch.channels_last if arguments.channels_last else torch.contiguous_format
        found = times(steps, torch.randn(shape).contiguous(memory_format=form), arguments.rounds)
        own = found[BASE]
        columns.append({name: value / own for name, value in found.items()})
        torch.compiler.reset()
    show("compiled" if arguments.compile else "eager", columns)
    if not (arguments.compile or arguments.no_memory):
        print("\n| copies of x at the peak |")
        for name, copies in memory().items():
            print(f"| {name} | {copies:.2f} |", flush=True)


if __name__ == "__main__":
    main()
