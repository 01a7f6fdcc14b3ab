"""Modules under `use_native_kernels`: they train as without, in eager and in compiled code; and what stays as ever."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import normexport
from normexport import nn as nxn
from normexport.errors import MissingComponent, UsageError
from normexport.nn import native
from normexport.plugins import kernels, training_call
from tests.narrow import present
from tests.nn.formulas import KINDS, TITLES
from tests.plugins.cpu.kernel_cases import needs_library

pytestmark = needs_library


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Which passes the compiled kernels ran."""
    seen: list[str] = []
    run = training_call.run

    def noted(*args: Any) -> None:
        seen.append(type(args[2]).__name__)
        run(*args)

    monkeypatch.setattr(training_call, "run", noted)
    yield seen
    assert native._chosen.kernels is None


def module(kind: str, dims: int = 2, **how: Any) -> nxn.Norm:
    torch.manual_seed(4)
    made: nxn.Norm = getattr(nxn, f"{TITLES[kind]}BatchNorm{dims}d")(6, **how)
    with torch.no_grad():
        made.weight.uniform_(0.5, 2)
        made.bias.normal_()
    return made


def trained(norm: nxn.Norm, x: Tensor, g: Tensor, call: Any = None) -> list[Tensor]:
    """Two steps: y, gradients, buffers."""
    for _ in range(2):
        norm.zero_grad()
        x = x.detach().requires_grad_()
        y = (norm if call is None else call)(x)
        y.backward(g)
    grads = [present(present(each).grad) for each in (x, norm.weight, norm.bias)]
    return [y.detach(), *grads, *(each.clone().double() for each in norm.buffers())]


