"""`load_trainable`: weights and running statistics of others' checkpoints into our modules, to train on."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from normexport.checkpoint.dialect import Dialect
from normexport.checkpoint.dialects import dialect_named
from normexport.checkpoint.finite import require_finite_norm
from normexport.checkpoint.load_file import read_state
from normexport.checkpoint.load_state import fit
from normexport.checkpoint.part import WHOLE, Part
from normexport.checkpoint.prefix import without_common_prefix
from normexport.checkpoint.recognise import Stored, choose, require_used, stored_norms
from normexport.checkpoint.records import UNKNOWN
from normexport.checkpoint.state import EXTRA_STATE, State, unwrap
from normexport.errors import CheckpointError, UsageError
from normexport.nn import Norm
from normexport.norms import KINDS
from normexport.train.bounded_weights import LoadedWeight, carry_weights
from normexport.train.conventions import CONVENTIONS

#: Kinds that dialects name beside those of `norms.KINDS`, and the norm that goes on with each.
_GOES_ON_AS = {"batchnorm": "l2"}
_COUNTER = "num_batches_tracked"
_BUILD = "build the model with norms of normexport.nn where the file has norms"


@dataclass(frozen=True)
class LoadedNorm:
    """One norm that goes on training in one of our modules.

    Attributes:
        path: of the module, "layer1.0.bn1".
        dialect: how the file stored it.
        momentum: PyTorch's, the share of the new observation, as the module has it now.
        lost: what could not be carried over, in words.
    """

    path: str
    dialect: str
    momentum: float | None
    lost: tuple[str, ...] = ()


@dataclass(frozen=True)
class Trainable:
    """What `load_trainable` did.

    Attributes:
        norms: those of the file, in its order.
        notes: what else was decided on the way.
        weights: those that the file has under another project's weight norm.
    """

    norms: tuple[LoadedNorm, ...]
    notes: tuple[str, ...]
    weights: tuple[LoadedWeight, ...] = ()


def load_trainable(
    checkpoint: str | Path | Mapping[str, Any],
    model: nn.Module,
    *,
    dialect: str | None = None,
    momentum: float | None = None,
    trust: bool = False,
    part: Part = WHOLE,
) -> Trainable:
    """Load a checkpoint of any dialect into `model`, whose norms are ours, so that training goes on.

    Evaluation computes what the original layers computed. Running statistics move on as theirs did: momentum is
    converted (the original authors' is the share of the *old* value) and set on the modules, and so is `correction`
    where a layer's constant is not the kind's own. What does not go on as it was is named per norm. A norm of another
    kind than its module is refused: `nn.convert_norms` changes kinds. Weights under weight norm, of any layout, go on
    in layers with `nn.bounded_weight_norm`, direction and length apart as they were; a plain layer gets the weight that
    they are. The optimizer's state is not read.

    Args:
        checkpoint: a file with weights by name, or such a mapping.
        model: takes the weights; only touched if all is well. Its mode, devices and types stay.
        dialect: decides where a layout has several readings; see `normexport.checkpoint.dialects()`.
        momentum: as the original layers were built with; None: the default of their constructor.
        trust, part: see `normexport.load`.

    Raises:
        UsageError: no such file, an unknown dialect, a momentum outside of 0 to 1.
        CheckpointError: other keys, shapes or kinds than the model's; NaN; an ambiguous dialect; a norm that was never
            trained; one that divides by nothing; a weight norm of another axis or order.
    """
    named = None if dialect is None else dialect_named(dialect)
    if momentum is not None and not 0 <= momentum <= 1:
        raise UsageError(
            "load_trainable", f"momentum = {momentum} is no share", "pass it as the layers were built with"
        )
    given = isinstance(checkpoint, Mapping)
    place = "the checkpoint" if given else str(checkpoint)
    own_keys = [key for key in model.state_dict() if not key.endswith(EXTRA_STATE)]
    state = State.of(checkpoint) if given else read_state(checkpoint, trust, part)  # type: ignore[arg-type]  # told by `given`
    state = without_common_prefix(own_keys, unwrap(state, own_keys))
    modules = dict(model.named_modules(remove_duplicate=False))
    loaded, settings = [], []
    for stored in list(stored_norms(state)):
        module = modules.get(stored.path)
        read = choose(stored, named) if isinstance(module, Norm) else None
        if module is None or read is None:
            _refuse_other(stored, module)
            continue
        assert isinstance(module, Norm)
        record, setting = _settings(stored, read, module, momentum)
        loaded.append(record)
        settings.append((module, setting))
        if read.name != "normexport":
            state = _rewritten(state, stored, read, module)
    require_used(named, {each.dialect for each in loaded}, place)
    state, weights = carry_weights(state, modules)
    notes = _load(model, state, place)
    for module, setting in settings:
        for name, value in setting.items():
            setattr(module, name, value)
    return Trainable(tuple(loaded), notes, weights)


def _refuse_other(stored: Stored, module: nn.Module | None) -> None:
    """Refuse a norm of the file whose module in the model can't train on with it; keys decide of any other."""
    if isinstance(module, _BatchNorm) and not any(each.name == "batchnorm" for each in stored.readings()):
        cause = (
            f"is {'/'.join(each.name for each in stored.readings())} in the file, and the model has torch's BatchNorm"
        )
        raise CheckpointError(stored.path or "the norm", cause, _BUILD)


def _settings(
    stored: Stored, read: Dialect, module: Norm, momentum: float | None
) -> tuple[LoadedNorm, dict[str, float]]:
    kind = stored.kind or read.kind
    kind = _GOES_ON_AS.get(kind, kind)
    if kind != UNKNOWN and kind != module.kind:
        other = "which has no module: it divides by nothing" if kind not in KINDS else "and convert_norms changes kinds"
        cause = f"was trained as kind {kind!r}, the model's {type(module).__name__} is of kind {module.kind!r}"
        raise CheckpointError(stored.path or "the norm", cause, f"{_BUILD} of the same kind ({other})")
    convention = CONVENTIONS[read.name]
    share = convention.share(momentum)
    setting = {} if share is None else {"momentum": share}
    if convention.correction is not None:
        setting["correction"] = convention.correction
    lost = tuple(words for words in convention.lost if module.eps != 0 or "eps=0" not in words)
    return LoadedNorm(stored.path, read.name, setting.get("momentum", module.momentum), lost), setting


def _rewritten(state: State, stored: Stored, read: Dialect, module: Norm) -> State:
    """The state with one norm under the keys and in the meaning of our module."""
    values = _as_ours(stored, read, module)
    prefix = f"{stored.path}." if stored.path else ""
    kept = state.without({prefix + key for key in stored.values})
    noted = {"version": module._version, "kind": module.kind, "eps": module.eps}
    tensors = {**kept.tensors, **{prefix + key: value for key, value in values.items()}}
    return replace(kept, tensors=tensors, metadata={**kept.metadata, stored.path: noted})


def _as_ours(stored: Stored, read: Dialect, module: Norm) -> dict[str, Tensor]:
    """1/(running_scale + eps) = inverse of what the file holds; a factor per channel goes into the weight."""
    require_finite_norm(stored)
    arrays = stored.arrays()
    params = replace(read, factor=None).decode(arrays, module.eps)
    bad = np.flatnonzero(~(np.isfinite(params.inv_scale) & (params.inv_scale > 0)))
    if bad.size:
        cause = f"{read.stat} of channel {bad[0]} is {arrays[read.stat].reshape(-1)[bad[0]]:g}: it was never trained"
        raise CheckpointError(stored.path or "the norm", cause, "take a checkpoint of a later epoch")
    gamma = params.gamma if read.factor is None else params.gamma * arrays[read.factor].reshape(-1)
    ours = {"running_mean": params.mean, "running_scale": 1 / params.inv_scale - module.eps}
    ours |= {
        name: value for name, value in (("weight", gamma), ("bias", params.beta)) if getattr(module, name) is not None
    }
    for name, value, neutral in (("weight", gamma, 1), ("bias", params.beta, 0)):
        if name not in ours and (value != neutral).any():
            raise CheckpointError(stored.path or "the norm", f"has a {name}, and the model's norm has none", _BUILD)
    tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in ours.items()}
    return tensors | {_COUNTER: stored.values[_COUNTER]} if _COUNTER in stored.values else tensors


def _load(model: nn.Module, state: State, place: str) -> tuple[str, ...]:
    """Load into a copy first, so that a model that does not fit stays as it was."""
    trial = copy.deepcopy(model)
    settled, _ = fit(trial, state, None, place)
    if settled.records:
        raise CheckpointError(next(iter(settled.records)), "is stored as no module of the model trains it", _BUILD)
    model.load_state_dict(settled.model.state_dict())
    return settled.all_notes()
