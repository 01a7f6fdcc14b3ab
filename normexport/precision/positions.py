"""Outputs whose size goes with the sample's: every position (a pixel, a step) is a sample, its channels are its row.

So maps of several sizes have one SNR, one SNR a channel, and a share of positions that decide alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from normexport.precision.decisions import Choice, channel_axes
from normexport.runtime import Array


def by_position(parts: Sequence[Array], value: ir.Value | None) -> Array | None:
    """What the runs gave, samples on axis 0, as (positions, channels), or (positions,) where there are none.

    None where the runs differ in nothing but how many samples they have, or in their number of axes.
    """
    if len({part.shape[1:] for part in parts}) < 2 or len({part.ndim for part in parts}) > 1:
        return None
    axis = channel_axis(parts, value)
    if axis is None:
        return np.concatenate([part.reshape(-1) for part in parts])
    return np.concatenate([np.moveaxis(part, axis, -1).reshape(-1, part.shape[axis]) for part in parts])


def channel_axis(parts: Sequence[Array], value: ir.Value | None) -> int | None:
    """The axis of channels, which is as long in every run; of whole numbers one of length 1, as an ArgMax keeps it."""
    rank = parts[0].ndim
    whole = parts[0].dtype.kind != "f"
    axes = [1] if whole and rank > 2 else [] if whole else channel_axes(value, rank)
    lengths = {axis: {part.shape[axis] for part in parts} for axis in axes}
    return next((axis for axis in axes if len(lengths[axis]) == 1 and (not whole or lengths[axis] == {1})), None)


def choice_by_position(choice: Choice, scores: Sequence[Array], value: ir.Value | None) -> Choice | None:
    """A choice among the channels, which are then the last axis; None for one along another axis."""
    axis = channel_axis(scores, value)
    return replace(choice, axis=-1) if axis is not None and choice.axis % scores[0].ndim == axis else None
