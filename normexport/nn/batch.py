"""Batch norms of every kind: drop-in for torch.nn.BatchNorm1d, 2d and 3d."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from normexport.nn.base import Norm
from normexport.nn.derived import class_named
from normexport.norms import Scope


class BatchNorm(Norm):
    """Statistics over N and space, (C,). See `Norm` for arguments, formulas and errors.

    One element per channel gives bias in evaluation; in training it is a ValueError, as in torch.nn.BatchNorm.
    """

    scope = Scope.BATCH

    def _check_input(self, x: Tensor) -> None:
        self._check_rank(x)
        self._check_features(x, 1)
        if self.training and x.numel() == x.shape[1] and not self._is_shared:
            raise ValueError(f"Expected more than 1 value per channel when training, got input size {x.shape}")


class BatchNorm1d(BatchNorm):
    """A batch norm of tensors (N, C) or (N, C, L)."""

    ranks = (2, 3)


class BatchNorm2d(BatchNorm):
    """A batch norm of tensors (N, C, H, W)."""

    ranks = (4,)


class BatchNorm3d(BatchNorm):
    """A batch norm of tensors (N, C, D, H, W)."""

    ranks = (5,)


#: By the number of spatial axes.
BASES = (BatchNorm1d, BatchNorm2d, BatchNorm3d)


if not TYPE_CHECKING:  # a type checker that saw it would take a misspelled name for Any

    def __getattr__(name: str) -> type[BatchNorm]:
        """L1BatchNorm2d and its like: a class for every registered kind."""
        return class_named(name, BASES, __name__)
