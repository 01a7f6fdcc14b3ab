"""Random layers: products with weights, convolutions, pools, norms, recurrent ones."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from onnx import TensorProto

from normexport import norms
from tests.precision.random_growth import Growth, Unfit, Value, smooth, spatial


def divisors(*counts: int) -> list[int]:
    """Common divisors, ascending."""
    return [d for d in range(1, min(counts) + 1) if all(count % d == 0 for count in counts)]


def weight(g: Growth, *shape: int) -> Value:
    """A weight: stored (at times shared), transposed, or from another computation of constants."""
    values = g.normal(*shape) / np.float32(max(1.0, np.sqrt(np.prod(shape[1:]))))
    if len(shape) == 2 and g.choices.chance(8):
        return g.node("Transpose", [g.const(np.ascontiguousarray(values.T), "weight")], keep=False, perm=[1, 0])
    if g.choices.chance(4):
        return g.node("Mul", [g.const(values, "weight"), g.const(np.float32(0.7))], keep=False)
    if g.opset == norms.OPSET and g.choices.chance(5):
        rho = g.const(np.abs(g.normal(1)) + 0.5, "rho", shared=False)
        return g.node(
            "BoundedWeightNorm", [g.const(values, "weight"), rho], domain=norms.DOMAIN, axis=0, p=2.0, keep=False
        )
    return g.const(values, "weight")


def bias(g: Growth, size: int) -> list[Value]:
    return [g.const(g.normal(size), "bias")] if g.choices.chance(60) else []


def _window(g: Growth, x: Value) -> dict[str, Any]:
    """Kernel, strides, dilations and padding that fit."""
    rank = len(x.space)
    kernel = [g.choices.integer(1, min(3, side)) for side in x.space]
    window: dict[str, Any] = {"kernel_shape": kernel}
    if g.choices.chance(50):
        window["strides"] = [g.choices.integer(1, 2) for _ in kernel]
    padding = g.choices.one_of(("none", "pads", "SAME_UPPER", "SAME_LOWER", "VALID"))
    if padding == "pads":
        window["pads"] = [g.choices.integer(0, size // 2) for size in (*kernel, *kernel)]
    elif padding != "none":
        window["auto_pad"] = padding
    if padding in ("none", "pads") and g.choices.chance(30):
        window["dilations"] = [2 if 2 * (k - 1) + 1 <= side else 1 for k, side in zip(kernel, x.space, strict=True)]
    assert len(kernel) == rank
    return window


def conv(g: Growth) -> None:
    """Conv 1-d to 3-d: plain, grouped, depthwise."""
    x = g.pick(spatial)
    window = _window(g, x)
    depthwise = g.choices.chance(20)
    channels = x.shape[1] if depthwise else g.choices.integer(1, 5)
    group = x.shape[1] if depthwise else g.choices.one_of(divisors(x.shape[1], channels))
    w = weight(g, channels, x.shape[1] // group, *window["kernel_shape"])
    if g.choices.chance(30):
        del window["kernel_shape"]
    g.node("Conv", [x, w, *bias(g, channels)], group=group, **window)


def conv_transpose(g: Growth) -> None:
    """ConvTranspose of groups, strides, pads, output padding; at times by auto_pad or output_shape."""
    x = g.pick(spatial)
    rank = len(x.space)
    kernel = [g.choices.integer(1, 3) for _ in range(rank)]
    strides = [g.choices.integer(1, 2) for _ in range(rank)]
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": strides}
    if g.choices.chance(50):
        attributes["output_padding"] = [g.choices.integer(0, stride - 1) for stride in strides]
    if g.choices.chance(40):
        attributes["pads"] = [g.choices.integer(0, size // 2) for size in (*kernel, *kernel)]
    group = g.choices.one_of(divisors(x.shape[1]))
    per_group = g.choices.integer(1, 3)
    w = weight(g, x.shape[1], per_group, *kernel)
    g.node("ConvTranspose", [x, w, *bias(g, group * per_group)], group=group, **attributes)


def gemm(g: Growth) -> None:
    """Gemm with alpha, beta, both transpositions, a C of every shape that broadcasts, computed, or none."""
    if g.choices.chance(50):
        g.node("Flatten", [g.pick(smooth)], axis=1)
    x = g.pick(lambda v: v.is_float and v.rank == 2)
    trans_a, trans_b = g.choices.integer(0, 1) * g.choices.integer(0, 1), g.choices.integer(0, 1)
    rows, inner = x.shape[::-1] if trans_a else x.shape
    features = g.choices.integer(1, 5)
    w = weight(g, *((features, inner) if trans_b else (inner, features)))
    shape = g.choices.one_of((None, (features,), (features,), (1, features), (1,), (), (rows, 1), (rows, features)))
    if g.opset < 11 and shape is None:
        shape = (features,)
    c = [] if shape is None else [g.const(g.normal(*shape), "bias")]
    if c and g.choices.chance(10):
        c = [g.node("Abs", c, keep=False)]
    ways: tuple[dict[str, Any], ...] = (
        {},
        {},
        {"alpha": 0.5},
        {"beta": -2.0},
        {"alpha": 0.25, "beta": 0.5},
        {"beta": 0.0},
    )
    scales = g.choices.one_of(ways)
    transposed: dict[str, Any] = {**({"transA": 1} if trans_a else {}), **({"transB": 1} if trans_b else {})}
    g.node("Gemm", [x, w, *c], **scales, **transposed)


def matmul(g: Growth) -> None:
    """By a stored matrix, from either side, or by a vector; at times with an Add behind it."""
    x = g.pick(smooth)
    features = g.choices.integer(1, 5)
    kind = g.choices.integer(0, 5)
    if kind == 0:
        result = g.node("MatMul", [x, g.const(g.normal(x.shape[-1]), "vector")])
    elif kind == 1 and x.rank > 1:
        result = g.node("MatMul", [weight(g, features, x.shape[-2]), x])
    else:
        result = g.node("MatMul", [x, weight(g, x.shape[-1], features)])
    if result.rank and g.choices.chance(50):
        g.node("Add", [result, g.const(g.normal(result.shape[-1]), "bias")])


def attention(g: Growth) -> None:
    """softmax(x @ x^T / sqrt(d)) @ x, at times under a mask."""
    x = g.pick(lambda v: v.is_float and v.rank == 3)
    scores = g.node("MatMul", [x, g.node("Transpose", [x], perm=[0, 2, 1], keep=False)])
    scores = g.node("Mul", [scores, g.const(np.float32(1 / np.sqrt(x.shape[-1])))])
    if g.choices.chance(40):
        mask = np.where(np.tri(x.shape[1]) > 0, np.float32(0), np.float32(g.choices.one_of((-1e4, -100.0))))
        scores = g.node("Add", [scores, g.const(mask.astype(np.float32), "mask", shared=False)], keep=False)
    shares = g.node("Softmax", [scores], axis=2)
    g.node("MatMul", [shares, x])


def pool(g: Growth) -> None:
    """Max, average, Lp and global pools; padding counted or not, ceil_mode from 10, indices of the maxima."""
    x = g.pick(spatial)
    name = g.choices.one_of(("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool", "GlobalLpPool"))
    if name.startswith("Global"):
        g.node(name, [x])
        return
    window = _window(g, x)
    if name != "MaxPool" or g.opset < 10:
        window.pop("dilations", None)
    if name == "AveragePool":
        window["count_include_pad"] = g.choices.integer(0, 1)
    # Where a last window would begin behind the end, or in the padding, runtimes and the checker differ.
    steps = zip(window["kernel_shape"], window.get("strides", [1] * x.rank), strict=False)
    plain = not {"auto_pad", "pads"} & set(window) and all(kernel >= stride for kernel, stride in steps)
    if name != "LpPool" and g.opset >= 10 and plain:
        window["ceil_mode"] = g.choices.integer(0, 1)
    indices = name == "MaxPool" and g.choices.chance(10)
    g.jumps |= indices
    g.node(name, [x], outputs=1 + indices, **window)


def normalised(g: Growth) -> None:
    """BatchNormalization in inference form and its relatives."""
    x = g.pick(lambda v: v.is_float and v.rank > 1)
    channels = x.shape[1]
    gamma, beta, mean = (g.const(g.normal(channels), stem) for stem in ("gamma", "beta", "mean"))
    epsilon = g.choices.one_of((1e-5, 1e-3, 0.1))
    name = g.choices.one_of(("BatchNormalization", "BatchNormalization", "InstanceNormalization", "GroupNormalization"))
    if name == "BatchNormalization":
        spread = g.const(np.abs(g.normal(channels)) + 0.3, "var", shared=False)
        g.node(name, [x, gamma, beta, mean, spread], epsilon=epsilon)
    elif not spatial(x):
        raise Unfit
    elif name == "InstanceNormalization":
        g.node(name, [x, gamma, beta], epsilon=epsilon)
    elif g.opset >= 21:  # of 18 to 20 the checker takes none
        groups = g.choices.one_of(divisors(channels))
        parts = [g.const(g.normal(channels), stem) for stem in ("gamma", "beta")]
        g.node(name, [x, *parts], epsilon=epsilon, num_groups=groups)


def layer_norm(g: Growth) -> None:
    """LayerNormalization (17), RMSNormalization (23), LpNormalization, LRN, mean and variance."""
    x = g.pick(lambda v: smooth(v) and v.rank > 1 and v.shape[-1] > 1)
    names = ["LpNormalization"] + ["MeanVarianceNormalization"] * (x.rank == 4) + ["LRN"] * (x.rank == 4)
    names += ["LayerNormalization"] * 2 * (g.opset >= 17) + ["RMSNormalization"] * 2 * (g.opset >= 23)
    name = g.choices.one_of(names)
    scale = [g.const(g.normal(x.shape[-1]), "gamma")] if name in ("LayerNormalization", "RMSNormalization") else []
    if name == "LayerNormalization" and g.choices.chance(60):
        scale.append(g.const(g.normal(x.shape[-1]), "beta"))
    attributes: dict[str, Any] = {"LRN": {"size": 3}, "LpNormalization": {"axis": -1, "p": 2}}.get(name, {})
    g.node(name, [x, *scale], **attributes)


def softmax(g: Growth) -> None:
    """Softmax and LogSoftmax, along one axis, or (up to 12) over all axes from one on."""
    x = g.pick(smooth)
    axis = g.choices.one_of((None, x.rank - 1, -1 if g.opset >= 11 else x.rank - 1, min(1, x.rank - 1)))
    if axis is None and g.opset < 13 and x.rank < 2:
        raise Unfit
    along: dict[str, Any] = {} if axis is None else {"axis": axis}
    g.node(g.choices.one_of(("Softmax", "LogSoftmax")), [x], **along)


def running_norm(g: Growth) -> None:
    """A norm of the project with stored statistics."""
    x = g.pick(lambda v: v.is_float and v.rank > 1)
    if g.opset != norms.OPSET:
        raise Unfit
    channels = x.shape[1]
    spread = g.const(np.abs(g.normal(channels)) + 0.3, "inv_scale", shared=False)
    inputs = [x, g.const(g.normal(channels), "mean"), spread]
    inputs += [g.const(g.normal(channels), stem) for stem in ("gamma", "beta")]
    g.node("RunningNorm", inputs, domain=norms.DOMAIN, kind=g.choices.one_of(sorted(norms.KINDS)))


def live_norm(g: Growth) -> None:
    """A norm of the project whose statistics are computed at inference."""
    x = g.pick(lambda v: spatial(v) and prod(v.space) > 3)
    if g.opset != norms.OPSET:
        raise Unfit
    inputs = [x, *(g.const(g.normal(x.shape[1]), stem) for stem in ("gamma", "beta"))]
    name = g.choices.one_of(("L1BatchNorm", "LinfBatchNorm", "L1InstanceNorm", "LinfInstanceNorm"))
    g.node(name, inputs, domain=norms.DOMAIN, epsilon=1e-3, correction=0.0)


def recurrent(g: Growth) -> None:
    """LSTM, GRU or RNN over the first axis, forward or both ways."""
    x = g.pick(lambda v: v.is_float and v.rank == 3)
    name, gates = g.choices.one_of((("LSTM", 4), ("GRU", 3), ("RNN", 1)))
    hidden, both = g.choices.integer(1, 3), g.choices.chance(30)
    ways = 2 if both else 1
    inputs = [
        x,
        g.const(g.normal(ways, gates * hidden, x.shape[2]), "weight_ih"),
        g.const(g.normal(ways, gates * hidden, hidden), "weight_hh"),
        *([g.const(g.normal(ways, 2 * gates * hidden), "bias")] if g.choices.chance(60) else []),
    ]
    extra: dict[str, Any] = {"linear_before_reset": 1} if name == "GRU" and g.choices.chance(50) else {}
    direction: dict[str, Any] = {"direction": "bidirectional"} if both else {}
    g.node(name, inputs, outputs=2, hidden_size=hidden, **direction, **extra)


def quantised(g: Growth) -> None:
    """A pair of QuantizeLinear and DequantizeLinear that is in the network already."""
    g.jumps = True
    if g.opset < 10:
        raise Unfit
    x = g.pick(smooth)
    scale, zero = g.const(np.float32(0.05), "scale", shared=False), g.const(np.uint8(128), "zero")
    q = g.node("QuantizeLinear", [x, scale, zero], keep=False)
    assert q.elem == TensorProto.UINT8
    g.node("DequantizeLinear", [q, scale, zero])


STEPS = (
    (12, conv),
    (3, conv_transpose),
    (10, gemm),
    (5, matmul),
    (2, attention),
    (5, pool),
    (6, normalised),
    (3, layer_norm),
    (3, softmax),
    (2, running_norm),
    (3, live_norm),
    (2, recurrent),
    (1, quantised),
)
