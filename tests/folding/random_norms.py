"""Random norm layers: every way in which a per-channel affine map arrives in a graph."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from normexport import norms

if TYPE_CHECKING:
    from tests.folding.random_graphs import Growth, Value

SPECIAL_GAMMAS = (-1.0, 0.0, 1e-8, -1e-3, 1.0)


def gammas(growth: Growth, channels: int) -> np.ndarray:
    """(C,) of a mixture of signs, with zero and tiny ones in some channels; at times all positive."""
    values = growth.array(channels)
    if growth.choices.chance(35):
        return np.abs(values) + 0.1
    if growth.choices.chance(50):
        channel = growth.choices.integer(0, channels - 1)
        values[channel] = growth.choices.one_of(SPECIAL_GAMMAS)
    return values


def spreads(growth: Growth, channels: int) -> np.ndarray:
    """(C,) positive, 0.3 to 3."""
    return np.exp(growth.rng.uniform(np.log(0.3), np.log(3.0), channels))


def _constant(growth: Growth, values: np.ndarray, shape: tuple[int, ...], stem: str) -> str:
    return growth.shared(shape, lambda: values.reshape(shape), stem)


def running_norm(growth: Growth) -> None:
    """A RunningNorm with four fresh constants (one may be shared with an earlier norm)."""
    x = growth.pick()
    channels = (x.shape[1],)
    inputs = [
        x.name,
        _constant(growth, growth.array(*channels), channels, "mean"),
        growth.build.const(spreads(growth, *channels), "inv_scale"),
        _constant(growth, gammas(growth, *channels), channels, "gamma"),
        _constant(growth, growth.array(*channels), channels, "beta"),
    ]
    kind = growth.choices.one_of(sorted(norms.KINDS))
    growth.add(growth.build.node("RunningNorm", inputs, domain=norms.DOMAIN, kind=kind), x.shape)


def batch_normalization(growth: Growth) -> None:
    """ONNX BatchNormalization in inference form, of several epsilons."""
    x = growth.pick()
    channels = (x.shape[1],)
    inputs = [
        x.name,
        _constant(growth, gammas(growth, *channels), channels, "gamma"),
        _constant(growth, growth.array(*channels), channels, "beta"),
        _constant(growth, growth.array(*channels), channels, "mean"),
        growth.build.const(spreads(growth, *channels), "var"),
    ]
    epsilon = growth.choices.one_of((1e-5, 0.0, 0.3))
    growth.add(growth.build.node("BatchNormalization", inputs, epsilon=epsilon), x.shape)


def live_norm(growth: Growth) -> None:
    """Statistics computed at inference: nothing may fold it."""
    x = growth.pick(lambda value: prod(value.space) > 1)
    if x is None:
        return
    channels = (x.shape[1],)
    inputs = [x.name, growth.build.const(np.ones(channels)), growth.build.const(growth.array(*channels))]
    op = growth.choices.one_of(("L1BatchNorm", "LinfInstanceNorm"))
    growth.add(growth.build.node(op, inputs, domain=norms.DOMAIN, epsilon=1e-3, correction=0.0), x.shape)


def raw_chain(growth: Growth) -> None:
    """One to five of Sub, Mul, Div and Add with constants along axis 1, either operand first."""
    x = growth.pick()
    name = x.name
    shapes = channel_shapes(x)
    for _ in range(growth.choices.integer(1, 5)):
        name = step(growth, name, shapes[growth.choices.one_of((0, 0, 0, 1, 1, 2, 3))])
    growth.add(name, x.shape)


def channel_shapes(x: Value) -> list[tuple[int, ...]]:
    """Shapes of constants that broadcast along axis 1 of x and change nothing else; () is every channel."""
    ones = (1,) * len(x.space)
    return [(x.shape[1], *ones), (1, x.shape[1], *ones), (), (1,)]


def step(growth: Growth, name: str, shape: tuple[int, ...]) -> str:
    """One of Sub, Mul, Div and Add with a constant of this shape, either operand first."""
    size = int(np.prod(shape))
    op = growth.choices.one_of(("Sub", "Mul", "Add", "Div", "Mul"))
    if op == "Div":
        values = spreads(growth, size) * growth.choices.one_of((1.0, -1.0))
    elif op == "Mul":
        values = gammas(growth, size)
    else:
        values = growth.array(size)
    constant = (
        growth.shared(shape, lambda: values.reshape(shape), "link")
        if op != "Div"
        else (growth.build.const(values.reshape(shape), "divisor"))
    )
    swapped = op != "Div" and growth.choices.chance(40)  # constant / x is no affine map
    operands = [constant, name] if swapped else [name, constant]
    return growth.build.node(op, operands)
