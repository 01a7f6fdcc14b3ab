"""Weight norms by hooks, written from the formulas of public training code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


class HookedWeight:
    """Weight norm by a hook that recomputes the weight before each forward, as all the originals do."""

    def __init__(self, name: str, dim: int | None, p: int = 2) -> None:
        self.name, self.dim, self.p = name, dim, p

    def __call__(self, module: Any, inputs: Any) -> None:
        setattr(module, self.name, self.compute(module))

    def compute(self, module: Any) -> torch.Tensor:
        """The weight that the module's parts mean."""
        raise NotImplementedError

    def norms(self, v: torch.Tensor) -> torch.Tensor:
        if self.dim is None:
            return v.norm(self.p)
        return torch.linalg.vector_norm(v, self.p, dim=[a for a in range(v.dim()) if a != self.dim], keepdim=True)

    def apply(self, module: Any, fixed: str) -> Any:
        """Turn `module.<name>` into its parts; `fixed` is a buffer's key suffix. Returns the module."""
        weight = module._parameters.pop(self.name)
        module.register_parameter(f"{self.name}_v", nn.Parameter(weight.data))
        self.register(module, weight.data, f"{self.name}{fixed}")
        self(module, None)
        module.register_forward_pre_hook(self)
        return module

    def register(self, module: Any, weight: torch.Tensor, fixed: str) -> None:
        module.register_buffer(fixed, self.norms(weight).mean().reshape(1))


class NormMattersBwn(HookedWeight):
    """v * (prenorm/||g||2) * g/||v||p: g stays per channel, the layer's norm is bounded."""

    def register(self, module: Any, weight: torch.Tensor, fixed: str) -> None:
        g = nn.Parameter(self.norms(weight))
        module.register_parameter(f"{self.name}_g", g)
        module.register_buffer(fixed, g.data.norm().reshape(1))

    def compute(self, module: Any) -> torch.Tensor:
        g, v = module.weight_g, module.weight_v
        return v * ((module.weight_g_prenorm / g.norm()) * g / self.norms(v))


class NormMattersBwnAlt(HookedWeight):
    def compute(self, module: Any) -> torch.Tensor:
        return module.weight_v * (module.weight_v_prenorm / self.norms(module.weight_v))


class ConvNetBwn(HookedWeight):
    """Its hook divides v in place, in evaluation too."""

    def compute(self, module: Any) -> torch.Tensor:
        module.weight_v.data.div_(self.norms(module.weight_v.data))
        return module.weight_v * (module.weight_init_norm / self.norms(module.weight_v))


class QuantizedBwn(HookedWeight):
    def register(self, module: Any, weight: torch.Tensor, fixed: str) -> None:
        module.register_buffer(fixed, self.norms(weight).mean())

    def compute(self, module: Any) -> torch.Tensor:
        return module.weight_v * (module.weight_prenorm / self.norms(module.weight_v))


#: Layout -> how it makes a layer of one.
BOUNDED: dict[str, Callable[..., Any]] = {
    "norm-matters-bwn": lambda layer, dim=0, p=2: NormMattersBwn("weight", dim, p).apply(layer, "_g_prenorm"),
    "norm-matters-bwn-alt": lambda layer, dim=0, p=2: NormMattersBwnAlt("weight", dim).apply(layer, "_v_prenorm"),
    "convnet-bwn": lambda layer, dim=0, p=2: ConvNetBwn("weight", dim).apply(layer, "_init_norm"),
    "quantized-bwn": lambda layer, dim=0, p=2: QuantizedBwn("weight", dim, p).apply(layer, "_prenorm"),
}
