"""Refuse NaN and Inf at the door, by name and channel."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from normexport.checkpoint.recognise import Stored
from normexport.errors import CheckpointError
from normexport.text import channels

_REMEDY = "take a checkpoint from before the training diverged"


def require_finite_norm(stored: Stored) -> None:
    """Refuse a norm whose statistics or affine parameters are NaN or Inf.

    Raises:
        CheckpointError: naming the module path, the key and the channels.
    """
    for key, value in ((key, _computable(value)) for key, value in stored.values.items()):
        if _is_finite(value):
            continue
        bad = torch.nonzero(~torch.isfinite(value.reshape(-1))).reshape(-1).tolist()
        what = "NaN" if bool(torch.isnan(value).any()) else "infinite"
        raise CheckpointError(stored.path or "the norm", f"{key} is {what} in {channels(bad)}", _REMEDY)


def require_finite(tensors: Mapping[str, Tensor], may_be_infinite: Collection[str] = ()) -> None:
    """Refuse NaN anywhere, and Inf but in the named tensors (attention masks are buffers of -inf).

    Raises:
        CheckpointError: naming the first such tensor and how many of its elements are bad.
    """
    for key, value in ((key, _computable(value)) for key, value in tensors.items()):
        if _is_finite(value):
            continue
        bad = torch.isnan(value) if key in may_be_infinite else ~torch.isfinite(value)
        count = int(bad.sum())
        if count:
            what = "NaN" if bool(torch.isnan(value).any()) else "infinite"
            raise CheckpointError(key, f"is {what} in {count} of {value.numel()} elements", _REMEDY)


def _computable(value: Tensor) -> Tensor:
    """`value` in a type that PyTorch computes in, which numbers of 8 bits are not."""
    return value.float() if value.itemsize == 1 and value.is_floating_point() else value


def _is_finite(value: Tensor) -> bool:
    """NaN and Inf survive a sum, which is four times as fast as looking at each element; a sum may overflow."""
    if not value.is_floating_point() or bool(torch.isfinite(value.sum())):
        return True
    return bool(torch.isfinite(value).all())
