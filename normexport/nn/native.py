"""Compiled kernels for modules, where the caller asks for them: `use_native_kernels`.

Off by default: the plain PyTorch modules are what everything else is compared with.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import _get_current_dispatch_mode

from normexport.nn.openmp import torchs_openmp
from normexport.nn.ops.native import EagerNorm, has_channels_side_by_side, native_norm
from normexport.nn.ops.support import work_dtype
from normexport.norms import Scope
from normexport.norms import kind as kind_of
from normexport.norms.constants import chunk_layout
from normexport.plugins.kernels import TYPES, Kernels, load, number_of
from normexport.plugins.kernels import NxNorm as Description

#: Range keeps some numbers of every chunk: of shorter chunks than this they would take as much memory as x.
_SHORTEST_CHUNK = 64


class LiveNorm(Protocol):
    """What a kernel needs to know of a module; `k` and `chunks` where its kind has them."""

    kind: ClassVar[str]
    scope: ClassVar[Scope]
    num_groups: int
    eps: float

    correction: float


class _Chosen(threading.local):
    """What this thread computes with. Thread-local: torch.compile reads it, and compiles again where it changes."""

    kernels: Kernels | None = None


_chosen = _Chosen()


class use_native_kernels:  # named as torch.set_grad_enabled, which it works like
    """From the call on, in this thread, modules compute statistics of a batch by the compiled CPU kernels.

    Also a context manager, at whose end it is again as before; `use_native_kernels(False)` switches off.

        use_native_kernels()
        train(model)

    In training, and wherever a gradient is recorded, that is a batch norm of float32 or float64 numbers on the CPU,
    contiguous or channels_last; forward, backward and torch.compile. In evaluation it is every norm without running
    statistics, where x is contiguous and nothing is traced. Every other call computes as ever: synchronised statistics,
    torch.func, other devices, kinds that no kernel computes, Range of chunks of fewer than 64 elements. Results agree
    with PyTorch's within rounding, and do not depend on the number of threads, which is torch.get_num_threads(); they
    are PyTorch's own, where it computes by OpenMP.

    Raises:
        MissingComponent: the kernel library is not built, or is of another version.
    """

    def __init__(self, enabled: bool = True) -> None:
        self._before = _chosen.kernels
        _chosen.kernels = _load() if enabled else None

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        _chosen.kernels = self._before


def _load() -> Kernels:
    """The kernels, on PyTorch's own threads where they can be found."""
    kernels = load()
    kernels.openmp = torchs_openmp()
    return kernels


def serves(norm: LiveNorm, x: Tensor, *parameters: Tensor | None) -> bool:
    """Whether the compiled kernels take a call of that norm in evaluation."""
    if torch.compiler.is_compiling() or _chosen.kernels is None or kind_of(norm.kind).native is None:
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
    kernels = _chosen.kernels
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


def trains(norm: LiveNorm, x: Tensor, *parameters: Tensor | None) -> bool:
    """Whether the compiled kernels take a call of that norm where a gradient may be asked for."""
    if _chosen.kernels is None or norm.scope.is_instance or norm.num_groups or torch.compiler.is_exporting():
        return False
    tensors = [x, *(each for each in parameters if each is not None)]
    return (
        kind_of(norm.kind).native is not None
        and x.dtype in (torch.float32, torch.float64)
        and all(each.device.type == "cpu" and each.layout == torch.strided for each in tensors)
        and (x.is_contiguous() or has_channels_side_by_side(x))
        and ("chunks" not in kind_of(norm.kind).parameters or _has_long_chunks(x, getattr(norm, "chunks", 1)))
        and (torch.compiler.is_compiling() or _is_plain(x))
    )


def _has_long_chunks(x: Tensor, chunks: int) -> bool:
    n = x.numel() // max(x.shape[1], 1)
    return n > 0 and chunk_layout(n, chunks)[0] >= _SHORTEST_CHUNK


def _is_plain(x: Tensor) -> bool:
    """Whether nothing traces or transforms the call."""
    return (
        type(x) in (Tensor, torch.nn.Parameter)
        and torch._C._get_tracing_state() is None
        and _get_current_dispatch_mode() is None
        and torch._C._functorch.peek_interpreter_stack() is None
        and forward_ad._current_level < 0
    )


def train(norm: LiveNorm, x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(y, mean, stat) of `norm.live(x)`, for an x that `trains` accepts; differentiable, twice."""
    how: tuple[Any, ...] = (norm.kind, norm.eps, norm.correction, getattr(norm, "k", 1), getattr(norm, "chunks", 1))
    compute: Any = native_norm if torch.compiler.is_compiling() else EagerNorm.apply
    y, mean, stat, _ = compute(x, weight, bias, *how)
    return y, mean, stat
