"""Check a decoded norm against what its module's own forward computes."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from normexport.checkpoint.dialect import Vector
from normexport.checkpoint.recognise import OBSERVER
from normexport.checkpoint.without_noise import WithoutNoise
from normexport.norms import AffineParams

#: Both sides are float64; what remains is an epsilon placed elsewhere, from 1e-5 on, or float32 inside the layer.
TOLERANCE = 1e-6
#: Space of the probe, tried in this order: the original layers take only (N, C, H, W).
_SPACES: tuple[tuple[int, ...], ...] = ((3, 3), (), (5,), (2, 3, 3))


#: Strengths of the input, in spreads of the statistics.
_SCALES = (1.0, 0.05, 40.0)


@dataclass(frozen=True)
class Agreement:
    """How far a module computes what a reading of its tensors says.

    Attributes:
        agrees: exactly; within the rounding of a layer that quantises; not; or it could not be run.
        error: largest error relative to the channel's signal.
        steady: whether two runs gave the same.
    """

    agrees: Literal["exactly", "rounded", "no", "unknown"]
    error: float = 0.0
    steady: bool = True


def agreement_of(module: nn.Module, params: AffineParams, quantised: bool) -> Agreement:
    """Run `module` (a float64 copy in evaluation) on input spread like its statistics; compare with `params`.

    And on weaker and stronger input: a layer that clips, or adds a little of something else, is no norm.
    A quantising layer is compared with its observer off and, where that is not exact, within two steps of
    its rounding of each parameter (a step is the range over 2^bits - 1; stochastic rounding moves by one).
    """
    try:
        probe = _probe_copy(module)
    except Exception:  # a module that can't be copied can't be run without changing it
        return Agreement("unknown")
    bits = _bits(module) if quantised else None
    for space in _SPACES:
        agreements = [_at_scale(probe, params, space, scale, bits) for scale in _SCALES]
        if agreements[0] is not None:  # else another number of dimensions may do
            return max((each or Agreement("unknown") for each in agreements), key=_badness)
    return Agreement("unknown")


def measured(module: nn.Module, mean: Vector) -> AffineParams | None:
    """The affine map per channel that `module` computes without its observer and its noise; None where it is none."""
    probe = _probe_copy(module)
    with WithoutNoise(), torch.no_grad():
        for space in _SPACES:
            try:
                shape = (2, len(mean), *space)
                at_mean = torch.as_tensor(mean, dtype=torch.float64).reshape(1, -1, *([1] * len(space))).expand(shape)
                low, high = (_first_row(probe(at_mean + shift)) for shift in (0.0, 1.0))
            except Exception:  # a layer's own code can raise anything
                continue
            params = AffineParams.of(mean, high - low, None, low)
            return params if agreement_of(module, params, False).agrees == "exactly" else None
    return None


def _first_row(y: Tensor) -> Vector:
    row: Vector = y.transpose(0, 1).flatten(1)[:, 0].numpy()
    return row


def _at_scale(
    probe: nn.Module, params: AffineParams, space: tuple[int, ...], scale: float, bits: int | None
) -> Agreement | None:
    """The agreement at one strength of the input; None where `probe` does not run on it, or makes another shape."""
    x = _input(params, space, scale)
    try:
        with torch.no_grad():
            first, second = probe(x.clone()), probe(x.clone())
    except Exception:  # a layer's own code can raise anything
        return None
    if not isinstance(first, Tensor) or first.shape != x.shape:
        return None
    return _judge(x, first, second, params, bits)


def _badness(agreement: Agreement) -> tuple[int, bool, float]:
    return ("exactly", "rounded", "unknown", "no").index(agreement.agrees), not agreement.steady, agreement.error


def _probe_copy(module: nn.Module) -> nn.Module:
    probe = copy.deepcopy(module).double().eval()
    if OBSERVER in probe._modules:
        probe._modules[OBSERVER] = nn.Identity()
    return probe


def _input(params: AffineParams, space: tuple[int, ...], scale: float) -> Tensor:
    """(4, C, *space) float64: mean plus noise of `scale` times the size of 1/inv_scale, the same on every call."""
    with np.errstate(divide="ignore"):
        spread = 1 / np.abs(params.inv_scale)
    spread = np.where(np.isfinite(spread), spread, 1.0)
    noise = torch.randn((4, params.channels, *space), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return _wide(params.mean, noise) + noise * scale * _wide(spread, noise)


def _wide(vector: np.ndarray[tuple[int, ...], np.dtype[np.float64]], like: Tensor) -> Tensor:
    return torch.from_numpy(np.array(vector)).reshape(1, -1, *([1] * (like.dim() - 2)))


def _judge(x: Tensor, first: Tensor, second: Tensor, params: AffineParams, bits: int | None) -> Agreement:
    centred = x - _wide(params.mean, x)
    signal = centred * _wide(params.inv_scale * params.gamma, x)
    expected = signal + _wide(params.beta, x)
    error = _by_channel(first.to(torch.float64) - expected)
    # A layer that computes in float32 inside loses its eps (6e-8) of the uncentred product.
    offset = np.abs(params.mean * params.inv_scale * params.gamma)
    size = _by_channel(signal) + np.abs(params.beta)
    steady = bool(torch.equal(first, second))
    relative = float(np.max(error / np.maximum(size, np.finfo(np.float64).tiny), initial=0.0))
    if np.all(error <= TOLERANCE * size + 2e-7 * offset) and steady:
        return Agreement("exactly", relative)
    if bits is not None and np.all(error <= _rounding(_by_channel(centred), params, bits)):
        return Agreement("rounded", relative, steady)
    return Agreement("no", relative, steady)


def _by_channel(values: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    found: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = values.abs().transpose(0, 1).flatten(1).amax(1).numpy()
    return found


def _bits(module: nn.Module) -> int:
    bits = getattr(module, "num_bits", 8)
    return bits if isinstance(bits, int) else 8


def _rounding(
    centred: np.ndarray[tuple[int, ...], np.dtype[np.float64]], params: AffineParams, bits: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """How far two steps in each of inv_scale, gamma and beta move y, (C,)."""
    inverse, gamma, beta = (
        2 * (values.max() - values.min()) / (2**bits - 1) for values in (params.inv_scale, params.gamma, params.beta)
    )
    product = np.abs(params.gamma) * inverse + np.abs(params.inv_scale) * gamma + inverse * gamma
    moved: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = centred * product + beta
    return moved * (1 + TOLERANCE) + TOLERANCE
