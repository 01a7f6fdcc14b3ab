"""Random numbers at their mean: a layer that rounds at random rounds to the nearest."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_ATEN = torch.ops.aten
#: Uniform numbers between 0 and 1, and normal ones around 0.
_UNIFORM = (_ATEN.rand, _ATEN.rand_like)
_NORMAL = (_ATEN.randn, _ATEN.randn_like)


class WithoutNoise(TorchDispatchMode):
    """Within it, PyTorch draws the mean instead of random numbers: the deterministic forward of a noisy layer.

    Uniform and normal numbers only; dropout and masks are off in evaluation anyway.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch says no types there

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = func.overloadpacket
        if packet is _ATEN.uniform_:
            low, high = (*args[1:], *(kwargs.get(name, default) for name, default in (("from", 0.0), ("to", 1.0))))[:2]
            return args[0].fill_((low + high) / 2)
        if packet is _ATEN.normal_:
            return args[0].fill_(args[1] if len(args) > 1 else kwargs.get("mean", 0.0))
        drawn = func(*args, **kwargs)
        if packet in _UNIFORM:
            return drawn.fill_(0.5)
        return drawn.fill_(0.0) if packet in _NORMAL else drawn
