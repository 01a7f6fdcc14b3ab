"""Random ways to move channels about: transposes, reshapes, and norms on whatever axis the channels are then."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from tests.folding import random_norms
from tests.folding.random_layers import conv, spatial, weight
from tests.narrow import present

if TYPE_CHECKING:
    from tests.folding.random_graphs import Growth, Value


def _whole(growth: Growth, *values: int) -> str:
    return growth.build.const(np.asarray(values, np.int64), "shape", keep_type=True)


def transpose(growth: Growth, x: Value | None = None, perm: list[int] | None = None) -> Value:
    """Transpose of any axes but the batch."""
    x = x or growth.pick()
    order = list(range(1, len(x.shape)))
    growth.rng.shuffle(order)
    perm = perm or [0, *order]
    return growth.add(growth.build.node("Transpose", [x.name], perm=perm), tuple(x.shape[axis] for axis in perm))


def chain_on(growth: Growth, x: Value, axis: int) -> Value:
    """One to four of Sub, Mul, Div and Add with constants along `axis`; at times nodes between that change nothing."""
    name, size = x.name, x.shape[axis]
    shapes: list[tuple[int, ...]] = [(size, *(1,) * (len(x.shape) - axis - 1)), ()]
    for _ in range(growth.choices.integer(1, 4)):
        shape = growth.choices.one_of((shapes[0], shapes[0], shapes[0], ()))
        name = random_norms.step(growth, name, shape)
        if growth.choices.chance(15):
            name = _no_op(growth, name, x.shape)
    return growth.add(name, x.shape)


def chain_along_some_axis(growth: Growth) -> None:
    """A chain along any axis but the batch."""
    x = present(growth.pick(lambda value: len(value.shape) > 1))
    chain_on(growth, x, growth.choices.integer(1, len(x.shape) - 1))


def channels_last(growth: Growth) -> None:
    """A producer, Transpose, a chain or a linear layer on the last axis, Transpose back, perhaps a consumer."""
    if growth.choices.chance(70):
        conv(growth)
    x = growth.pick(spatial)
    if x is None:
        return
    rank = len(x.shape)
    y = transpose(growth, x, [0, *range(2, rank), 1])
    growth.used[y.name] += 1
    if growth.choices.chance(40):
        features = growth.choices.integer(1, 4)
        name = growth.build.node("MatMul", [y.name, weight(growth, (y.shape[-1], features))])
        y = growth.add(name, (*y.shape[:-1], features))
        growth.used[y.name] += 1
    if growth.choices.chance(80):
        y = chain_on(growth, y, rank - 1)
        growth.used[y.name] += 1
    transpose(growth, y, [0, rank - 1, *range(1, rank - 1)])
    if growth.choices.chance(30):
        conv(growth, pad=False)


def rows(growth: Growth) -> None:
    """(N, C, *space) to (N, C, -1), a chain, and back; at times to one axis less or more only."""
    x = growth.pick(spatial)
    if x is None:
        return
    flat = (*x.shape[:2], prod(x.shape[2:]))
    target = growth.choices.one_of(((0, 0, -1), flat, (-1, *flat[1:]), (0, x.shape[1], -1)))
    name = growth.build.node("Reshape", [x.name, _whole(growth, *target)])
    y = chain_on(growth, growth.add(name, flat), 1)
    growth.used[name] += 1
    growth.used[y.name] += 1
    growth.add(growth.build.node("Reshape", [y.name, _whole(growth, *x.shape)]), x.shape)


def split_rows(growth: Growth) -> None:
    """A linear layer whose columns are laid out as (N, C, 2), and a chain of C channels."""
    x = growth.pick(lambda value: len(value.shape) == 2)
    if x is None:
        return
    channels = growth.choices.integer(1, 3)
    name = growth.build.node("Gemm", [x.name, weight(growth, (x.shape[1], 2 * channels))])
    name = growth.build.node("Reshape", [name, _whole(growth, 0, channels, 2)])
    y = growth.add(name, (x.shape[0], channels, 2))
    growth.used[name] += 1
    chain_on(growth, y, growth.choices.integer(1, 2))


def unsqueezed(growth: Growth) -> None:
    """An axis of size one more, a chain, and the axis away again."""
    x = growth.pick(lambda value: 1 < len(value.shape) < 5)
    if x is None:
        return
    axis = growth.choices.integer(1, len(x.shape))
    shape = (*x.shape[:axis], 1, *x.shape[axis:])
    y = growth.add(growth.build.node("Unsqueeze", [x.name, _whole(growth, axis)]), shape)
    growth.used[y.name] += 1
    y = chain_on(growth, y, growth.choices.integer(1, len(shape) - 1))
    growth.used[y.name] += 1
    growth.add(growth.build.node("Squeeze", [y.name, _whole(growth, axis)]), x.shape)


def no_op(growth: Growth) -> None:
    """A node that changes nothing."""
    x = growth.pick()
    growth.add(_no_op(growth, x.name, x.shape), x.shape)


def _no_op(growth: Growth, name: str, shape: tuple[int, ...]) -> str:
    build, what = growth.build, growth.choices.one_of(("Identity", "Cast", "Transpose", "Reshape", "Expand", "Tile"))
    if what == "Cast":
        return build.node("Cast", [name], to=11)
    if what == "Transpose":
        return build.node("Transpose", [name], perm=list(range(len(shape))))
    if what == "Identity":
        return build.node("Identity", [name])
    numbers = {"Reshape": shape, "Expand": (1,) * len(shape), "Tile": (1,) * len(shape)}[what]
    return build.node(what, [name, _whole(growth, *numbers)])


def step(growth: Growth) -> None:
    """One or two of a bias, a scalar and a Neg, behind a layer or before one."""
    x = growth.pick(lambda value: len(value.shape) > 1)
    name = x.name
    for _ in range(growth.choices.integer(1, 2)):
        what = growth.choices.one_of(("bias", "scalar", "Neg"))
        if what == "Neg":
            name = growth.build.node("Neg", [name])
        elif what == "scalar":
            name = random_norms.step(growth, name, ())
        else:
            shape = (x.shape[1], *(1,) * (len(x.shape) - 2))
            name = growth.build.node("Add", [name, growth.build.const(growth.array(*shape), "shift")])
    growth.add(name, x.shape)


def step_behind_a_layer(growth: Growth) -> None:
    """A convolution and such steps."""
    conv(growth)
    step(growth)


def step_before_a_layer(growth: Growth) -> None:
    """Such steps and a convolution."""
    step(growth)
    conv(growth)
