"""Whether a server may mix the requests of several clients into one batch, asked of the network itself.

A network whose norms take their statistics from the batch answers a client otherwise when strangers share it. So rows
of one batch are run in float64 beside the same rows alone: only where nothing changes may a server batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from normexport.bundle.content import MOST, Batching, ServedPort
from normexport.engine import Manifest
from normexport.engine.manifest import Shape
from normexport.errors import NormExportError
from normexport.onnx_export import InputSpec
from normexport.proof import Batch
from normexport.runtime import Array, Runtime

#: In float64 a row beside others differs by rounding, 1e-13 of the largest number in deep networks; statistics that are
#: shared change it by 1e-2 and more.
_SAME = 1e-8

_ROWS = 2


def batching_of(
    reference: Runtime,
    batches: Sequence[Batch],
    inputs: Sequence[InputSpec],
    ports: tuple[Sequence[ServedPort], Sequence[ServedPort]],
    manifest: Manifest | None = None,
) -> Batching:
    """How a server may batch.

    Args:
        reference: the network in float64.
        batches: inputs of the proof.
        inputs: what the network reads.
        ports: inputs and outputs of the file.
        manifest: of the plan that is served: the batch stays within its profiles.
    """
    reason = _fixed(inputs, ports)
    if reason is None:
        reason = _mixes(reference, batches)
    if reason is not None:
        return Batching(0, 0, reason)
    open_end = MOST if manifest is None else max(large[0] for *_, large in _profiles(manifest))
    ranges = [[(spec.batch.least, spec.batch.most or open_end)] for spec in inputs]
    if manifest is not None:
        ranges += [[(small[0], large[0]) for small, _, large in tensor.profiles] for tensor in manifest.inputs]
    most = min(map(_reach, ranges))
    if most < _ROWS:
        return Batching(0, 0, "it does not take every size of a batch from 1 to 2 on")
    return Batching(most, 0 if manifest is None else min(most, _usual(manifest)))


def _reach(ranges: Sequence[tuple[int, int]]) -> int:
    """The largest batch such that all from 1 to it lie in one of the ranges; 0: not even 1 does."""
    reach = 0
    for least, most in sorted(ranges):
        reach = max(reach, most) if least <= reach + 1 else reach
    return reach


def _usual(manifest: Manifest) -> int:
    """The batch that the profile with the largest ones is fastest at."""
    return max((large[0], middle[0]) for _, middle, large in _profiles(manifest))[1]


def _profiles(manifest: Manifest) -> Iterator[tuple[Shape, Shape, Shape]]:
    return (profile for tensor in manifest.inputs for profile in tensor.profiles)


def _fixed(inputs: Sequence[InputSpec], ports: tuple[Sequence[ServedPort], Sequence[ServedPort]]) -> str | None:
    for spec in inputs:
        plain = spec.batched and spec.axes == (0,) and (spec.batch.multiple, spec.batch.plus) == (1, 0)
        if not plain:
            return f"input {spec.name} has no open batch on its first axis"
    for port in (*ports[0], *ports[1]):
        if not port.shape or port.shape[0] is not None:
            return f"{port.name} has no open batch on its first axis"
    return None


def _mixes(reference: Runtime, batches: Sequence[Batch]) -> str | None:
    """Why rows may not share a batch; None: each is the same alone."""
    several = [batch for batch in batches if batch.size >= _ROWS]
    if not several:
        return "no batch of several samples was tried"
    batch = min(several, key=lambda each: each.size)
    try:
        whole = reference.run(batch.feeds)
        for row in range(_ROWS):
            alone = reference.run({name: array[row : row + 1] for name, array in batch.feeds.items()})
            for name, values in whole.items():
                if len(values) != batch.size or not _same(values[row : row + 1], alone[name], values):
                    return f"{name} of one sample depends on the others in its batch"
    except (NormExportError, RuntimeError, ValueError, TypeError) as error:
        return f"one sample alone could not be run ({type(error).__name__})"
    return None


def _same(one: Array, other: Array, scale: Array) -> bool:
    if one.shape != other.shape:
        return False
    if one.dtype.kind != "f":
        return bool((one == other).all())
    finite = np.abs(scale[np.isfinite(scale)])
    near = _SAME * float(finite.max(initial=0.0))
    return bool(np.allclose(one, other, rtol=0.0, atol=near, equal_nan=True))
