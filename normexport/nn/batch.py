"""Batch norms of every kind: drop-in for torch.nn.BatchNorm1d, 2d and 3d."""

from __future__ import annotations

from torch import Tensor

from normexport.nn.base import Norm


class BatchNorm(Norm):
    """Statistics over N and space, (C,). See `Norm` for arguments, formulas and errors.

    One element per channel gives bias in evaluation; in training it is a ValueError, as in torch.nn.BatchNorm.
    """

    instance = False

    def _check_input(self, x: Tensor) -> None:
        self._check_rank(x)
        self._check_features(x, 1)
        if self.training and x.numel() == x.shape[1]:
            raise ValueError(f"Expected more than 1 value per channel when training, got input size {x.shape}")


class BatchNorm1d(BatchNorm):
    """Of (N, C) or (N, C, L)."""

    ranks = (2, 3)


class BatchNorm2d(BatchNorm):
    """Of (N, C, H, W)."""

    ranks = (4,)


class BatchNorm3d(BatchNorm):
    """Of (N, C, D, H, W)."""

    ranks = (5,)


class L1BatchNorm1d(BatchNorm1d, kind="l1"):
    """L1 batch norm of (N, C) or (N, C, L)."""


class L1BatchNorm2d(BatchNorm2d, kind="l1"):
    """L1 batch norm of (N, C, H, W)."""


class L1BatchNorm3d(BatchNorm3d, kind="l1"):
    """L1 batch norm of (N, C, D, H, W)."""


class LinfBatchNorm1d(BatchNorm1d, kind="linf"):
    """Linf batch norm of (N, C) or (N, C, L)."""


class LinfBatchNorm2d(BatchNorm2d, kind="linf"):
    """Linf batch norm of (N, C, H, W)."""


class LinfBatchNorm3d(BatchNorm3d, kind="linf"):
    """Linf batch norm of (N, C, D, H, W)."""


class TopKBatchNorm1d(BatchNorm1d, kind="topk"):
    """TopK batch norm of (N, C) or (N, C, L)."""


class TopKBatchNorm2d(BatchNorm2d, kind="topk"):
    """TopK batch norm of (N, C, H, W)."""


class TopKBatchNorm3d(BatchNorm3d, kind="topk"):
    """TopK batch norm of (N, C, D, H, W)."""


class RangeBatchNorm1d(BatchNorm1d, kind="range"):
    """Range batch norm of (N, C) or (N, C, L)."""


class RangeBatchNorm2d(BatchNorm2d, kind="range"):
    """Range batch norm of (N, C, H, W)."""


class RangeBatchNorm3d(BatchNorm3d, kind="range"):
    """Range batch norm of (N, C, D, H, W)."""


class L2BatchNorm1d(BatchNorm1d, kind="l2"):
    """L2 batch norm of (N, C) or (N, C, L)."""


class L2BatchNorm2d(BatchNorm2d, kind="l2"):
    """L2 batch norm of (N, C, H, W)."""


class L2BatchNorm3d(BatchNorm3d, kind="l2"):
    """L2 batch norm of (N, C, D, H, W)."""
