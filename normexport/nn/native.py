"""Compiled kernels for modules in evaluation, where the caller asks for them.

    with normexport.nn.use_native_kernels():
        y = model(x)

Off by default: the plain PyTorch modules are what everything else is compared with.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import ClassVar, Protocol

import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from normexport.nn.ops.support import work_dtype
from normexport.norms import Scope
from normexport.norms import kind as kind_of
from normexport.plugins.kernels import TYPES, Kernels, load, number_of
from normexport.plugins.kernels import NxNorm as Description


class LiveNorm(Protocol):
    """What a kernel needs to know of a module; `k` and `chunks` where its kind has them."""

    kind: ClassVar[str]
    scope: ClassVar[Scope]
    num_groups: int
    eps: float

    correction: float


_active: ContextVar[Kernels | None] = ContextVar("native kernels", default=None)


@contextmanager
def use_native_kernels() -> Iterator[None]:
    """Within it, in this thread, modules that compute live statistics in evaluation do so by the compiled kernels.

    That is the norms without running statistics, in `eval()`, where x is a plain contiguous tensor on the CPU, no
    gradient is recorded, a kernel computes that kind, and nothing traces, compiles or transforms the call; every other
    call computes as ever. Results agree with PyTorch's within float32 rounding, see
    `normexport.plugins.norm_call.norm`.

    Raises:
        MissingComponent: on entry: the kernel library is not built, or is of another version.
    """
    token = _active.set(load())
    try:
        yield
    finally:
        _active.reset(token)


def serves(norm: LiveNorm, x: Tensor, *parameters: Tensor | None) -> bool:
    """Whether the compiled kernels take a call of that norm."""
    if torch.compiler.is_compiling() or _active.get() is None or kind_of(norm.kind).native is None:
        return False
    tensors = [x, *(each for each in parameters if each is not None)]
    return (
        type(x) is Tensor
        and all(each.device.type == "cpu" and each.layout == torch.strided for each in tensors)
        and x.is_contiguous()
        and str(x.dtype)[6:] in TYPES
        and x.is_floating_point()
        and not (torch.is_grad_enabled() and any(each.requires_grad for each in tensors))
        and torch._C._get_tracing_state() is None
        and _get_current_dispatch_mode() is None
        and torch._C._functorch.peek_interpreter_stack() is None
    )


def live(norm: LiveNorm, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """y of `norm.live(x)`, for an x that `serves` accepts.

    Raises:
        UsageError: k exceeds the elements reduced.
    """
    kernels = _active.get()
    assert kernels is not None
    y = torch.empty_like(x)
    scale, shift = (each.detach().to(work_dtype(x)).contiguous() for each in (weight, bias))
    description = Description(
        kind=number_of(norm.kind),
        type=TYPES[str(x.dtype)[6:]],
        instance=norm.scope.is_instance,
        batch=x.shape[0],
        channels=x.shape[1],
        space=x[:1, :1].numel() if x.numel() else 0,
        k=getattr(norm, "k", 1),
        chunks=getattr(norm, "chunks", 1),
        epsilon=norm.eps,
        correction=norm.correction,
        num_groups=norm.num_groups,
    )
    vectors = scale.data_ptr(), shift.data_ptr()
    kernels.run(description, x.data_ptr(), vectors[0], vectors[1], y.data_ptr(), torch.get_num_threads())
    return y
