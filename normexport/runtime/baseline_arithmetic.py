"""The arithmetic that the baseline has in common with runtimes, and PyTorch has not: plain sums, sigmoids around 1/2.

PyTorch adds in cascades and is 1 u off (u: unit roundoff) however long the sum; ONNX Runtime's global average pool adds
one number after the other and is 5 u off at 28x28, 18 u at 112x112 and 41 u at 224x224, about 0.18 sqrt(n) u.

PyTorch's sigmoid errs by a rounding of its result; ONNX Runtime's is 1/2 and an odd function of x, and errs by one of
1/2 however small the result: 4e-8 where sigmoid(x) is 1e-4, and PyTorch's error 3e-11. SiLU, GLU and the gates of an
LSTM are made of it.

All are honest float32. The baseline that parity measures by therefore adds the plain way, and rounds sigmoids so.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from normexport.runtime.control_flow import ThroughControlFlow

_LONG = 64  # elements; below that cascades and plain sums differ by less than 1.5 u

_ATEN = torch.ops.aten
_SUMS = (_ATEN.mean.dim, _ATEN.sum.dim_IntList)
_GATES = (_ATEN.sigmoid.default, _ATEN.sigmoid_.default, _ATEN.silu.default, _ATEN.silu_.default)


def plain_arithmetic(model: nn.Module) -> AbstractContextManager[Any]:
    """While active, float32 arithmetic of this model's is as the module's text says."""
    stack = ExitStack()
    if any(map(_is_lstm, model.modules())):  # oneDNN's layer is one operator, whose gates nothing sees
        stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
    stack.enter_context(PlainArithmetic())
    return stack


def _is_lstm(module: nn.Module) -> bool:
    """Whether it is one, or a graph that calls one."""
    graph = getattr(module, "graph", None)
    called = graph.nodes if isinstance(graph, torch.fx.Graph) else ()
    return isinstance(module, nn.LSTM) or any("lstm" in str(node.target) for node in called)


class PlainArithmetic(ThroughControlFlow):
    """While active, float32 `mean` and `sum` over `_LONG` elements or more add in order, and sigmoids round 1/2.

    adaptive_avg_pool to size 1 arrives here as `mean`.
    """

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _SUMS and args[0].dtype == torch.float32 and args[0].dim() and args[0].numel() and not kwargs:
            x, dims, *rest = args
            axes = [axis % x.dim() for axis in dims] if dims else list(range(x.dim()))
            if np.prod([x.shape[axis] for axis in axes]) >= _LONG:
                return _reduce_in_order(x, axes, keepdim=bool(rest and rest[0]), mean=func is _ATEN.mean.dim)
        if func in _GATES and args[0].dtype == torch.float32:
            x = args[0]
            result = _sigmoid(x) * x if "silu" in str(func) else _sigmoid(x)
            return x.copy_(result) if str(func).endswith("_.default") else result
        if func is _ATEN.glu.default and args[0].dtype == torch.float32:
            value, gate = args[0].chunk(2, args[1] if len(args) > 1 else -1)
            return value * _sigmoid(gate)
        return self.called(func, args, kwargs)


def _sigmoid(x: Tensor) -> Tensor:
    """sigmoid(x), below 1/2 off by a rounding of 1/2; never 0 where it is not."""
    exact = torch.sigmoid(x)
    rounded = (exact + 0.5) - 0.5
    return torch.where((rounded > 0) & (exact < 0.5), rounded, exact)


def _reduce_in_order(x: Tensor, axes: Sequence[int], *, keepdim: bool, mean: bool) -> Tensor:
    kept = [axis for axis in range(x.dim()) if axis not in axes]
    columns = x.permute(*axes, *kept).reshape(-1, *(x.shape[axis] for axis in kept)).numpy()
    # cumsum keeps to float32 and to the order; numpy's own sum adds pairwise
    total = np.cumsum(columns, axis=0, dtype=np.float32)[-1]
    result = torch.from_numpy(np.array(total / np.float32(len(columns)) if mean else total))
    for axis in sorted(axes) if keepdim else ():
        result = result.unsqueeze(axis)
    return result
