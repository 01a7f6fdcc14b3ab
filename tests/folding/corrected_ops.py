"""Operators that onnx.reference (1.23) computes wrongly, from their definitions in numpy.

Its GlobalMaxPool reduces axes 2 and 3 only where there are exactly two of space, its grouped ConvTranspose slices
the weight by output channels and never slices the bias, and its MaxPool with strides or dilations runs out of bounds.
What it does right is left to it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun
from onnx.reference.ops import op_conv_transpose, op_max_pool

from normexport.runtime.base import Array

_BuiltInMaxPool: Any = op_max_pool.MaxPool
_BuiltInConvTranspose: Any = op_conv_transpose.ConvTranspose


class GlobalMaxPool(OpRun):
    """(N, C, *space) -> (N, C, 1...): the maximum over space."""

    def _run(self, x: Array) -> tuple[Array]:
        return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)


class MaxPool(_BuiltInMaxPool):  # type: ignore[misc]  # onnx.reference has no types
    """The largest element of each window; padding never wins."""

    def _run(self, x: Array, **attributes: Any) -> tuple[Array, ...]:
        padded = attributes.get("auto_pad") not in (None, "NOTSET")
        if padded or attributes.get("ceil_mode") or len(self.onnx_node.output) > 1:
            dilated = max(attributes.get("dilations") or [1]) > 1
            _require(not dilated, "MaxPool with dilations and auto_pad, ceil_mode or indices")
            return tuple(super()._run(x, **attributes))
        kernel, rank = attributes["kernel_shape"], x.ndim - 2
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


class ConvTranspose(_BuiltInConvTranspose):  # type: ignore[misc]  # onnx.reference has no types
    """y[n, g*M + m, stride*i + dilation*k - begin] += x[n, c, i] * w[c, m, k], c in group g of M channels each."""

    def _run(self, x: Array, w: Array, b: Array | None = None, **attributes: Any) -> tuple[Array, ...]:
        given = {name: value for name, value in attributes.items() if value is not None}
        if given.get("group", 1) == 1:
            return tuple(super()._run(x, w, b, **attributes))
        _require(given.get("auto_pad", "NOTSET") == "NOTSET", "grouped ConvTranspose with auto_pad")
        _require("output_shape" not in given, "grouped ConvTranspose with output_shape")
        rank = x.ndim - 2
        defaults = {"strides": [1] * rank, "dilations": [1] * rank, "output_padding": [0] * rank}
        a = {**defaults, "pads": [0] * (2 * rank), **given}
        reach = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], a["dilations"], strict=True)]
        full = [
            (side - 1) * s + r + extra
            for side, s, r, extra in zip(x.shape[2:], a["strides"], reach, a["output_padding"], strict=True)
        ]
        groups, both = a["group"], (slice(None), slice(None))
        y = np.zeros((len(x), groups * w.shape[1], *full), x.dtype)
        weights: Any = w.reshape(groups, -1, w.shape[1], int(np.prod(w.shape[2:])))
        inputs: Any = x.reshape(len(x), groups, -1, *x.shape[2:])
        for index, tap in enumerate(np.ndindex(*w.shape[2:])):
            steps = zip(tap, a["dilations"], a["strides"], x.shape[2:], strict=True)
            place = tuple(slice(t * d, t * d + s * (side - 1) + 1, s) for t, d, s, side in steps)
            part = np.einsum("ngc...,gcm->ngm...", inputs, weights[..., index])
            y[both + place] += part.reshape(len(x), -1, *x.shape[2:])
        crop = tuple(slice(a["pads"][i], full[i] - a["pads"][i + rank]) for i in range(rank))
        y = y[both + crop]
        return (y if b is None else y + b.reshape(-1, *[1] * rank),)


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise NotImplementedError(what)


#: For `ReferenceEvaluator(new_ops=)`.
CORRECTED: list[type[OpRun]] = [ConvTranspose, GlobalMaxPool, MaxPool]
