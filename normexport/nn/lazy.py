"""Norms that take their number of channels from their first input: drop-in for torch.nn.LazyBatchNorm2d."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from normexport.nn import batch, instance
from normexport.nn.base import STATISTICS, Norm
from normexport.nn.derived import class_named, class_of
from normexport.norms import EPSILON_DEFAULT
from normexport.norms import kind as kind_of


class LazyNorm(LazyModuleMixin, Norm):
    """A norm without a size; at its first input it becomes the norm of that many channels.

    Arguments are those of `Norm` but for `num_features`, with the defaults of torch.nn.LazyBatchNorm2d.
    """

    becomes: ClassVar[type[Norm]]

    def __init__(
        self,
        eps: float = EPSILON_DEFAULT,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(0, eps, momentum, affine, track_running_stats, device, dtype, **kwargs)
        # Declared without what they take.
        unsized: Any = ((self._parameters, UninitializedParameter), (self._buffers, UninitializedBuffer))
        for tensors, make in unsized:
            for name, value in tensors.items():
                if value is not None and value.dim() == 1:  # not the count of batches
                    tensors[name] = make(device=value.device, dtype=value.dtype)

    @property
    def cls_to_become(self) -> type[Norm]:  # type: ignore[override]  # a class attribute of PyTorch's mixin
        """The class of the same kind with a size."""
        return class_of(kind_of(self.kind), self.becomes)

    def initialize_parameters(self, x: Tensor) -> None:
        """Take the size from x; runs once, right before the first forward."""
        self._check_rank(x)
        if self.num_features == 0:
            self.num_features = x.shape[x.dim() - min(self.ranks) if self.scope.is_instance else 1]
        if self.has_uninitialized_params():
            for tensor in (*self._parameters.values(), *(self._buffers[name] for name in STATISTICS)):
                if isinstance(tensor, (UninitializedParameter, UninitializedBuffer)):
                    tensor.materialize((self.num_features,))
            self.reset_parameters()


class LazyBatchNorm1d(LazyNorm, batch.BatchNorm1d):
    """A lazy batch norm of tensors (N, C) or (N, C, L)."""

    becomes = batch.BatchNorm1d


class LazyBatchNorm2d(LazyNorm, batch.BatchNorm2d):
    """A lazy batch norm of tensors (N, C, H, W)."""

    becomes = batch.BatchNorm2d


class LazyBatchNorm3d(LazyNorm, batch.BatchNorm3d):
    """A lazy batch norm of tensors (N, C, D, H, W)."""

    becomes = batch.BatchNorm3d


class LazyInstanceNorm1d(LazyNorm, instance.InstanceNorm1d):
    """A lazy instance norm of tensors (N, C, L) or (C, L)."""

    becomes = instance.InstanceNorm1d


class LazyInstanceNorm2d(LazyNorm, instance.InstanceNorm2d):
    """A lazy instance norm of tensors (N, C, H, W) or (C, H, W)."""

    becomes = instance.InstanceNorm2d


class LazyInstanceNorm3d(LazyNorm, instance.InstanceNorm3d):
    """A lazy instance norm of tensors (N, C, D, H, W) or (C, D, H, W)."""

    becomes = instance.InstanceNorm3d


#: By scope and number of spatial axes.
BASES = (
    *(LazyBatchNorm1d, LazyBatchNorm2d, LazyBatchNorm3d),
    *(LazyInstanceNorm1d, LazyInstanceNorm2d, LazyInstanceNorm3d),
)


if not TYPE_CHECKING:  # a type checker that saw it would take a misspelled name for Any

    def __getattr__(name: str) -> type[LazyNorm]:
        """L1LazyBatchNorm2d and its like: a class for every registered kind."""
        return class_named(name, BASES, __name__)
