"""Random layers around the norms: producers, consumers, and joints of branches."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from normexport import norms

if TYPE_CHECKING:
    from tests.folding.random_graphs import Growth, Value

MAX_SPACE = 8


def divisors(*counts: int) -> list[int]:
    """Common divisors of the counts, ascending."""
    return [d for d in range(1, min(counts) + 1) if all(count % d == 0 for count in counts)]


def spatial(value: Value) -> bool:
    return len(value.shape) > 2


def windows(growth: Growth, x: Value, largest: int = 3) -> tuple[list[int], list[int]]:
    """(kernel, dilations) of windows that fit into x without padding."""
    kernel, dilations = [], []
    for side in x.space:
        size = growth.choices.integer(1, min(largest, side))
        spread = growth.choices.integer(1, 2)
        kernel.append(size)
        dilations.append(spread if (size - 1) * spread + 1 <= side else 1)
    return kernel, dilations


def convolved(space: tuple[int, ...], kernel: Any, strides: Any, dilations: Any, pads: Any) -> tuple[int, ...]:
    """Output sides: floor((side + begin + end - (kernel-1)*dilation - 1) / stride) + 1."""
    rank = len(space)
    return tuple(
        (side + pads[i] + pads[i + rank] - (kernel[i] - 1) * dilations[i] - 1) // strides[i] + 1
        for i, side in enumerate(space)
    )


def bias(growth: Growth, size: int) -> list[str]:
    """No bias, or one that may be shared."""
    if growth.choices.chance(50):
        return []
    return [growth.shared((size,), lambda: growth.array(size), "bias")]


def weight(growth: Growth, shape: tuple[int, ...]) -> str:
    """A weight: a constant (that may be shared), one under a bounded weight norm, or a transposed matrix."""
    if len(shape) == 2 and growth.choices.chance(10):
        return growth.build.node("Transpose", [growth.build.const(growth.array(*shape[::-1]), "weight")])
    name = growth.shared(shape, lambda: growth.array(*shape), "weight")
    if not growth.choices.chance(8):
        return name
    axis = growth.choices.one_of((0, 1, -1))
    per_axis = tuple(side if i == axis else 1 for i, side in enumerate(shape))
    rho_shape = growth.choices.one_of(((), (1,), per_axis))
    rho = growth.build.const(np.abs(growth.array(*rho_shape)) + 0.1, "rho")
    p = growth.choices.one_of((2.0, 1.0))
    return growth.build.node("BoundedWeightNorm", [name, rho], domain=norms.DOMAIN, axis=axis, p=p)


def conv(growth: Growth, source: Value | None = None, pad: bool = True) -> None:
    """Conv 1-d, 2-d or 3-d of random groups, dilations, strides and padding (also auto_pad)."""
    x = source or growth.pick(spatial)
    if x is None:
        return
    rank = len(x.space)
    kernel, dilations = windows(growth, x)
    strides = [growth.choices.integer(1, 2) for _ in kernel]
    pads = [0] * (2 * rank)
    attrs: dict[str, Any] = {}
    padding = growth.choices.one_of(("none", "pads", "auto", "valid")) if pad else "none"
    if padding == "pads":
        pads = [growth.choices.integer(0, 1) for _ in pads]
        attrs["pads"] = pads
    elif padding == "valid":
        attrs["auto_pad"] = "VALID"
    elif padding == "auto":
        attrs["auto_pad"] = growth.choices.one_of(("SAME_UPPER", "SAME_LOWER"))
        dilations = [1] * rank
    space = convolved(x.space, kernel, strides, dilations, pads)
    if padding == "auto":
        space = tuple(-(-side // stride) for side, stride in zip(x.space, strides, strict=True))
    channels = growth.choices.integer(1, 4)
    group = growth.choices.one_of(divisors(x.shape[1], channels))
    shape = (channels, x.shape[1] // group, *kernel)
    inputs = [x.name, weight(growth, shape), *bias(growth, channels)]
    if growth.choices.chance(50):
        attrs["kernel_shape"] = kernel
    out = growth.build.node("Conv", inputs, group=group, dilations=dilations, strides=strides, **attrs)
    growth.add(out, (x.shape[0], channels, *space))


def bare_conv(growth: Growth) -> None:
    """Conv without padding."""
    conv(growth, pad=False)


def padded_conv(growth: Growth) -> None:
    """An explicit Pad (reflect, edge or constant) before a convolution without padding of its own."""
    x = growth.pick(spatial)
    if x is None or min(x.space) < 2:
        return
    rank = len(x.space)
    pads = [growth.choices.integer(0, 1) for _ in range(2 * rank)]
    mode = growth.choices.one_of(("reflect", "edge", "constant"))
    full = [0, 0, *pads[:rank], 0, 0, *pads[rank:]]
    inputs = [x.name, growth.build.const(np.asarray(full, np.int64), "pads", keep_type=True)]
    if mode == "constant" and growth.choices.chance(50):
        inputs.append(growth.build.const(np.float64(growth.choices.integer(-1, 1))))
    space = tuple(side + pads[i] + pads[i + rank] for i, side in enumerate(x.space))
    if max(space) > MAX_SPACE:
        return
    padded = growth.add(growth.build.node("Pad", inputs, mode=mode), (*x.shape[:2], *space))
    growth.used[padded.name] += 1
    conv(growth, padded, pad=False)


def conv_transpose(growth: Growth) -> None:
    """ConvTranspose of random groups, strides, dilations, padding and output padding."""
    x = growth.pick(spatial)
    if x is None:
        return
    rank = len(x.space)
    kernel = [growth.choices.integer(1, 3) for _ in range(rank)]
    strides = [growth.choices.integer(1, 2) for _ in range(rank)]
    dilations = [growth.choices.integer(1, 2) for _ in range(rank)]
    extra = [growth.choices.integer(0, stride - 1) for stride in strides]
    pads = [growth.choices.integer(0, 1) for _ in range(2 * rank)]
    space = tuple(
        strides[i] * (side - 1) + extra[i] + (kernel[i] - 1) * dilations[i] + 1 - pads[i] - pads[i + rank]
        for i, side in enumerate(x.space)
    )
    if min(space) < 1 or max(space) > MAX_SPACE:
        return
    group = growth.choices.one_of(divisors(x.shape[1]))
    channels = group * growth.choices.integer(1, 2)
    shape = (x.shape[1], channels // group, *kernel)
    inputs = [x.name, weight(growth, shape), *bias(growth, channels)]
    attrs: dict[str, Any] = {"pads": pads, "strides": strides, "dilations": dilations, "output_padding": extra}
    out = growth.build.node("ConvTranspose", inputs, group=group, **attrs)
    growth.add(out, (x.shape[0], channels, *space))


def gemm(growth: Growth) -> None:
    """Gemm with alpha, beta, transB and a C of any shape that broadcasts to (N, M), or none."""
    x = growth.pick(lambda value: len(value.shape) == 2)
    if x is None:
        x = flatten(growth)
    features = growth.choices.integer(1, 4)
    transposed = growth.choices.integer(0, 1)
    shape = (features, x.shape[1]) if transposed else (x.shape[1], features)
    inputs = [x.name, weight(growth, shape)]
    c_shape = growth.choices.one_of((None, (features,), (1, features), (1,), (), (x.shape[0], 1)))
    if c_shape is not None:
        inputs.append(growth.shared(c_shape, lambda: growth.array(*c_shape), "bias"))
    attrs: dict[str, Any] = {"alpha": 0.5, "beta": -2.0} if growth.choices.chance(40) else {}
    out = growth.build.node("Gemm", inputs, transB=transposed, **attrs)
    growth.add(out, (x.shape[0], features))


def matmul(growth: Growth) -> None:
    """MatMul of the last axis with a constant: on (N, C) and, where axis 1 is not the last, on (N, C, L)."""
    x = growth.pick(lambda value: len(value.shape) < 5)
    if x is None:
        return
    size = x.shape[-1]
    features = growth.choices.one_of((size, growth.choices.integer(1, 4)))
    out = growth.build.node("MatMul", [x.name, weight(growth, (size, features))])
    if growth.choices.chance(40):
        row = growth.build.const(growth.array(features), "row")
        out = growth.build.node("Add", [row, out] if growth.choices.chance(50) else [out, row])
    growth.add(out, (*x.shape[:-1], features))


def flatten(growth: Growth) -> Value:
    """Flatten from axis 1: (N, C, *space) -> (N, C*prod(space))."""
    x = growth.pick()
    return growth.add(growth.build.node("Flatten", [x.name]), (x.shape[0], prod(x.shape[1:])))


def activation(growth: Growth) -> None:
    x = growth.pick()
    growth.add(growth.build.node(growth.choices.one_of(("Relu", "Sigmoid")), [x.name]), x.shape)


def identity(growth: Growth) -> None:
    x = growth.pick()
    growth.add(growth.build.node("Identity", [x.name]), x.shape)


def concat(growth: Growth) -> None:
    """Concat of two or three values, along the channels or another axis."""
    first = growth.pick()
    axis = growth.choices.one_of((1, 1, 1, len(first.shape) - 1, 0))

    def fits(value: Value) -> bool:
        same = len(value.shape) == len(first.shape)
        return same and all(i == axis or value.shape[i] == side for i, side in enumerate(first.shape))

    others = [growth.pick(fits) for _ in range(growth.choices.integer(1, 2))]
    parts = [first, *(part for part in others if part is not None)]
    shape = list(first.shape)
    shape[axis] = sum(part.shape[axis] for part in parts)
    if shape[axis] > MAX_SPACE:
        return
    if growth.choices.chance(30):
        parts.reverse()
    named = growth.choices.one_of((axis, axis - len(shape)))
    growth.add(growth.build.node("Concat", [part.name for part in parts], axis=named), tuple(shape))


def branches(growth: Growth) -> None:
    """Two or three 1x1 convolutions of one value, joined by Add or Concat."""
    x = growth.pick(spatial)
    if x is None:
        return
    joint = growth.choices.one_of(("Add", "Concat"))
    same = growth.choices.integer(1, 3)
    parts, total = [], 0
    for _ in range(2 if joint == "Add" else growth.choices.integer(2, 3)):
        channels = same if joint == "Add" else growth.choices.integer(1, 3)
        inputs = [x.name, weight(growth, (channels, x.shape[1], *(1 for _ in x.space))), *bias(growth, channels)]
        parts.append(growth.build.node("Conv", inputs))
        total += channels
    attrs: dict[str, Any] = {} if joint == "Add" else {"axis": 1}
    channels = same if joint == "Add" else total
    growth.add(growth.build.node(joint, parts, **attrs), (x.shape[0], channels, *x.space))


def residual_add(growth: Growth) -> None:
    """Add of two values of one shape (possibly the same value), or of one that broadcasts over space."""
    first = growth.pick()

    def fits(value: Value) -> bool:
        if len(value.shape) != len(first.shape) or value.shape[:2] != first.shape[:2]:
            return False
        return all(b in (a, 1) for a, b in zip(first.space, value.space, strict=True))

    others = [value for value in growth.values if value is not first and fits(value)]
    second = others[-1] if others and growth.choices.chance(85) else first
    growth.used[second.name] += 1
    pair = [first.name, second.name]
    if growth.choices.chance(50):
        pair.reverse()
    growth.add(growth.build.node("Add", pair), first.shape)
