"""`RunningNorm`: a trained norm reduced to what it is at inference, whatever checkpoint it came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from normexport.dtypes import HALVES, torch_dtypes
from normexport.errors import CheckpointError
from normexport.nn.ops import call, running_norm
from normexport.norms import AffineParams, running_kind

_BUFFERS = ("mean", "inv_scale", "weight", "bias")


class RunningNorm(nn.Module):
    """`y = (x - mean) * inv_scale * weight + bias` on axis 1; inference only, all four are buffers of shape (C,).

    x (N, C, *space) of any floating type, y like x. The buffers are float32 (float64 on request) and stay so
    under `.half()` and `.bfloat16()`: 1/statistic of a nearly dead channel is 1e5 and overflows fp16.

    Args:
        params: the four vectors, float64.
        kind: which statistic `1/inv_scale` is: a key of `norms.KINDS`, "l1", or one of `norms.OTHER_RUNNING`.
        dtype: of the buffers.

    Raises:
        UsageError: unknown kind.
    """

    _version = 1
    mean: Tensor
    inv_scale: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, params: AffineParams, kind: str, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.kind = running_kind(kind)
        values = (params.mean, params.inv_scale, params.gamma, params.beta)
        for name, value in zip(_BUFFERS, values, strict=True):
            self.register_buffer(name, torch.tensor(value, dtype=dtype))

    @property
    def num_features(self) -> int:
        """C."""
        return self.mean.numel()

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, *space) -> y like x. Raises UsageError where axis 1 is not C or x is not floating."""
        y: Tensor = call(running_norm, x, self.mean, self.inv_scale, self.weight, self.bias, self.kind)
        return y

    def affine_params(self) -> AffineParams:
        """The four vectors, float64."""
        return AffineParams(*(getattr(self, name).detach().cpu().double().numpy() for name in _BUFFERS))

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, Any], prefix: str = "", kind: str | None = None) -> RunningNorm:
        """Rebuild the module stored under `prefix` ("bn1.") of a state_dict, with its dtype.

        The kind comes from the state_dict's metadata (which torch.save keeps) unless `kind` gives it.

        Raises:
            CheckpointError: a buffer is missing, or the metadata is gone and `kind` is not given.
        """
        metadata = getattr(state_dict, "_metadata", {}).get(prefix[:-1], {})
        kind = kind or metadata.get("kind")
        missing = [prefix + name for name in _BUFFERS if prefix + name not in state_dict]
        if missing or kind is None:
            raise CheckpointError(
                prefix[:-1] or "state_dict",
                f"no {', '.join(missing)}" if missing else "its metadata is gone, so the kind of norm is unknown",
                "" if missing else "pass kind=",
            )
        values = [state_dict[prefix + name] for name in _BUFFERS]
        params = AffineParams(*(value.detach().cpu().double().numpy() for value in values))
        return cls(params, kind, dtype=values[0].dtype)

    def extra_repr(self) -> str:
        return f"{self.num_features}, kind={self.kind!r}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> RunningNorm:
        def keep_precision(value: Tensor) -> Tensor:
            moved = fn(value)
            return value.to(moved.device) if moved.dtype in torch_dtypes(HALVES) else moved

        super()._apply(keep_precision, recurse)  # type: ignore[no-untyped-call]  # torch says no types there
        return self

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]]["kind"] = self.kind
