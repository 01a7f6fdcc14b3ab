"""Nodes that few models have."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from tests.runtime.float64.node_case import RNG, Case, ints, normal


def rare() -> Iterator[Case]:
    """Operators of which onnx.reference is asked, at the opsets that the shipped models leave out."""
    x, boxes = normal(2, 3, 8, 7), np.array([[0, 0, 5, 6], [1, 2, 3.5, 7]], np.float32)
    for mode, ratio, half in product(("avg", "max"), (0, 2), ("half_pixel", "output_half_pixel")):
        how = {"mode": mode, "sampling_ratio": ratio, "output_height": 3, "output_width": 2, "spatial_scale": 0.7}
        yield Case("RoiAlign", (x, boxes, ints(0, 1)), how)
        yield Case("RoiAlign", (x, boxes, ints(0, 1)), {**how, "coordinate_transformation_mode": half})
    yield Case("MelWeightMatrix", tuple(map(np.array, (8, 16, 8192, np.float32(0), np.float32(4096)))))
    grid = RNG.uniform(-1.3, 1.3, (2, 4, 5, 2)).astype(np.float32)
    edges = ("zeros", "border", "reflection")
    for mode, edge, corners in product(("bilinear", "nearest", "bicubic", "linear", "cubic"), edges, (0, 1)):
        yield Case("GridSample", (x, grid), {"mode": mode, "padding_mode": edge, "align_corners": corners})
    volume = RNG.uniform(-1.3, 1.3, (2, 2, 4, 5, 3)).astype(np.float32)
    yield Case("GridSample", (normal(2, 1, 4, 5, 6), volume), {"mode": "linear"})
    signal = normal(2, 16, 1)
    for onesided, axis in product((0, 1), (1,)):
        yield Case("DFT", (signal,), {"onesided": onesided, "axis": axis})
        yield Case("DFT", (signal, np.array(12)), {"onesided": onesided, "axis": axis})
        yield Case("DFT", (signal, None, np.array(axis)), {"onesided": onesided})
        hann = np.hanning(8).astype(np.float32)
        for one in (signal, signal[..., 0], normal(3, 33)):
            yield Case("STFT", (one, np.array(4), hann), {"onesided": onesided})
            yield Case("STFT", (one, np.array(3), None, np.array(7)), {"onesided": onesided})
            yield Case("STFT", (one, np.array(5), hann, np.array(8)), {"onesided": onesided})
    yield Case("DFT", (normal(2, 16, 2),), {"inverse": 1, "axis": 1})
    yield Case("STFT", (normal(2, 19, 2), np.array(4), None, np.array(8)), {"onesided": 0})
    places = np.argsort(RNG.random((1, 1, 16)), axis=-1)[..., :4].reshape(1, 1, 2, 2)
    yield Case("MaxUnpool", (normal(1, 1, 2, 2), places), {"kernel_shape": [2, 2], "strides": [2, 2]})
    boxes = np.sort(RNG.random((1, 9, 2, 2)).astype(np.float32), axis=2).reshape(1, 9, 4)
    limits = (np.array([4]), np.array([0.4], np.float32), np.array([0.2], np.float32))
    for center in (0, 1):
        how = {"center_point_box": center}
        yield Case("NonMaxSuppression", (boxes, RNG.random((1, 2, 9)).astype(np.float32), *limits), how)
        scalars = [limit.reshape(()) for limit in limits]
        yield Case("NonMaxSuppression", (boxes, RNG.random((1, 2, 9)).astype(np.float32), *scalars), how)
    wholes: tuple[dict[str, Any], ...] = ({}, {"axis": 0}, {"axis": 1})
    for ordered, along in product((0, 1), wholes):
        tied = RNG.integers(0, 3, (4, 3)).astype(np.float32)
        yield Case("Unique", (tied,), {"sorted": ordered, **along}, outputs=4)
    yield Case("Col2Im", (normal(1, 8, 16), ints(5, 5), ints(2, 2)))
    how = {"dilations": [2, 1], "strides": [1, 2], "pads": [1, 0, 1, 2]}
    yield Case("Col2Im", (normal(2, 8, 15), ints(5, 5), ints(2, 2)), how)
    yield Case("DeformConv", (normal(1, 2, 5, 5), normal(3, 2, 2, 2), normal(1, 8, 4, 4) / 3))
    yield Case("Det", (normal(2, 3, 3),))
    for kind in ("Hann", "Hamming", "Blackman"):
        for periodic in (0, 1):
            yield Case(f"{kind}Window", (np.array(7),), {"periodic": periodic})
    labels = np.array([0, 2, 1, 2])
    for reduction in ("none", "mean", "sum"):
        for weights in ((), (np.abs(normal(3)),)):
            how = {"reduction": reduction}
            yield Case("NegativeLogLikelihoodLoss", (normal(4, 3), labels, *weights), how)
            yield Case("NegativeLogLikelihoodLoss", (normal(4, 3), labels, *weights), {**how, "ignore_index": 2})
            yield Case("SoftmaxCrossEntropyLoss", (normal(4, 3), labels, *weights), how, outputs=2)
    yield Case("DynamicQuantizeLinear", (normal(4, 5),), outputs=3)
    for shape in (ints(2, 9), ints(5, 3), ints(4, 4)):
        yield Case("CenterCropPad", (normal(4, 5), shape))
    for approximate in ("none", "tanh"):
        yield Case("Gelu", (normal(40) * 3,), {"approximate": approximate})
    for name in ("Erf", "Softplus", "Softsign", "Mish", "HardSwish", "Sigmoid", "Tanh", "Round", "Sign", "Exp"):
        yield Case(name, (normal(40) * 3,))
    for name in ("Elu", "Celu", "LeakyRelu", "ThresholdedRelu"):
        yield Case(name, (normal(40) * 3,), {"alpha": 0.7})
        yield Case(name, (normal(40) * 3,))
    for name in ("Selu", "HardSigmoid", "Shrink"):
        yield Case(name, (normal(40) * 3,))
