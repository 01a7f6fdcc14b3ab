"""Weights under the weight norm of others, into a model that trains on: `nn.bounded_weight_norm`, or plain layers.

Every bounded layout is `w = rho * v/||v||_p` with an own name for each; their v goes on as it is, so that its gradients
are those that it had. What was a length per channel, `g`, goes on as the fixed one that it is now:

    norm_matters' bwn.py   w = (rho/||g||_2) * g * v/||v||_p  ->  rho_c = rho * g_c/||g||_2
    torch's weight_norm    w = g * v/||v||_2                  ->  rho_c = g_c
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from normexport.checkpoint.finite import require_finite
from normexport.checkpoint.state import State
from normexport.checkpoint.weight_norm import StoredWeight, stored_weights
from normexport.errors import CheckpointError
from normexport.nn import BoundedWeightNorm

_OURS = "normexport-bwn"
#: Layouts whose layers take the order of the norm from their constructor; all others have 2.
_ANY_ORDER = ("norm-matters-bwn", "quantized-bwn")
_UNIT_LAYOUT = "convnet-bwn"
_UNBOUNDED = "its length per channel, g, was learned, and stays what it is now"
_SHARED_OUT = "g, which shared the layer's norm out among its channels, was learned, and stays what it is now"
_UNIT = "its hook set v to length 1 at every step; here v grows, and a step turns it less"
_PLAIN = "its norm is bounded no more: the model's weight is plain; build the layer with nn.bounded_weight_norm"
_PLAIN_G = "its length and direction were learned apart, and are one plain weight now"


@dataclass(frozen=True)
class LoadedWeight:
    """One weight that was stored under weight norm.

    Attributes:
        path: of the weight, "layer1.0.conv1.weight".
        layout: how the file stored it.
        lost: what could not be carried over, in words.
    """

    path: str
    layout: str
    lost: tuple[str, ...] = ()


def carry_weights(state: State, modules: Mapping[str, nn.Module]) -> tuple[State, tuple[LoadedWeight, ...]]:
    """The state with weights of other layouts under the keys of the model's bounded layers, and what became of each.

    Weights of plain layers stay as they are: loading resolves them.

    Raises:
        CheckpointError: the model's layer has another axis or order than the file's, or a slice without a direction.
    """
    loaded = []
    for stored in list(stored_weights(state)):
        owner = stored.at.rstrip(".")
        bound = modules.get(f"{stored.at}parametrizations.{stored.name}.0")
        if stored.layout.name == _OURS:
            continue
        if isinstance(bound, BoundedWeightNorm):
            _require_same(stored, bound)
            state = _bounded(state, stored, bound)
            loaded.append(LoadedWeight(stored.key, stored.layout.name, _lost(stored)))
        elif isinstance(getattr(modules.get(owner), "_parameters", {}).get(stored.name), Tensor):
            loaded.append(
                LoadedWeight(stored.key, stored.layout.name, (_PLAIN if stored.rho is not None else _PLAIN_G,))
            )
    return state, tuple(loaded)


def _require_same(stored: StoredWeight, bound: BoundedWeightNorm) -> None:
    """Refuse an axis or order that the file contradicts; of what it does not say the model's counts."""
    axis = stored.axis if stored.g is not None and stored.g.numel() > 1 else bound.axis
    p = bound.p if stored.layout.name in _ANY_ORDER else 2.0
    if (axis, p) != (bound.axis, bound.p):
        cause = f"is normed along axis {axis} with p={p:g} in the file, and with axis={bound.axis}, p={bound.p:g} here"
        raise CheckpointError(stored.key, cause, f"build the layer with nn.bounded_weight_norm(dim={axis}, p={p:g})")


def _bounded(state: State, stored: StoredWeight, bound: BoundedWeightNorm) -> State:
    """The state with v and rho of one weight where our parametrization looks for them."""
    stored = replace(stored, axis=bound.axis, p=bound.p)
    require_finite({stored.key: stored.weight()})  # a slice of v that is all zero has no direction
    inside = f"{stored.at}parametrizations.{stored.name}"
    kept = state.without(set(stored.stored_keys()))
    ours = {f"{inside}.original": stored.v, f"{inside}.0.rho": _length(stored)}
    noted: dict[str, Any] = {"version": bound._version, "axis": bound.axis, "p": bound.p}
    return replace(kept, tensors={**kept.tensors, **ours}, metadata={**kept.metadata, f"{inside}.0": noted})


def _length(stored: StoredWeight) -> Tensor:
    """rho as our parametrization has it: (1,), or of each slice, in the axes of v; float64."""
    length = torch.ones(1, dtype=torch.float64)
    if stored.rho is not None:
        length = stored.rho.detach().double().reshape(-1 if stored.rho.numel() == 1 else stored.rho.shape)
    if stored.g is not None:
        g = stored.g.detach().double()
        length = length * (g if stored.rho is None else g / torch.linalg.vector_norm(g))
    return length


def _lost(stored: StoredWeight) -> tuple[str, ...]:
    if stored.g is None:
        return (_UNIT,) if stored.layout.name == _UNIT_LAYOUT else ()
    return (_UNBOUNDED if stored.rho is None else _SHARED_OUT,)
