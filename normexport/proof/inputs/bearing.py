"""What a reference bears: at which inputs it runs, gives finite numbers, and its own precision is near its float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from normexport.errors import NormExportError
from normexport.proof.inputs.batches import Batch
from normexport.proof.metrics import measure
from normexport.runtime import Array, Runtime, release_memory

if TYPE_CHECKING:
    from normexport.proof.check import Factory

Outputs: TypeAlias = Mapping[str, Array]

REFUSES = "does not run"
_STEADY = 1e-4  # relative error of the reference's own precision; the worst honest float32 net measured is at that
_WORSE = 10.0  # times its error at the lowest range: beyond, the numbers are the cause


def allowed_beside(lowest: float) -> float:
    """How far the own precision may be off its float64, where at the lowest range it is `lowest`."""
    return max(_STEADY, _WORSE * lowest)


def breaking(tested: Sequence[Batch], own: Factory, exact: Factory | None) -> set[int]:
    """At which of the batches the reference breaks, though not at the first; none where it breaks there too."""
    ours = _outcomes(own, tested)
    before = ours[0]
    if isinstance(before, str):
        return set()
    broken = {number for number, outputs in enumerate(ours) if break_in(outputs, before)}
    if exact is not None:
        theirs = _outcomes(exact, tested)
        allowed = allowed_beside(difference(theirs[0], before))
        pairs = enumerate(zip(theirs[1:], ours[1:], strict=True), 1)
        broken |= {number for number, (reference, outputs) in pairs if not difference(reference, outputs) <= allowed}
    return broken


def break_in(outputs: Outputs | str, before: Outputs) -> str | None:
    """What the reference does instead of giving finite numbers where it gave such before."""
    if isinstance(outputs, str):
        return outputs
    for name, lowest in before.items():
        if np.isfinite(lowest).all() and not np.isfinite(outputs[name]).all():
            return f"overflows (output {name})"
    return None


def difference(exact: Outputs | str, own: Outputs | str) -> float:
    """As `distance`; beyond all where one of them does not run."""
    return float("inf") if isinstance(exact, str) or isinstance(own, str) else distance(exact, own)


def distance(exact: Outputs, own: Outputs) -> float:
    """The largest relative error (RMS) of an output; of integers, the share that differs."""
    worst = 0.0
    for name, value in exact.items():
        if name not in own or own[name].shape != value.shape:
            return float("inf")
        finite = np.isfinite(value) & np.isfinite(own[name])
        if not finite.any():
            continue
        errors = measure(value[finite], own[name][finite])
        share = errors.relative_rms if errors.floating else errors.rms
        if errors.max_abs > 0:
            worst = max(worst, share if np.isfinite(share) else float("inf"))
    return worst


def outcome(runtime: Runtime, feeds: Mapping[str, Array]) -> Outputs | str:
    try:
        return {name: _plain(value) for name, value in runtime.run(feeds).items()}
    except NormExportError:  # its words are about shapes; what is wrong here is the numbers
        return REFUSES


def _outcomes(make: Factory, batches: Sequence[Batch]) -> list[Outputs | str]:
    runtime = make()
    found = [outcome(runtime, batch.feeds) for batch in batches]
    del runtime
    release_memory()
    return found


def _plain(value: Array) -> Array:
    return value if value.dtype.kind in "fiub" else value.astype(np.float32)  # bfloat16 and its like
