"""Run a float32 torch model in float64: every weight, constant and explicit cast widened, nothing copied twice.

`model.double()` alone is not enough: code and exported programs name float32 themselves (`x.float()`, `_to_copy`,
`_assert_tensor_metadata`, constants lifted by torch.export), and each such place fails or silently rounds.
`InFloat64` rewrites them as they are dispatched. Weights above `LARGE` elements stay shared with the caller's model
and are widened where an operator reads them: for ResNet-50 that is 200 MB less at a cost of 20 ms a run.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

from normexport.dtypes import FLOAT64, FLOATS
from normexport.runtime.control_flow import ThroughControlFlow

LARGE = 1 << 16  # elements; smaller tensors (biases, running statistics) are converted once
_WIDE = {
    **{each.torch: torch.float64 for each in FLOATS.values() if each is not FLOAT64},
    torch.complex64: torch.complex128,
}


class InFloat64(ThroughControlFlow):
    """While active, every operator reads float64 where it was given, or told, a narrower type."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten._assert_tensor_metadata.default:
            return None  # an exported program asserting float32
        args, kwargs = tree_map(_widen, (args, kwargs or {}))
        return tree_map(_widen, self.called(func, args, kwargs))


def shared_copy(model: nn.Module) -> nn.Module:
    """A module tree of its own, in eval mode, whose parameters and buffers share the memory of `model`'s.

    Hooks and `eval()` on it leave `model` alone. Buffers are small and copied, so that a forward that writes
    one does not write into `model`.
    """
    memo = {id(tensor): _alias(tensor) for tensor in _tensors(model)}
    return copy.deepcopy(model, memo).eval()


def convert_small(model: nn.Module) -> None:
    """Convert the parameters and buffers below `LARGE` elements to float64, in place of `model`'s own."""
    model._apply(lambda tensor: _widen(tensor) if tensor.numel() < LARGE else tensor)


def _widen(value: Any) -> Any:
    if isinstance(value, torch.dtype):
        return _WIDE.get(value, value)
    if isinstance(value, torch.Tensor) and value.dtype in _WIDE:
        return value.to(_WIDE[value.dtype])
    return value


def _alias(tensor: torch.Tensor) -> torch.Tensor:
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(tensor.detach(), requires_grad=False)
    return tensor.detach().clone() if tensor.numel() < LARGE else tensor.detach()


def _tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    """Parameters, buffers and tensors kept as plain attributes (old weight_norm keeps `weight` so)."""
    yield from model.parameters()
    yield from model.buffers()
    for module in model.modules():
        yield from (value for value in vars(module).values() if isinstance(value, torch.Tensor))
