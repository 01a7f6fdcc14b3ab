"""Kind, scope and sizes of a random live norm, for the spellings of `near_misses`."""

from __future__ import annotations

import math

import numpy as np

from tests.folding.choices import Choices

CHUNKS, SPACE = 8, 32
KINDS = ("l1", "l2", "linf", "topk", "range")
#: Groups are of channels; a layer is all of a sample, with a scale by channel, or the last axes, with one by element.
SCOPES = ("batch", "instance", "group", "layer")

#: Misses that only norms of some scopes or kinds have.
_SCOPES_OF = {
    "parts of the batch": ("batch", "instance"),
    "all channels": ("batch", "instance"),
    "at most eight samples": ("batch",),
    "centred by half of the batch": ("batch", "instance"),
    "a little of the mean": ("batch", "instance"),
    "groups that interleave": ("group",),
    "last axis left out": ("group", "layer"),
    "statistic of the next sample": ("instance", "group", "layer"),
    "bias by sample": ("instance", "group", "layer"),
}
_KINDS_OF = {
    "chunks of fixed length": ("range",),
    "chunks across space first": ("range",),
    "chunks in another order": ("range",),
    "constant of other chunks": ("range",),
    "epsilon in the root": ("l2",),
    "epsilon in each root": ("l1", "linf", "topk"),
    "statistic over other axes": ("l1", "l2", "linf"),
    "first element not counted": ("linf", "topk"),
    "last axis left out": ("l1", "l2", "linf"),
    "groups that interleave": ("l1", "l2", "linf"),
}


class Layout:
    """What a norm normalises.

    Attributes:
        sizes: of x, with None for those that are open.
        rank, axes: of x as the statistics see it, in groups where there are some, and those that they reduce.
        groups: of channels, where the scope is the group.
        first: of a layer, the first axis that it has.
        column: the shape of scale and bias.
    """

    def __init__(self, choices: Choices, miss: str) -> None:
        self.miss = miss
        self.kind = choices.one_of(_KINDS_OF.get(miss, KINDS))
        self.scope = choices.one_of(_SCOPES_OF.get(miss, SCOPES))
        self.channels, self.groups = choices.integer(2, 4), 1
        if self.scope == "group":
            self.channels, self.groups = choices.one_of(((4, 2), (6, 2), (6, 3), (8, 2), (8, 4)))
        self.batch = choices.one_of((4, 6))
        self.space = choices.one_of(((8, 4), (32,), (4, 8), (2, 4, 4)))
        self.is_open = miss == "at most eight samples" or (miss != "bias by sample" and choices.chance(50))
        self.sizes = (None if self.is_open else self.batch, self.channels, *self.space)
        self.rank = len(self.sizes)
        self.first, by_element = 1, False
        if self.scope == "layer":
            self.first, by_element = choices.one_of(((1, False), (1, True), (2, True)))
        self.axes = self._axes()
        ones = (1,) * len(self.space)
        self.column: tuple[int, ...] = (self.channels, *ones)
        if self.scope == "group":
            self.column = (self.groups, self.channels // self.groups, *ones)
        elif by_element:
            self.column = (self.channels, *self.space)[self.first - 1 :]

    def _axes(self) -> list[int]:
        if self.scope == "group":
            self.rank += 1
            axes = [*range(2, self.rank)]
            if self.miss == "groups that interleave":
                axes = [1, *axes[1:]]
        elif self.scope == "layer":
            axes = [*range(self.first, self.rank)]
        else:
            axes = [axis for axis in range(self.rank) if axis != 1 and (axis or self.scope == "batch")]
        if self.miss == "all channels":
            axes = sorted({*axes, 1})
        return axes[:-1] if self.miss == "last axis left out" and len(axes) > 1 else axes

    @property
    def cut(self) -> list[int]:
        """x in groups of channels."""
        return [-1, self.groups, self.channels // self.groups, *self.space]

    @property
    def whole(self) -> list[int]:
        """x again."""
        return [-1, self.channels, *self.space]

    @property
    def is_by_channel(self) -> bool:
        """Whether each channel has statistics of its own."""
        return self.scope in ("batch", "instance") or (self.scope == "layer" and self.first == 2)

    @property
    def other_axes(self) -> list[int]:
        """Axes that are not those of the norm, for one half of it."""
        if self.scope == "batch":
            return self.axes[1:]
        if self.scope == "instance":
            return [0, *self.axes]
        if self.scope == "group":
            return [1, *self.axes]
        return self.axes[1:] if len(self.axes) > 1 else [self.axes[0] - 1, *self.axes]

    def count(self) -> float:
        """Elements of one statistic where sizes are fixed (or taken to be)."""
        parts = 2 if self.miss == "parts of the batch" else 1
        channels = self.channels if self.miss == "all channels" or not self.is_by_channel else 1
        if self.scope == "group":
            channels = self.channels // self.groups
        return float((self.batch // parts if self.scope == "batch" else 1) * SPACE * channels)

    def mask(self, choices: Choices) -> np.ndarray:
        """1 for each element of x as the statistics see it, and 0 for one; for one of each sample where N is open."""
        rest = self.cut[1:] if self.scope == "group" else [self.channels, *self.space]
        mask = np.ones([1 if self.is_open else self.batch, *rest])
        mask.flat[choices.integer(0, mask.size - 1)] = 0
        return mask

    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """Scale and bias of the shape `column`, of both signs."""
        n = math.prod(self.column)
        scale = np.linspace(0.5, 1.5, n) * np.where(np.arange(n) % 2, -1, 1)
        return scale.reshape(self.column), np.linspace(-1, 2, n).reshape(self.column)
