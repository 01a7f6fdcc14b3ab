"""What is odd about a norm's stored numbers, in words, by channel."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from normexport.checkpoint.dialect import MULTIPLIER, VARIANCE, Dialect, Vector
from normexport.norms import AffineParams
from normexport.text import channels

#: 1/statistic beyond this amplifies rounding of the producer to visible size in fp16, which ends at 65504.
HUGE = 1e4


def health(dialect: Dialect, own: dict[str, Vector], params: AffineParams) -> tuple[str, ...]:
    """Findings on one norm: `own` as stored, `params` as decoded. Empty is healthy.

    Never trained, zero or negative statistics, 1/statistic over 1e4, gamma of zero.
    """
    if never_updated(dialect, own):
        return ("running statistics were never updated", *_affine(params))
    return (*_statistic(dialect, own, params), *_affine(params))


def never_updated(dialect: Dialect, own: dict[str, Vector]) -> bool:
    """Whether the running statistics still are what the constructor wrote."""
    tracked = own.get("num_batches_tracked")
    if tracked is not None and tracked.size == 1 and int(tracked.reshape(-1)[0]) == 0 and _is_initial(dialect, own):
        return True
    return _is_initial(dialect, own) and tracked is None


def _is_initial(dialect: Dialect, own: dict[str, Vector]) -> bool:
    return not own[dialect.mean].any() and bool((own[dialect.stat] == dialect.initial).all())


def _statistic(dialect: Dialect, own: dict[str, Vector], params: AffineParams) -> Iterator[str]:
    if dialect.stat == dialect.mean:
        return
    stat = own[dialect.stat].reshape(-1)
    dead, negative = stat == 0, stat < 0
    if dead.any() and dialect.reading is MULTIPLIER:
        yield f"{_where(dead)}: {dialect.stat} is zero, so only the bias is left"
    elif dead.any():
        yield f"{_where(dead)}: {dialect.stat} is zero (dead: the input was constant in training)"
    if negative.any():
        word = "negative variance" if dialect.reading is VARIANCE else f"{dialect.stat} is negative"
        yield f"{_where(negative)}: {word}"
    huge = np.isfinite(params.inv_scale) & (np.abs(params.inv_scale) > HUGE) & ~dead
    if huge.any():
        yield f"{_where(huge)}: 1/statistic is over {HUGE:.0e} (up to {np.abs(params.inv_scale[huge]).max():.2g})"


def _affine(params: AffineParams) -> Iterator[str]:
    if (params.gamma == 0).any():
        yield f"{_where(params.gamma == 0)}: gamma is zero, so only the bias is left"


def _where(mask: NDArray[np.bool_]) -> str:
    return channels([int(index) for index in np.flatnonzero(mask)], total=len(mask))
