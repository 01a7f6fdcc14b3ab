"""Instance norms of every kind: drop-in for torch.nn.InstanceNorm1d, 2d and 3d."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from normexport.nn.base import Norm


class InstanceNorm(Norm):
    """Statistics over space alone, (N, C). See `Norm` for arguments, formulas and errors.

    As in torch.nn.InstanceNorm there are no affine parameters and no running statistics unless asked for, and x
    may lack its batch axis. Running statistics are averages over the samples of a batch. Unlike there, momentum
    None averages over all batches and `num_batches_tracked` counts them.

    One element per channel gives bias in evaluation; in training it is a ValueError.
    """

    instance = True

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, **kwargs)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, *space) or (C, *space) of any floating type -> y like x."""
        self._check_rank(x)
        dim = x.dim() - min(self.ranks)
        if self.affine or self.track_running_stats:
            self._check_features(x, dim)
        elif x.shape[dim] != self.num_features:
            warnings.warn(
                f"input has {x.shape[dim]} channels, not num_features ({self.num_features}), which is not used "
                "because affine=False and track_running_stats=False",
                stacklevel=3,
            )
        return super().forward(x) if dim == 1 else super().forward(x.unsqueeze(0)).squeeze(0)

    def _check_input(self, x: Tensor) -> None:
        if self.training and x.numel() == x.shape[0] * x.shape[1]:
            raise ValueError(f"Expected more than 1 spatial element when training, got input size {x.shape}")


class InstanceNorm1d(InstanceNorm):
    """Of (N, C, L) or (C, L)."""

    ranks = (2, 3)


class InstanceNorm2d(InstanceNorm):
    """Of (N, C, H, W) or (C, H, W)."""

    ranks = (3, 4)


class InstanceNorm3d(InstanceNorm):
    """Of (N, C, D, H, W) or (C, D, H, W)."""

    ranks = (4, 5)


class L1InstanceNorm1d(InstanceNorm1d, kind="l1"):
    """L1 instance norm of (N, C, L) or (C, L)."""


class L1InstanceNorm2d(InstanceNorm2d, kind="l1"):
    """L1 instance norm of (N, C, H, W) or (C, H, W)."""


class L1InstanceNorm3d(InstanceNorm3d, kind="l1"):
    """L1 instance norm of (N, C, D, H, W) or (C, D, H, W)."""


class LinfInstanceNorm1d(InstanceNorm1d, kind="linf"):
    """Linf instance norm of (N, C, L) or (C, L)."""


class LinfInstanceNorm2d(InstanceNorm2d, kind="linf"):
    """Linf instance norm of (N, C, H, W) or (C, H, W)."""


class LinfInstanceNorm3d(InstanceNorm3d, kind="linf"):
    """Linf instance norm of (N, C, D, H, W) or (C, D, H, W)."""


class TopKInstanceNorm1d(InstanceNorm1d, kind="topk"):
    """TopK instance norm of (N, C, L) or (C, L)."""


class TopKInstanceNorm2d(InstanceNorm2d, kind="topk"):
    """TopK instance norm of (N, C, H, W) or (C, H, W)."""


class TopKInstanceNorm3d(InstanceNorm3d, kind="topk"):
    """TopK instance norm of (N, C, D, H, W) or (C, D, H, W)."""


class RangeInstanceNorm1d(InstanceNorm1d, kind="range"):
    """Range instance norm of (N, C, L) or (C, L)."""


class RangeInstanceNorm2d(InstanceNorm2d, kind="range"):
    """Range instance norm of (N, C, H, W) or (C, H, W)."""


class RangeInstanceNorm3d(InstanceNorm3d, kind="range"):
    """Range instance norm of (N, C, D, H, W) or (C, D, H, W)."""


class L2InstanceNorm1d(InstanceNorm1d, kind="l2"):
    """L2 instance norm of (N, C, L) or (C, L)."""


class L2InstanceNorm2d(InstanceNorm2d, kind="l2"):
    """L2 instance norm of (N, C, H, W) or (C, H, W)."""


class L2InstanceNorm3d(InstanceNorm3d, kind="l2"):
    """L2 instance norm of (N, C, D, H, W) or (C, D, H, W)."""
