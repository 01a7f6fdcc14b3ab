"""Instance norms of every kind: drop-in for torch.nn.InstanceNorm1d, 2d and 3d."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx

from normexport.nn.base import Norm
from normexport.nn.derived import class_named
from normexport.norms import EPSILON_DEFAULT, Scope


class InstanceNorm(Norm):
    """Statistics over space alone, (N, C). See `Norm` for arguments, formulas and errors.

    As in torch.nn.InstanceNorm there are no affine parameters and no running statistics unless asked for, and x
    may lack its batch axis. Running statistics are averages over the samples of a batch. Unlike there, momentum
    None averages over all batches and `num_batches_tracked` counts them.

    One element per channel gives bias in evaluation; in training it is a ValueError.
    """

    scope = Scope.INSTANCE

    def __init__(
        self,
        num_features: int,
        eps: float = EPSILON_DEFAULT,
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
        if isinstance(x, fx.Proxy):
            return super().forward(x)
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
    """An instance norm of tensors (N, C, L) or (C, L)."""

    ranks = (2, 3)


class InstanceNorm2d(InstanceNorm):
    """An instance norm of tensors (N, C, H, W) or (C, H, W)."""

    ranks = (3, 4)


class InstanceNorm3d(InstanceNorm):
    """An instance norm of tensors (N, C, D, H, W) or (C, D, H, W)."""

    ranks = (4, 5)


#: By the number of spatial axes.
BASES = (InstanceNorm1d, InstanceNorm2d, InstanceNorm3d)


if not TYPE_CHECKING:  # a type checker that saw it would take a misspelled name for Any

    def __getattr__(name: str) -> type[InstanceNorm]:
        """L1InstanceNorm2d and its like: a class for every registered kind."""
        return class_named(name, BASES, __name__)
