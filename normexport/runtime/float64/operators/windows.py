"""Geometry of windows that slide over space: padding, output sizes and blocks of bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from normexport.runtime.float64.registry import Call, Unsupported
from normexport.runtime.float64.room import require_room


@dataclass(frozen=True)
class Windows:
    """Windows of `kernel` elements, `dilations` apart, every `strides`, over space padded by `begins` and `ends`.

    `sizes`: of the output.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def reach(self) -> tuple[int, ...]:
        """From the first to the last element of a window."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    def padded(self, x: Any, fill: float) -> Any:
        """x (N, C, *space) with what the windows read around it; x itself where that is nothing."""
        axes = list(zip(self.begins, self.overhang(x.shape[2:]), strict=True))
        if all(pair == (0, 0) for pair in axes):
            return x
        require_room([*x.shape[:2], *(s + b + e for s, (b, e) in zip(x.shape[2:], axes, strict=True))], "padding")
        return np.pad(x, [(0, 0), (0, 0), *axes], constant_values=fill)

    def overhang(self, space: Sequence[int]) -> tuple[int, ...]:
        """Elements after the input's end that some window reads (`ends`, and more where sizes were rounded up)."""
        needed = [
            (n - 1) * s + r - b - side
            for n, s, r, b, side in zip(self.sizes, self.strides, self.reach, self.begins, space, strict=True)
        ]
        return tuple(max(end, need, 0) for end, need in zip(self.ends, needed, strict=True))

    def view(self, padded: Any) -> Any:
        """(N, C, *sizes, *kernel): every window of an array that `padded` made, without a copy."""
        rank = len(self.kernel)
        windows = np.lib.stride_tricks.sliding_window_view(padded, self.reach, axis=tuple(range(2, 2 + rank)))
        starts = [slice(0, (n - 1) * s + 1, s) for n, s in zip(self.sizes, self.strides, strict=True)]
        key = (slice(None), slice(None), *starts, *(slice(None, None, d) for d in self.dilations))
        return windows[key]

    def tap(self, padded: Any, offset: Sequence[int]) -> Any:
        """(N, C, *sizes): the element at `offset` of every window, without a copy."""
        steps = zip(offset, self.dilations, self.strides, self.sizes, strict=True)
        key = (..., *(slice(o * d, o * d + (n - 1) * s + 1, s) for o, d, s, n in steps))
        return padded[key]


def windows_of(call: Call, space: Sequence[int], kernel: Sequence[int], *, rounds_up: bool = False) -> Windows:
    """The windows that a node's attributes describe over an input of these sizes.

    rounds_up: `ceil_mode`; a window that would start in the padding after the end does not count.
    """
    rank = len(space)
    kernel = tuple(kernel)
    strides = tuple(call["strides"] or [1] * rank)
    dilations = tuple(call["dilations"] or [1] * rank)
    if not len(kernel) == len(strides) == len(dilations) == rank or min((*strides, *dilations, *kernel), default=1) < 1:
        raise Unsupported("kernel, strides or dilations do not fit the input")
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    auto = call["auto_pad"] or "NOTSET"
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        sizes = [-(-side // s) for side, s in zip(space, strides, strict=True)]
        totals = [max((n - 1) * s + r - side, 0) for n, s, r, side in zip(sizes, strides, reach, space, strict=True)]
        less = [total // 2 for total in totals]
        more = [total - half for total, half in zip(totals, less, strict=True)]
        around = (less, more) if auto == "SAME_UPPER" else (more, less)
        return Windows(kernel, strides, dilations, tuple(around[0]), tuple(around[1]), tuple(sizes))
    pads = tuple(call["pads"] or [0] * (2 * rank)) if auto == "NOTSET" else (0,) * (2 * rank)
    if len(pads) != 2 * rank or min(pads, default=0) < 0:
        raise Unsupported("pads do not fit the input")
    begins, ends = pads[:rank], pads[rank:]
    sizes = []
    for side, k, s, b, e in zip(space, reach, strides, begins, ends, strict=True):
        free = side + b + e - k
        if free < 0 and not (rounds_up and free > -s):
            raise Unsupported("the window is larger than the padded input")
        size = (-(-free // s) if rounds_up else free // s) + 1
        if rounds_up and (size - 1) * s >= side + b:
            size -= 1
        sizes.append(size)
    return Windows(kernel, strides, dilations, begins, ends, tuple(sizes))
