"""Operators that onnx.reference (1.23) computes wrongly, from their definitions in numpy.

Its GlobalMaxPool reduces axes 2 and 3 only where there are exactly two of space, and its grouped ConvTranspose
slices the weight by output channels and never slices the bias; its MaxPool with dilations runs out of bounds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun


class GlobalMaxPool(OpRun):
    """(N, C, *space) -> (N, C, 1...): the maximum over space."""

    def _run(self, x: np.ndarray) -> tuple[np.ndarray]:
        return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)


class MaxPool(OpRun):
    """The largest element of each window; padding never wins."""

    def _run(self, x: np.ndarray, **attributes: Any) -> tuple[np.ndarray]:
        kernel, rank = attributes["kernel_shape"], x.ndim - 2
        assert not attributes.get("ceil_mode")
        assert attributes.get("auto_pad") in (None, "NOTSET")
        ones, zeros = [1] * rank, [0] * (2 * rank)
        strides, dilations = attributes.get("strides") or ones, attributes.get("dilations") or ones
        pads = attributes.get("pads") or zeros
        around = [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)]
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        windows = np.lib.stride_tricks.sliding_window_view(
            np.pad(x, around, constant_values=-np.inf), reach, axis=tuple(range(2, x.ndim))
        )
        every = [slice(None)] * 2 + [slice(None, None, n) for n in (*strides, *dilations)]
        return (windows[tuple(every)].max(axis=tuple(range(-rank, 0))),)


class ConvTranspose(OpRun):
    """y[n, g*M + m, stride*i + dilation*k - begin] += x[n, c, i] * w[c, m, k], c in group g of M channels each."""

    def _run(self, x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None, **attributes: Any) -> tuple[np.ndarray]:
        rank = x.ndim - 2
        defaults = {"group": 1, "strides": [1] * rank, "dilations": [1] * rank, "output_padding": [0] * rank}
        given = {name: value for name, value in attributes.items() if value is not None}
        assert given.get("auto_pad", "NOTSET") == "NOTSET"
        assert "output_shape" not in given
        a = {**defaults, "pads": [0] * (2 * rank), **given}
        reach = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], a["dilations"], strict=True)]
        full = [
            (side - 1) * s + r + extra
            for side, s, r, extra in zip(x.shape[2:], a["strides"], reach, a["output_padding"], strict=True)
        ]
        groups = a["group"]
        y = np.zeros((len(x), groups * w.shape[1], *full), x.dtype)
        weights = w.reshape(groups, -1, *w.shape[1:])
        inputs = x.reshape(len(x), groups, -1, *x.shape[2:])
        for tap in np.ndindex(*w.shape[2:]):
            steps = zip(tap, a["dilations"], a["strides"], x.shape[2:], strict=True)
            place = tuple(slice(t * d, t * d + s * (side - 1) + 1, s) for t, d, s, side in steps)
            part = np.einsum("ngc...,gcm->ngm...", inputs, weights[(..., *tap)])
            y[(slice(None), slice(None), *place)] += part.reshape(len(x), -1, *x.shape[2:])
        crop = [slice(a["pads"][i], full[i] - a["pads"][i + rank]) for i in range(rank)]
        y = y[(slice(None), slice(None), *crop)]
        return (y if b is None else y + b.reshape(-1, *[1] * rank),)


CORRECTED = [ConvTranspose, GlobalMaxPool, MaxPool]
