"""Group and layer norms of every kind: drop-in for torch.nn.GroupNorm and LayerNorm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from normexport.nn.base import Norm
from normexport.nn.derived import class_named
from normexport.norms import EPSILON_DEFAULT, KINDS, Scope, require_groups


class GroupNorm(Norm):
    """A norm of tensors (N, C, *space), with the statistics of each sample's groups of channels, (N, num_groups).

    Arguments, their order and the attributes are those of torch.nn.GroupNorm. There are no running statistics: training
    and evaluation compute the same. One element per group gives bias in evaluation; in training it is a ValueError.

    Args:
        num_groups: into how many groups of channels that follow each other C is cut.
        num_channels: C, the size of axis 1.
        eps: added to the statistic.
        affine: whether there are `weight` (ones) and `bias` (zeros), each (C,).
        bias: False leaves out `bias` alone.
        correction, k, chunks: see `Norm`.

    Raises:
        UsageError: `num_groups` does not divide `num_channels`.
    """

    scope = Scope.GROUP

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = EPSILON_DEFAULT,
        affine: bool = True,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        **kwargs: Any,
    ) -> None:
        require_groups(num_channels, num_groups)
        super().__init__(num_channels, eps, None, affine, False, device, dtype, **kwargs)
        self.num_groups = num_groups

    @property
    def num_channels(self) -> int:
        """C, the size of axis 1."""
        return self.num_features

    def _check_input(self, x: Tensor) -> None:
        if x.dim() < 2:
            raise ValueError(f"expected at least 2D input (got {x.dim()}D input)")
        self._check_features(x, 1)
        require_groups(self.num_features, self.num_groups)
        if self.training and x.numel() == x.shape[0] * self.num_groups:
            raise ValueError(f"Expected more than 1 value per group when training, got input size {x.shape}")

    def extra_repr(self) -> str:
        return ", ".join([f"{self.num_groups}, {self.num_features}, eps={self.eps}", *self._options()])

    def _options(self) -> list[str]:
        own = [f"{name}={getattr(self, name)}" for name in KINDS[self.kind].parameters]
        given = [f"correction={self.correction}"] if self.correction else []
        return [f"affine={self.affine}", f"bias={self.bias is not None}", *own, *given]


class LayerNorm(GroupNorm):
    """A norm of the last axes of a tensor, with statistics of its own for each place of the axes before them.

    Arguments, their order and the attributes are those of torch.nn.LayerNorm. It is the group norm of one group on
    (rows, L), L the product of `normalized_shape`, and so it is exported.

    Args:
        normalized_shape: the sizes of the last axes, or the size of the last one.
        eps: added to the statistic.
        elementwise_affine: whether there are `weight` (ones) and `bias` (zeros), each of `normalized_shape`.
        bias: False leaves out `bias` alone.
        correction, k, chunks: see `Norm`.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = EPSILON_DEFAULT,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        **kwargs: Any,
    ) -> None:
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        super().__init__(1, math.prod(shape), eps, elementwise_affine, device, dtype, bias=bias, **kwargs)
        self.normalized_shape = shape
        for name, vector in list(self.named_parameters(recurse=False)):
            setattr(self, name, nn.Parameter(vector.detach().reshape(shape)))

    @property
    def elementwise_affine(self) -> bool:
        """Whether there are `weight` and `bias`."""
        return self.affine

    def forward(self, x: Tensor) -> Tensor:
        """x (*, *normalized_shape) of any floating type -> y like x."""
        return super().forward(x) if isinstance(x, fx.Proxy) else super().forward(self.rows_of(x)).reshape(x.shape)

    def rows_of(self, x: Tensor) -> Tensor:
        """x (*, *normalized_shape) as (rows, L), one statistic a row.

        Raises:
            ValueError: the last axes have other sizes.
        """
        axes = len(self.normalized_shape)
        if x.dim() < axes or tuple(x.shape[x.dim() - axes :]) != self.normalized_shape:
            raise ValueError(f"expected input (*, {str(self.normalized_shape)[1:-1]}), got {tuple(x.shape)}")
        # Written out: -1 can't be told from an empty batch.
        return x.reshape(math.prod(x.shape[: x.dim() - axes]), self.num_features)

    def _affine(self, x: Tensor) -> tuple[Tensor, Tensor]:
        weight, bias = super()._affine(x)
        return weight.reshape(-1), bias.reshape(-1)

    def extra_repr(self) -> str:
        return ", ".join([f"{self.normalized_shape}, eps={self.eps}", *self._options()])


#: Of channels in groups, and of the last axes.
BASES = (GroupNorm, LayerNorm)


if not TYPE_CHECKING:  # a type checker that saw it would take a misspelled name for Any

    def __getattr__(name: str) -> type[GroupNorm]:
        """L1GroupNorm and its like: a class for every registered kind."""
        return class_named(name, BASES, __name__)
