"""What torch asks of an operator: gradients, honest fakes, and tracing by compile and export."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from normexport.nn.ops import bounded_weight_norm, live_norm, running_norm
from tests.nn.formulas import KINDS

pytestmark = pytest.mark.slow


def tensors(
    dtype: torch.dtype = torch.float64, shape: tuple[int, ...] = (3, 2, 4, 3), seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Distinct values (no ties, where max and topk have no gradient), requiring gradients."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    scale, bias = (torch.randn(shape[1], generator=generator, dtype=torch.float64) for _ in range(2))
    return x.requires_grad_(), scale.requires_grad_(), bias.requires_grad_()


def gradcheck(function: Callable[..., Any], *arguments: Any) -> bool:
    """The first gradients, of the arguments that require one, against finite differences."""
    return torch.autograd.gradcheck(function, arguments)


def gradgradcheck(function: Callable[..., Any], *arguments: Any) -> bool:
    """The second gradients."""
    return torch.autograd.gradgradcheck(function, arguments)


def how(kind: str, instance: bool) -> tuple[Any, ...]:
    return (kind, instance, 1e-3, 0.0, 3, 4)


@pytest.mark.parametrize("instance", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_live_norm_gradients_match_finite_differences(kind: str, instance: bool) -> None:
    """Of y, mean and stat, for x, scale and bias."""
    assert gradcheck(live_norm, *tensors(), *how(kind, instance))


@pytest.mark.parametrize("kind", KINDS)
def test_live_norm_second_gradients_match_finite_differences(kind: str) -> None:
    inputs = tensors(shape=(3, 2, 3))
    assert gradgradcheck(live_norm, *inputs, *how(kind, False))


def test_live_norm_gradient_of_l2_is_torch_batch_norms() -> None:
    x, scale, bias = tensors(shape=(8, 2, 5))
    cotangent = torch.randn(8, 2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    y = live_norm(x, scale, bias, "l2", False, 0.0, 0.0, 1, 1)[0]
    expected = torch.nn.functional.batch_norm(x, None, None, scale, bias, True, 0.0, 1e-30)
    gradients = [torch.autograd.grad(each, (x, scale, bias), cotangent) for each in (y, expected)]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_constant_channels_have_finite_gradients(kind: str) -> None:
    x = torch.full((4, 2, 3), 5.0, requires_grad=True)
    live_norm(x, torch.ones(2), torch.zeros(2), kind, False, 1e-5, 0.0, 3, 2)[0].square().sum().backward()
    assert x.grad.isfinite().all()


def test_running_norm_gradients_match_finite_differences() -> None:
    x, scale, bias = tensors()
    mean, inv_scale = tensors(seed=1)[1:]
    assert gradcheck(running_norm, x, mean, inv_scale, scale, bias, "l1")
    assert gradgradcheck(running_norm, x, mean, inv_scale, scale, bias, "l1")


@pytest.mark.parametrize("axis", [-1, 0, 1])
@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, float("inf")])
def test_weight_norm_gradients_match_finite_differences(axis: int, p: float) -> None:
    v, rho = tensors()[0], torch.tensor([1.7], dtype=torch.float64, requires_grad=True)
    assert gradcheck(bounded_weight_norm, v, rho, axis, p)


def layouts() -> dict[str, torch.Tensor]:
    x = torch.randn(4, 3, 6, 5, generator=torch.Generator().manual_seed(3))
    return {
        "contiguous": x,
        "channels last": x.contiguous(memory_format=torch.channels_last),
        "transposed": x.transpose(2, 3),
        "sliced": x[::2, :, 1:],
        "expanded": x[:1].expand(4, 3, 6, 5),
        "two axes": x[:, :, 0, 0],
        "half": x.half(),
        "bfloat16": x.bfloat16(),
    }


@pytest.mark.parametrize("layout", list(layouts()))
def test_fakes_and_schemas_are_honest_in_every_layout(layout: str) -> None:
    x = layouts()[layout]
    vectors = [torch.rand(3, requires_grad=True) for _ in range(4)]
    whole = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
    checks = whole if layout in ("contiguous", "channels last", "bfloat16") else whole[:3]
    torch.library.opcheck(running_norm, (x, *vectors, "l1"), test_utils=checks)
    live = (x.detach().requires_grad_(), *vectors[:2])
    torch.library.opcheck(live_norm, (*live, *how("topk", False)), test_utils=checks)
    torch.library.opcheck(live_norm, (*live, *how("range", x.dim() > 2)), test_utils=checks)
    for rho in (torch.tensor(2.0), torch.ones(1), torch.ones(x.shape[0], *[1] * (x.dim() - 1))):
        arguments = (x.detach().requires_grad_(), rho, 0, 2.0)
        torch.library.opcheck(bounded_weight_norm, arguments, test_utils=checks)


@pytest.mark.parametrize("kind", KINDS)
def test_training_compiles_without_a_break_and_once_for_all_batch_sizes(kind: str) -> None:
    torch._dynamo.reset()
    counters.clear()
    compiled = torch.compile(lambda *a: live_norm(*a)[0].sin().sum(), fullgraph=True, backend="aot_eager")
    for n in (4, 5, 7):
        _, scale, bias = tensors()
        x = tensors(shape=(n, 2, 6))[0].detach()
        torch._dynamo.mark_dynamic(x, 0)
        x.requires_grad_()
        outcome = compiled(x, scale, bias, *how(kind, False))
        ours = torch.autograd.grad(outcome, (x, scale, bias))
        eager = live_norm(x, scale, bias, *how(kind, False))[0].sin().sum()
        expected = torch.autograd.grad(eager, (x, scale, bias))
        for a, b in zip((outcome, *ours), (eager, *expected), strict=True):
            torch.testing.assert_close(a, b)
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize("kind", KINDS)
def test_live_statistics_export_with_a_dynamic_batch(kind: str) -> None:
    class Live(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return live_norm(x, torch.ones(2), torch.zeros(2), *how(kind, False))[0]

    batch = torch.export.Dim("batch", min=1, max=64)
    example = torch.randn(4, 2, 5)
    program = torch.export.export(Live(), (example,), dynamic_shapes=({0: batch},))
    targets = [node.target for node in program.graph.nodes]
    assert targets.count(torch.ops.normexport.live_norm.default) == 1
    for n in (1, 9):
        x = torch.randn(n, 2, 5, generator=torch.Generator().manual_seed(n))
        torch.testing.assert_close(program.module()(x), Live()(x))
