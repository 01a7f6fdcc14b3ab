"""A sub-graph held against the operator it would become, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from normexport.graphs.refusal import Refuse
from normexport.norms import Scope, reference
from normexport.norms.kind import Array
from normexport.recognition.behaviour import draw
from normexport.recognition.statistic import Reading
from normexport.recognition.trial import Runner

#: Of the largest deviation in a channel, plus its bias. The file's constant, and scale, bias, epsilon and correction as
#: they are stored, are each rounded to float32: half of 2^-24, five times, makes 3e-7.
TOLERANCE = 5e-7
_MANY_ELEMENTS = 1 << 20  # twice as many inputs below, so that each channel meets two spreads
_MOST_PLACES = 1 << 26  # numbers: half a second to two
_FAR = 30.0  # beside a spread of 1: the largest of any random row
#: Forms of a distribution, from a normal one: with heavy tails, with two humps, to one side.
_FORMS: tuple[Callable[[Array], Array], ...] = (np.positive, lambda z: z**3 / 4, lambda z: np.sin(2 * z), np.square)


def prove(trial: Runner, reading: Reading, shapes: Sequence[tuple[int, ...]]) -> None:
    """Compare at every shape, on inputs whose channels differ in form, spread and mean.

    Spreads reach from where epsilon is most of the divisor to where it is nothing, so that each parameter counts.

    Raises:
        Refuse: they differ, with the place where they do most.
    """
    for seed, shape in enumerate(shapes):
        for turn in (1, -1) if math.prod(shape) <= _MANY_ELEMENTS else (1,):
            x = _various(shape, reading, seed, turn)
            _compare(trial.run(x), expected(reading, x), reading.bias, shape)


def prove_places(trial: Runner, reading: Reading, shape: tuple[int, ...], why: str) -> None:
    """Compare on inputs in which one element of each statistic is far from the others, for each of them.

    why: what may leave elements out, in words.

    Raises:
        Refuse: one of them does not count as the others, or they are too many to see.
    """
    count = reading.extent.elements(shape)
    if count * math.prod(shape) > _MOST_PLACES:
        raise Refuse(f"{why}, and there are too many elements to see that all of them count")
    n, c = shape[:2]
    rows = reading.extent.rows(draw(shape, 3).reshape(n, c, -1))
    spread = max(100 * reading.epsilon, 1.0)
    for place in range(count):
        one_far = spread * rows
        one_far[:, place] *= _FAR / np.abs(rows[:, place])
        x = reading.scope.unrows(one_far, n, c).reshape(shape)
        try:
            _compare(trial.run(x), expected(reading, x), reading.bias, shape)
        except Refuse as refusal:
            raise Refuse(f"{why}: not all elements count alike in its statistic") from refusal


def expected(reading: Reading, x: Array) -> Array:
    """What the operator computes with its parameters as they are stored."""
    return reference(
        reading.kind,
        x,
        reading.scale.astype(np.float32).astype(np.float64),
        reading.bias.astype(np.float32).astype(np.float64),
        epsilon=float(np.float32(reading.epsilon)),
        scope=reading.scope,
        correction=float(np.float32(reading.correction)),
        **reading.parameters,
    )


def _various(shape: tuple[int, ...], reading: Reading, seed: int, turn: int) -> Array:
    """Every channel with a mean and a form of its own, and every statistic with a spread."""
    channels, epsilon = shape[1], reading.epsilon
    count = channels if reading.scope is not Scope.GROUP else shape[0] * reading.extent.num_groups
    least = max(epsilon, 1e-12) if epsilon > 0 else 1e-3
    spreads = np.geomspace(least / 10, max(least * 1e3, 1e3), count)[::turn]
    x = draw(shape, 10 + seed).copy()
    for place, form in enumerate(_FORMS):
        own = (slice(None), slice((place - seed) % len(_FORMS), None, len(_FORMS)))
        x[own] = form(x[own])
    column = (channels,) + (1,) * (len(shape) - 2)
    means = np.linspace(-3, 3, channels) if turn > 0 else np.zeros(channels)
    centred = x + means.reshape(column)
    if reading.scope is Scope.GROUP:
        cube = centred.reshape(*shape[:2], -1) * reading.extent.by_channel(spreads, channels).T[:, :, None]
        return np.asarray(cube.reshape(shape))
    return np.asarray(centred * spreads.reshape(column))


def _compare(got: Array, wanted: Array, bias: Array, shape: tuple[int, ...]) -> None:
    n, c = shape[:2]
    off = np.abs(got - wanted).reshape(n, c, -1).max(axis=(0, 2))
    size = np.abs(wanted - bias.reshape(c, *[1] * (len(shape) - 2))).reshape(n, c, -1).max(axis=(0, 2)) + np.abs(bias)
    bad = ~(off <= TOLERANCE * size)
    if bad.any():
        channel = int(np.argmax(np.where(bad, off / np.maximum(size, 1e-300), 0)))
        raise Refuse(
            f"on random inputs of shape {shape} it differs from the operator by {off[channel]:.3g} in channel {channel}"
        )
