"""Random pools, which a norm may sometimes pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tests.folding.random_layers import convolved, spatial, windows

if TYPE_CHECKING:
    from tests.folding.random_graphs import Growth


def max_pool(growth: Growth) -> None:
    """MaxPool, with and without padding."""
    x = growth.pick(spatial)
    if x is None:
        return
    kernel, dilations = windows(growth, x)
    strides = [growth.choices.integer(1, 2) for _ in kernel]
    pads = _pool_pads(growth, kernel)
    out = growth.build.node("MaxPool", [x.name], kernel_shape=kernel, strides=strides, dilations=dilations, pads=pads)
    growth.add(out, (*x.shape[:2], *convolved(x.space, kernel, strides, dilations, pads)))


def average_pool(growth: Growth) -> None:
    """AveragePool, with padding that counts or does not."""
    x = growth.pick(spatial)
    if x is None:
        return
    kernel, _ = windows(growth, x)
    strides = [growth.choices.integer(1, 2) for _ in kernel]
    pads = _pool_pads(growth, kernel)
    counts = growth.choices.integer(0, 1)
    attrs: dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "pads": pads, "count_include_pad": counts}
    out = growth.build.node("AveragePool", [x.name], **attrs)
    growth.add(out, (*x.shape[:2], *convolved(x.space, kernel, strides, [1] * len(kernel), pads)))


def _pool_pads(growth: Growth, kernel: list[int]) -> list[int]:
    if growth.choices.chance(50):
        return [0] * (2 * len(kernel))
    return [growth.choices.integer(0, min(1, size - 1)) for size in (*kernel, *kernel)]


def global_pool(growth: Growth) -> None:
    """GlobalAveragePool or GlobalMaxPool."""
    x = growth.pick(spatial)
    if x is None:
        return
    op = growth.choices.one_of(("GlobalAveragePool", "GlobalMaxPool"))
    growth.add(growth.build.node(op, [x.name]), (*x.shape[:2], *(1 for _ in x.space)))


def mean_of_space(growth: Growth) -> None:
    """ReduceMean over the axes of space, kept or removed, or over the channels."""
    x = growth.pick(spatial)
    if x is None:
        return
    keep = growth.choices.integer(0, 1)
    axes = list(range(2, len(x.shape)))
    name = growth.build.const(np.asarray(axes, np.int64), "axes", keep_type=True)
    out = growth.build.node("ReduceMean", [x.name, name], keepdims=keep)
    growth.add(out, (*x.shape[:2], *(1 for _ in x.space)) if keep else x.shape[:2])