@pytest.mark.parametrize("size", [(64, 6), (64, 6, 17), (16, 6, 9, 8), (8, 6, 3, 9, 5)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_a_module_trains_as_without_them(kind: str, size: tuple[int, ...], steps: list[str]) -> None:
    how = {"chunks": 1} if kind == "range" else {}
    dims = {2: 1, 3: 1, 4: 2, 5: 3}[len(size)]
    x, g = torch.randn(size) * 3 + 1, torch.randn(size)
    right = trained(module(kind, dims, **how), x, g)
    assert not steps
    with normexport.nn.use_native_kernels():
        found = trained(module(kind, dims, **how), x, g)
    assert steps == ["NxForward", "NxBackward"] * 2
    for a, b in zip(found, right, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_they_are_switched_on_and_off_by_a_call_or_for_a_block_and_in_this_thread_alone() -> None:
    elsewhere: list[Any] = []
    try:
        nxn.use_native_kernels()
        assert native._chosen.kernels is not None
        thread = threading.Thread(target=lambda: elsewhere.append(native._chosen.kernels))
        thread.start()
        thread.join()
        with nxn.use_native_kernels(False):
            assert native._chosen.kernels is None
        assert native._chosen.kernels is not None
    finally:
        nxn.use_native_kernels(False)
    assert native._chosen.kernels is None
    assert elsewhere == [None]


def test_backward_may_come_after_the_block_and_from_any_layout(steps: list[str]) -> None:
    x = torch.randn(8, 6, 9, 9).contiguous(memory_format=torch.channels_last).requires_grad_()
    for g in (torch.ones(()).expand(8, 6, 9, 9), torch.randn(9, 6, 9, 8).transpose(0, 3)):
        norm = module("topk")
        with nxn.use_native_kernels():
            y = norm(x)
        (dx,) = torch.autograd.grad(y, x, g)
        (right,) = torch.autograd.grad(module("topk")(x), x, g)
        torch.testing.assert_close(dx, right, rtol=1e-4, atol=1e-5)
    assert steps == ["NxForward", "NxBackward"] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_compiled_code_calls_them_without_a_break_and_follows_the_switch(kind: str, steps: list[str]) -> None:
    torch.compiler.reset()
    norm, x, g = module(kind), torch.randn(16, 6, 9, 9), torch.randn(16, 6, 9, 9)
    call = torch.compile(norm, backend="aot_eager", fullgraph=True)
    right = trained(module(kind), x, g)
    with nxn.use_native_kernels():
        found = trained(norm, x, g, call)
    assert steps == ["NxForward", "NxBackward"] * 2
    for a, b in zip(found, right, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    trained(norm, x, g, call)
    assert len(steps) == 4


class Programs:
    """What torch.compile makes of modules, counted."""

    def __init__(self) -> None:
        torch.compiler.reset()
        self.count = 0

    def compile(self, module: nn.Module) -> Any:
        return torch.compile(module, backend=self._keep, fullgraph=True)

    def _keep(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        self.count += 1
        return graph.forward


def test_a_network_of_many_norms_is_one_program_and_the_switch_makes_one_more() -> None:
    """More norms than dynamo keeps programs of a function (8); and what was compiled once serves again."""
    programs = Programs()
    net = nn.Sequential(*(module(kind) for _ in range(3) for kind in KINDS))
    assert len(net) > torch._dynamo.config.recompile_limit
    call, counts = programs.compile(net), []
    for natively in (False, True, False, True):
        with nxn.use_native_kernels(natively):
            call(torch.randn(16, 6, 9, 9, requires_grad=True)).sum().backward()
        counts.append(programs.count)
    assert counts == [1, 2, 2, 2]


def test_norms_compiled_one_by_one_take_a_program_where_a_batch_norm_of_pytorch_does() -> None:
    def count(norm: Callable[[int], nn.Module], widths: list[int]) -> int:
        programs = Programs()
        for width in widths:
            programs.compile(norm(width))(torch.randn(4, width, 5, 5, requires_grad=True))
        return programs.count

    for widths, expected in (([4] * 5, 1), ([4, 5, 6, 7, 4], 4)):
        assert count(nxn.L1BatchNorm2d, widths) == count(nn.BatchNorm2d, widths) == expected


@pytest.mark.slow
@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("kind", KINDS)
def test_inductor_keeps_them_as_calls_in_a_network(kind: str, last: bool, steps: list[str]) -> None:
    """One graph of the whole, whose compiled code calls forward and backward; gradients are those of eager code."""
    torch.compiler.reset()
    torch.manual_seed(0)
    norm = module(kind, **({"chunks": 1} if kind == "range" else {}))
    net = nn.Sequential(nn.Conv2d(3, 6, 3, bias=False), norm, nn.ReLU(), nn.Conv2d(6, 2, 1))
    x = torch.randn(16, 3, 9, 9)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    results = []
    call = torch.compile(net, fullgraph=True)
    for forward in (net, call):
        net.zero_grad()
        norm.reset_running_stats()
        with normexport.nn.use_native_kernels(forward is call):
            try:
                forward(x).square().sum().backward()
            except torch._inductor.exc.InductorError as error:
                pytest.skip(f"inductor found no C++ compiler: {error}")
        grads = [present(each.grad).clone() for each in net.parameters()]
        results.append([*grads, *(each.clone().double() for each in norm.buffers())])
    assert steps == ["NxForward", "NxBackward"]
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4 * float(b.abs().max()))


@pytest.mark.parametrize(
    ("norm", "x"),
    [
        (nxn.L1BatchNorm2d(6), torch.randn(4, 6, 5, 5).bfloat16()),
        (nxn.L1BatchNorm2d(6), torch.randn(4, 6, 5, 5).transpose(2, 3)),
        (nxn.L1InstanceNorm2d(6), torch.randn(4, 6, 5, 5)),
        (nxn.L1GroupNorm(2, 6), torch.randn(4, 6, 5, 5)),
        (nxn.RangeBatchNorm2d(6), torch.randn(4, 6, 5, 5)),  # of chunks of 7
    ],
    ids=["bfloat16", "transposed", "instance", "group", "short chunks"],
)
def test_other_calls_compute_as_ever(norm: Any, x: Tensor, steps: list[str]) -> None:
    x.requires_grad_()
    right = norm(x).float().square().sum()
    with nxn.use_native_kernels():
        found = norm(x).float().square().sum()
    found.backward()
    assert not steps
    assert torch.equal(found, right)


def test_transforms_and_exports_compute_as_ever(steps: list[str]) -> None:
    norm, x = nxn.L1BatchNorm2d(6, track_running_stats=False), torch.randn(4, 6, 5, 5)

    def loss(x: Tensor) -> Tensor:
        return norm(x).square().sum()

    with nxn.use_native_kernels():
        torch.func.grad(loss)(x)
        torch.func.jvp(loss, (x,), (x,))
        program = torch.export.export(norm, (x,))
    assert not steps
    assert "native_norm" not in str(program.graph)
    assert "live_norm" in str(program.graph)


def test_too_large_a_k_is_refused_as_in_eager() -> None:
    norm = nxn.TopKBatchNorm2d(2, k=9)
    with nxn.use_native_kernels(), pytest.raises(UsageError, match="9 largest of the 8 elements"):
        norm(torch.randn(2, 2, 2, 2))


def test_a_missing_library_is_one_line_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORMEXPORT_PLUGIN_DIR", str(tmp_path))
    kernels.load.cache_clear()
    try:
        with pytest.raises(MissingComponent, match="normexport plugins build"):
            nxn.use_native_kernels()
        nxn.use_native_kernels(False)  # needs none
    finally:
        kernels.load.cache_clear()
    assert native._chosen.kernels is None
