"""Long means and sums the plain way: one number after the other.

PyTorch adds in cascades and is 1 u off (u: unit roundoff) however long the sum; ONNX Runtime's global average pool adds
one number after the other and is 5 u off at 28x28, 18 u at 112x112 and 41 u at 224x224, about 0.18 sqrt(n) u. Both are
honest float32. The baseline that parity measures by therefore adds the plain way too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from normexport.runtime.control_flow import ThroughControlFlow

_LONG = 64  # elements; below that cascades and plain sums differ by less than 1.5 u


class StraightSums(ThroughControlFlow):
    """While active, float32 `mean` and `sum` over `_LONG` elements or more are added one after the other.

    adaptive_avg_pool to size 1 arrives here as `mean`.
    """

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        mean = func is torch.ops.aten.mean.dim
        if (mean or func is torch.ops.aten.sum.dim_IntList) and args[0].dtype == torch.float32 and not kwargs:
            x, dims, *rest = args
            axes = [axis % x.dim() for axis in dims] if dims else list(range(x.dim()))
            if np.prod([x.shape[axis] for axis in axes]) >= _LONG:
                return _reduce_in_order(x, axes, keepdim=bool(rest and rest[0]), mean=mean)
        return self.called(func, args, kwargs)


def _reduce_in_order(x: torch.Tensor, axes: Sequence[int], *, keepdim: bool, mean: bool) -> torch.Tensor:
    kept = [axis for axis in range(x.dim()) if axis not in axes]
    columns = x.permute(*axes, *kept).reshape(-1, *(x.shape[axis] for axis in kept)).numpy()
    # cumsum keeps to float32 and to the order; numpy's own sum adds pairwise
    total = np.cumsum(columns, axis=0, dtype=np.float32)[-1]
    result = torch.from_numpy(np.array(total / np.float32(len(columns)) if mean else total))
    for axis in sorted(axes) if keepdim else ():
        result = result.unsqueeze(axis)
    return result
