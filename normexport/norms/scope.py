"""What a live norm takes its statistics over."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from normexport.errors import UsageError

_T = TypeVar("_T", bound=np.generic)


class Scope(Enum):
    """The parts of (N, C, *space) that a statistic reduces; the value is the word for it in records and reports.

    A layer norm over the last axes is a group norm of one group, on (rows, L): L channels and no space.
    """

    BATCH = "batch"  #: N and space: one statistic per channel
    INSTANCE = "instance"  #: space alone: one statistic per sample and channel
    GROUP = "group"  #: some channels and space: one statistic per sample and group of channels that follow each other

    @classmethod
    def of(cls, instance: bool, num_groups: int = 0) -> Scope:
        """The scope by the arguments of the C interface and of the torch operator; num_groups 0: not in groups."""
        return cls.GROUP if num_groups else cls.INSTANCE if instance else cls.BATCH

    @classmethod
    def of_op(cls, op_type: str) -> Scope:
        """The scope of one of the operators of live statistics, L1GroupNorm or QL1GroupNorm."""
        return next(scope for scope in cls if op_type.endswith(f"{scope.title}Norm"))

    @property
    def is_instance(self) -> bool:
        """The flag of the C interface and of the torch operator."""
        return self is Scope.INSTANCE

    @property
    def is_per_sample(self) -> bool:
        """Whether each sample has statistics of its own."""
        return self is not Scope.BATCH

    @property
    def title(self) -> str:
        """Its part of module and operator names: "Batch" in L1BatchNorm2d."""
        return self.value.capitalize()

    @property
    def parameters(self) -> Mapping[str, int]:
        """Attributes of its operators beyond those of the kind, with their defaults."""
        return {"num_groups": 1} if self is Scope.GROUP else {}

    @property
    def source(self) -> str:
        """What its statistics come from, in words."""
        return "sample" if self.is_per_sample else "batch"

    @property
    def owner(self) -> str:
        """Whose statistics they are, in words."""
        return {"batch": "the batch", "instance": "each sample", "group": "each sample's groups of channels"}[
            self.value
        ]

    def rows(self, x: NDArray[_T], num_groups: int = 1) -> NDArray[_T]:
        """x (N, C, S) -> (R, n), one row per statistic: R is C, N*C for each sample's own, or N*num_groups.

        Raises:
            UsageError: the channels can't be shared out among so many groups.
        """
        n, c = x.shape[:2]
        if self is Scope.BATCH:
            return x.swapaxes(0, 1).reshape(c, -1)
        if self is Scope.INSTANCE:
            return x.reshape(n * c, -1)
        require_groups(c, num_groups)
        return x.reshape(n * num_groups, -1)

    def unrows(self, rows: NDArray[_T], batch: int, channels: int) -> NDArray[_T]:
        """`rows` turned back: (R, n) -> (N, C, S)."""
        sizes = (batch, channels, -1) if self.is_per_sample else (channels, batch, -1)
        cube: NDArray[_T] = rows.reshape(sizes)
        return cube if self.is_per_sample else cube.swapaxes(0, 1)

    def per_channel(self, values: NDArray[_T], channels: int, num_groups: int = 1) -> NDArray[_T]:
        """One value per row, (R,), as each channel has it: (N, C), or (1, C) where samples share it."""
        repeats = channels // num_groups if self is Scope.GROUP else 1
        return values.repeat(repeats).reshape(-1, channels)


def require_groups(channels: int, num_groups: int) -> None:
    """Refuse groups that are not of equal size."""
    if num_groups < 1 or channels % num_groups:
        raise UsageError(
            "group norm",
            f"{channels} channels can't be shared out among num_groups = {num_groups}",
            "choose a num_groups that divides the channels",
        )
