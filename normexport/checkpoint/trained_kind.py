"""Which statistic a norm was trained with, found by letting a copy of its own code train on numbers that tell."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from normexport.checkpoint.dialect import Vector
from normexport.norms import CHUNKS_DEFAULT, K_DEFAULT, KINDS, NormKind

#: How constant over channels a stored statistic divided by a kind's must be: an epsilon of 1e-5 beside statistics of
#: 0.2 and more moves it by 5e-5; two different kinds on these numbers by 3e-2 and more.
_SAME = 1e-3
#: Sizes of the space that the layer may take; 128 or more elements of each channel.
_SPACES: tuple[tuple[int, ...], ...] = ((4, 4), (), (16,), (4, 2, 2))


def trained_kind(module: nn.Module, stat: str) -> str | None:
    """The kind whose statistic `module` averages into its buffer `stat` while it trains.

    The buffer must become `a*old + (1-a)*s`, with s, 1/s or sqrt(s) a constant multiple of the kind's statistic in
    every channel. A copy is trained, in float64; the caller's module and PyTorch's random numbers stay as they are.

    Returns:
        A key of `norms.KINDS`, None where the code can't be run alone, or averages something else.
    """
    for space in _SPACES:
        x = _telling_numbers(module._buffers.get(stat), space)
        stored = _averaged(module, stat, x)
        if stored is not None:
            return _kind_of(module, stored, x)
    return None


def _telling_numbers(like: Tensor | None, space: tuple[int, ...]) -> Tensor:
    """(N, C, *space) float64: normal, uniform and long-tailed channels, each with its own place and spread."""
    count = 0 if like is None else like.numel()
    generator = torch.Generator().manual_seed(0)
    n = 8 if space else 128
    noise = torch.randn((n, count, *space), generator=generator, dtype=torch.float64)
    shape = (1, count, *([1] * len(space)))
    which = torch.arange(count).remainder(3).reshape(shape)
    values = torch.where(which == 0, noise, torch.where(which == 1, torch.erf(noise), noise**3))
    spread = torch.linspace(0.5, 3, count, dtype=torch.float64).reshape(shape)
    return values * spread + torch.linspace(-1, 2, count, dtype=torch.float64).reshape(shape)


def _averaged(module: nn.Module, stat: str, x: Tensor) -> Vector | None:
    """What a step of training averages into the buffer, (C,); None where it does not run, or is no average."""
    after = [_after_step(module, stat, x, start) for start in (0.0, 1.0)]
    if after[0] is None or after[1] is None:
        return None
    kept = after[1] - after[0]
    if not np.allclose(kept, kept[:1], rtol=0, atol=1e-9) or not 0 <= kept[0] < 0.9999:
        return None
    stored: Vector = after[0] / (1 - kept)
    return stored if np.isfinite(stored).all() and (stored > 0).all() else None


def _after_step(module: nn.Module, stat: str, x: Tensor, start: float) -> Vector | None:
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            probe = copy.deepcopy(module).double().train()
            probe.get_buffer(stat).fill_(start)
            probe(x.clone())
            return probe.get_buffer(stat).double().reshape(-1).numpy().copy()
    except Exception:  # a layer's own code can raise anything
        return None


def _kind_of(module: nn.Module, stored: Vector, x: Tensor) -> str | None:
    rows = x.transpose(0, 1).flatten(1).numpy()
    centred = rows - rows.mean(axis=1, keepdims=True)
    readings = (stored, 1 / stored, np.sqrt(stored))
    spreads = {
        kind.name: min(_unevenness(reading / own) for own in _statistics(kind, module, centred) for reading in readings)
        for kind in KINDS.values()
    }
    best = min(spreads, key=spreads.__getitem__)
    return best if len(stored) > 1 and spreads[best] < _SAME else None


def _statistics(kind: NormKind, module: nn.Module, centred: Vector) -> Iterator[Vector]:
    """The kind's statistic with each value of its parameters that the module may mean."""
    ks = {_whole(module, "k", K_DEFAULT), K_DEFAULT} if "k" in kind.parameters else {K_DEFAULT}
    chunks = {_whole(module, "num_chunks", 1), _whole(module, "chunks", 1), CHUNKS_DEFAULT, 1}
    for k in sorted(k for k in ks if k <= centred.shape[1]):
        for pieces in sorted(chunks) if "chunks" in kind.parameters else [CHUNKS_DEFAULT]:
            yield kind.statistic(centred, k=k, chunks=pieces, correction=1.0)


def _whole(module: nn.Module, name: str, default: int) -> int:
    value = getattr(module, name, default)
    return value if type(value) is int and value > 0 else default


def _unevenness(ratio: Vector) -> float:
    return float(np.max(ratio) / np.min(ratio) - 1)
