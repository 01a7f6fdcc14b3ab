"""Bounded weight norm: each slice of a weight keeps one fixed norm, whatever training does to its length.

Hoffer et al. 2018, "Norm matters", section 4: w = rho * v / ||v||_p with one rho per layer, its initial norm.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from normexport.errors import UsageError
from normexport.nn import ops
from normexport.nn.ops.support import work_dtype


class BoundedWeightNorm(nn.Module):
    """Parametrization `w = rho * v / ||v||_p`; see `bounded_weight_norm`, which makes and registers it.

    Attributes:
        rho: buffer (1,), or (O, 1, ...) broadcastable to v: the norm of every slice.
        axis: the slices' axis; -1 is the whole tensor as one slice.
        p: order of the norm, infinity included.
    """

    _version = 1
    rho: Tensor

    def __init__(self, rho: Tensor, axis: int, p: float) -> None:
        super().__init__()
        self.axis, self.p = axis, p
        self.register_buffer("rho", rho)

    def forward(self, v: Tensor) -> Tensor:
        """v of the weight's shape -> w like v."""
        w: Tensor = ops.call(ops.bounded_weight_norm, v, self.rho, self.axis, self.p)
        return w

    def right_inverse(self, w: Tensor) -> Tensor:
        """Assigning a weight sets its direction; its length is rho's."""
        return w

    def extra_repr(self) -> str:
        return f"axis={self.axis}, p={self.p}"

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]].update(axis=self.axis, p=self.p)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *rest: Any
    ) -> None:
        stored = (local_metadata.get("axis", self.axis), local_metadata.get("p", self.p))
        if stored != (self.axis, self.p):
            error_msgs: list[str] = rest[-1]
            error_msgs.append(
                f"{prefix[:-1]}: stored with axis={stored[0]}, p={stored[1]}, and this weight norm has "
                f"axis={self.axis}, p={self.p}; build it with the stored ones"
            )
            return
        self.give_room(state_dict.get(prefix + "rho"))
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)

    def give_room(self, rho: Any) -> None:
        """Make room for a stored rho of each slice, where this one is of the layer."""
        sizes = list(rho.shape) if isinstance(rho, Tensor) else []
        if len(sizes) > max(self.axis, 0) and all(size == 1 for i, size in enumerate(sizes) if i != self.axis):
            self.rho = self.rho.new_empty(sizes)


def bounded_weight_norm(module: nn.Module, name: str = "weight", dim: int | None = 0, p: float = 2.0) -> nn.Module:
    """Keep the p-norm of each slice of `module.<name>` at one rho per layer; returns the module.

    The parameter becomes v (state_dict key `parametrizations.<name>.original`) and the weight is computed from
    it: `w = rho * v / ||v||_p`, the norm over all axes but `dim`. rho (`parametrizations.<name>.0.rho`, (1,)) is
    `(mean over slices of ||v_i||_p^p)^(1/p)` at first, so the p-norm of the whole weight is what it was.

    Args:
        module: Linear, Conv1d to 3d, or any module with such a parameter.
        name: of the parameter.
        dim: axis of the output channels: 0 for Linear and Conv, **1 for ConvTranspose** (with groups its slices
            are shared by the groups). None takes the whole tensor as one slice: then w is v at first.
        p: order of the norm, infinity included.

    Raises:
        UsageError: no such parameter or axis, p not positive, or a slice that is all zero (it has no direction).
    """
    place = f"{type(module).__name__}.{name}"
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        raise UsageError(place, "is not a tensor of this module", "name a parameter")
    if parametrize.is_parametrized(module, name):
        raise UsageError(place, "is parametrized already", "remove that parametrization first")
    if not p > 0:
        raise UsageError(place, f"p = {p} is not a norm", "choose p > 0, infinity included")
    rho, axis = _initial_norm(weight.detach(), _axis(place, weight, dim), p, place)
    parametrize.register_parametrization(module, name, BoundedWeightNorm(rho, axis, p))
    return module


def remove_bounded_weight_norm(module: nn.Module, name: str = "weight") -> nn.Module:
    """Make `module.<name>` a plain parameter again, equal to the normalised weight; returns the module.

    Raises:
        UsageError: the parameter does not have this parametrization, or has others besides.
    """
    place = f"{type(module).__name__}.{name}"
    found: list[Any] = []
    if parametrize.is_parametrized(module, name):
        found = list(module.parametrizations[name])  # type: ignore[index]  # a ModuleDict, which is said of no attribute
    if not any(isinstance(each, BoundedWeightNorm) for each in found):
        raise UsageError(place, "has no bounded weight norm", "apply bounded_weight_norm first")
    if len(found) > 1:
        raise UsageError(place, "has other parametrizations besides", "remove them all by torch.nn.utils.parametrize")
    return parametrize.remove_parametrizations(module, name, leave_parametrized=True)


def _axis(place: str, weight: Tensor, dim: int | None) -> int:
    if dim is None:
        return -1
    if not -weight.dim() <= dim < weight.dim():
        raise UsageError(place, f"has no axis {dim}, its shape is {tuple(weight.shape)}", "choose dim among its axes")
    return dim % weight.dim()


def _initial_norm(weight: Tensor, axis: int, p: float, place: str) -> tuple[Tensor, int]:
    values = weight.to(work_dtype(weight))
    norms = ops.slice_norms(values, axis, p).reshape(-1)
    for channel in (norms == 0).nonzero().flatten().tolist():
        where = "" if axis == -1 else f" in slice {channel} of axis {axis}"
        raise UsageError(place, f"is all zero{where} and so has no direction", "initialise it first")
    # The p-mean of the slices' norms: ||v||_p / slices^(1/p); for p = inf it is the largest of them.
    return (torch.linalg.vector_norm(values, p) / len(norms) ** (1 / p)).reshape(1), axis
