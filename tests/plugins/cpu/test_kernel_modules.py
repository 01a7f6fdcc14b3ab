"""Modules in evaluation on the compiled kernels: only where asked for, and only where they can serve."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from normexport import nn, norms
from normexport.errors import UsageError
from normexport.norms import Scope
from normexport.plugins import kernels
from tests.plugins.cpu.kernel_cases import EPSILON, KINDS, allowed_error, needs_library

pytestmark = needs_library


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """How often a compiled kernel ran."""
    seen: list[Any] = []
    run = kernels.Kernels.run

    def noted(self: kernels.Kernels, *args: Any) -> None:
        seen.append(args)
        run(self, *args)

    monkeypatch.setattr(kernels.Kernels, "run", noted)
    return seen


def built(kind: str, instance: bool = False, **how: Any) -> nn.Norm:
    title = norms.KINDS[kind].title
    torch.manual_seed(0)
    module = getattr(nn, f"{title}{'Instance' if instance else 'Batch'}Norm2d")(
        6, eps=EPSILON, affine=True, track_running_stats=False, **how
    )
    with torch.no_grad():
        module.weight.uniform_(0.5, 2)
        module.bias.normal_()
    return module.eval()


@pytest.mark.parametrize("instance", [False, True], ids=["batch", "instance"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_module_gives_the_formula_by_a_compiled_kernel(kind: str, instance: bool, calls: list[Any]) -> None:
    module, x = built(kind, instance), torch.randn(3, 6, 9, 9)
    with torch.no_grad(), nn.use_native_kernels():
        y = module(x)
    assert len(calls) == 1
    weight, bias = module.weight.detach().numpy(), module.bias.detach().numpy()
    exact = norms.reference(norms.KINDS[kind], x.numpy(), weight, bias, epsilon=EPSILON, scope=Scope.of(instance))
    assert (abs(y.double().numpy() - exact) <= allowed_error(exact, bias, "float32")).all()


def test_pytorch_computes_unless_asked(calls: list[Any]) -> None:
    module, x = built("l1"), torch.randn(3, 6, 9, 9)
    with torch.no_grad():
        with nn.use_native_kernels():
            pass
        module(x)
    assert not calls


def test_gradients_training_and_other_memory_stay_with_pytorch(calls: list[Any]) -> None:
    module, x = built("l1"), torch.randn(3, 6, 9, 9)
    with nn.use_native_kernels():
        module(x).sum().backward()
        assert module.weight.grad is not None
        with torch.no_grad():
            module(x.to(memory_format=torch.channels_last))
            module(torch.nn.Parameter(x))  # a subclass of Tensor
            module.train()(x)
            nn.L1BatchNorm2d(6).eval()(x)  # running statistics
    assert not calls


def test_tracing_and_transforms_stay_with_pytorch(calls: list[Any]) -> None:
    module, x = built("linf"), torch.randn(2, 6, 4, 4)
    with torch.no_grad(), nn.use_native_kernels():
        expected = torch.func.vmap(module)(torch.stack([x, x]))[1]
        torch.export.export(module, (x,))
        traced = make_fx(module)(x)
        compiled = torch.compile(module, backend="eager")(x)
    assert not calls
    assert torch.allclose(expected, module(x), atol=1e-6)
    assert torch.allclose(traced(x), expected, atol=1e-6)
    assert torch.allclose(compiled, expected, atol=1e-6)


def test_too_large_a_k_is_the_same_error(calls: list[Any]) -> None:
    module = built("topk", instance=True, k=99)
    with torch.no_grad(), nn.use_native_kernels(), pytest.raises(UsageError, match="k"):
        module(torch.randn(2, 6, 3, 3))


def test_an_empty_batch_gives_an_empty_result(calls: list[Any]) -> None:
    with torch.no_grad(), nn.use_native_kernels():
        assert built("l1")(torch.zeros(0, 6, 3, 3)).shape == (0, 6, 3, 3)
    assert len(calls) == 1
