"""Nodes that slide a window or resize: convolutions, pools, Upsample and Resize."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from tests.runtime.float64.node_case import RNG, Case, ints, normal


def windows() -> Iterator[Case]:
    for rank in (1, 2, 3):
        x = normal(2, 4, *(9, 8, 7)[:rank])
        kernel, ones = (3, 2, 3)[:rank], [1] * rank
        grids: list[dict[str, Any]] = [
            {},
            {"strides": [2] * rank},
            {"dilations": [2] * rank},
            {"pads": [1] * (2 * rank)},
            {"pads": [1, 0, 1][:rank] + [0, 1, 1][:rank], "strides": [2] * rank},
            {"strides": [2] * rank, "dilations": [2] * rank, "pads": [1] * (2 * rank)},
            {"auto_pad": "SAME_UPPER", "strides": [2] * rank},
            {"auto_pad": "SAME_LOWER", "strides": [2] * rank},
            {"auto_pad": "SAME_LOWER"},
            {"auto_pad": "VALID", "strides": [3] * rank},
        ]
        for grid in grids:
            for group in (1, 2, 4):
                w = normal(8, 4 // group, *kernel)
                yield Case("Conv", (x, w, normal(8)), {"group": group, **grid})
                yield Case("ConvTranspose", (x, normal(4, 2, *kernel), normal(2 * group)), {"group": group, **grid})
            for pool in ("MaxPool", "AveragePool", "LpPool"):
                how = {"kernel_shape": list(kernel), **grid}
                yield Case(pool, (x,), how)
                yield Case(pool, (x,), {**how, "ceil_mode": 1})
            yield Case("AveragePool", (x,), {"kernel_shape": list(kernel), **grid, "count_include_pad": 1})
            both = {"count_include_pad": 1, "ceil_mode": 1}
            yield Case("AveragePool", (x,), {"kernel_shape": list(kernel), **grid, **both})
            yield Case("MaxPool", (x,), {"kernel_shape": list(kernel), **grid}, outputs=2)
            yield Case("MaxPool", (x,), {"kernel_shape": list(kernel), **grid, "storage_order": 1}, outputs=2)
            yield Case("LpPool", (x,), {"kernel_shape": list(kernel), **grid, "p": 3})
        padding = {"strides": [3] * rank, "output_padding": [1] * rank}
        yield Case("ConvTranspose", (x, normal(4, 2, *kernel)), padding)
        wanted = {"strides": [3] * rank, "output_shape": [3 * n + 1 for n in x.shape[2:]]}
        for auto in ("NOTSET", "SAME_UPPER", "SAME_LOWER"):
            yield Case("ConvTranspose", (x, normal(4, 2, *kernel)), {**wanted, "auto_pad": auto})
        yield Case("Conv", (x, normal(8, 4, *ones)))
        for name in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"):
            yield Case(name, (x,))
    byte = (RNG.integers(0, 255, (2, 4, 9, 8))).astype(np.uint8)
    yield Case("MaxPool", (byte,), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, feeds_integers=True)


def resizing() -> Iterator[Case]:
    x = normal(1, 2, 6, 5)
    up, down, odd = [np.array(s, np.float32) for s in ([1, 1, 2, 3], [1, 1, 0.5, 0.6], [1, 1, 1.7, 0.8])]
    for mode in ("nearest", "linear", "bilinear"):
        yield Case("Upsample", (x,), {"mode": mode, "scales": [1.0, 1.0, 2.0, 3.0]})
        yield Case("Upsample", (x,), {"mode": mode, "height_scale": 2.0, "width_scale": 3.0})
        for scales in (up, odd[[0, 1, 2, 0]], down):
            yield Case("Upsample", (x, scales), {"mode": mode})
            yield Case("Resize", (x, scales), {"mode": mode})
    transforms = ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric")
    for transform, scales in product((*transforms, "tf_half_pixel_for_nn"), (up, down, odd)):
        how = {"coordinate_transformation_mode": transform}
        rounds = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
        for nearest in rounds:
            if (transform, nearest) == ("half_pixel_symmetric", "floor") and scales is down:
                continue  # (1.5 / 0.6) - 0.5 is on an edge: 2 in float32, and 1 in ONNX Runtime
            yield Case("Resize", (x, None, scales), {**how, "mode": "nearest", "nearest_mode": nearest})
        for mode, outside in product(("linear", "cubic"), (0, 1)):
            yield Case("Resize", (x, None, scales), {**how, "mode": mode, "exclude_outside": outside})
        for mode, outside in product(("linear", "cubic"), (0, 1)):
            yield Case("Resize", (x, None, scales), {**how, "mode": mode, "antialias": 1, "exclude_outside": outside})
    for mode, sizes in product(("nearest", "linear", "cubic"), ((1, 2, 9, 4), (1, 2, 1, 1), (1, 2, 3, 11))):
        for transform in transforms:
            how = {"mode": mode, "coordinate_transformation_mode": transform}
            yield Case("Resize", (x, None, None, ints(*sizes)), how)
    for policy in ("not_larger", "not_smaller"):
        more: dict[str, Any] = {"mode": "linear", "keep_aspect_ratio_policy": policy, "axes": [2, 3]}
        yield Case("Resize", (x, None, None, ints(9, 4)), more)
    yield Case("Resize", (x, None, np.array([2, 0.5], np.float32)), {"axes": [3, 2], "mode": "linear"})
    roi = np.array([0, 0, 0.2, 0.1, 1, 1, 0.9, 1.3], np.float32)
    for mode in ("nearest", "linear", "cubic"):
        more = {"mode": mode, "coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 7.0}
        yield Case("Resize", (x, roi, None, ints(1, 2, 4, 7)), more)
