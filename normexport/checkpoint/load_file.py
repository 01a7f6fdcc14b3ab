"""The way from a file to a checkpoint with one meaning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

from normexport.checkpoint.contents import open_container, read_weights
from normexport.checkpoint.dialect import Dialect
from normexport.checkpoint.dialects import dialect_named
from normexport.checkpoint.fake_quantisation import observers
from normexport.checkpoint.fake_quantisers import replace_fake_quantisers
from normexport.checkpoint.finite import require_finite
from normexport.checkpoint.holders import refuse_keys
from normexport.checkpoint.imports import Factory, build_model
from normexport.checkpoint.inspect_state import inspect_state
from normexport.checkpoint.load_state import fit
from normexport.checkpoint.loose import copy_of_model, is_drawn, loose_numbers, same_number
from normexport.checkpoint.part import WHOLE, Part
from normexport.checkpoint.plain_weights import resolve_weight_norms
from normexport.checkpoint.program import checkpoint_of_program, load_program
from normexport.checkpoint.recognise import require_used, stored_norms
from normexport.checkpoint.records import Checkpoint, Source, WeightNormRecord
from normexport.checkpoint.replace_layers import replace_quantised
from normexport.checkpoint.replace_norms import Settled, has_hooks, replace_norms
from normexport.checkpoint.state import State, unwrap
from normexport.checkpoint.trained_ranges import refuse_fake_quantisers
from normexport.dtypes import HALVES, torch_dtypes
from normexport.errors import UsageError
from normexport.logs import logger
from normexport.text import first_line

_LOG = logger(__name__)

#: Of a state_dict alone; whose class only inherits BatchNorm's names, its file does not say.
_BY_NAME = (
    "running_var is read as a variance, as BatchNorm's; an own class under its names may mean the divisor: "
    "give its code with --model, or pass --dialect own-divisor"
)

#: Wrappers around the network: DataParallel and DDP, AveragedModel, torch.compile.
_WRAPPERS = {
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "AveragedModel": "module",
    "OptimizedModule": "_orig_mod",
}


def load(
    path: str | Path,
    *,
    model: Factory | None = None,
    model_kwargs: Mapping[str, Any] | None = None,
    dialect: str | None = None,
    trust: bool = False,
    unquantised: bool = False,
    part: Part = WHOLE,
) -> Checkpoint:
    """Read a trained network: a `.pt2` program, a pickled module, or weights by name.

    Weights stand in a state_dict (alone or in a training checkpoint), a safetensors file, a TorchScript archive, or in
    several files, by their index or the folder that they lie in.

    Args:
        path: the file; its content decides what it is, not its suffix. Or a folder as Hugging Face lays it out.
        model: for a state_dict: "package.module:factory", a callable, or a module. Naming code is consent to import
            that module and call the factory. Without it a state_dict yields records only.
        model_kwargs: arguments of the factory.
        dialect: decides where a layout has several readings; see `dialects()`.
        trust: allow the file to run code while it is loaded.
        unquantised: leave out the fake quantisation that a network was trained with; what that costs is measured, and
            the network is not proven to be that of the file.
        part: which of several networks in a file is meant, and which of its keys.

    Returns:
        The network in evaluation mode on the CPU, in float32 (float64 where it was), without gradients; norms of
        other projects replaced by `nn.RunningNorm`, weights under weight norm made plain.

    Raises:
        UsageError: no such file, a factory that does not work, an unknown dialect, nothing to be `unquantised`, a
            `part` that is not there.
        CheckpointError: damaged, would run code, other keys or shapes than the model's, NaN, or ambiguous.
    """
    checkpoint = _loaded(Path(path), model, model_kwargs, dialect, trust, unquantised, part)
    if unquantised and not checkpoint.unquantised:
        raise UsageError(str(path), "has no fake quantisation that is known", "leave --unquantised out")
    _LOG.info("%s: %s, norms: %d", path, checkpoint.source, len(checkpoint.norms))
    given = {
        "model": model if model is None or isinstance(model, str) else _code_of(model),
        "model_kwargs": model_kwargs,
        "dialect": dialect,
        "trust": trust,
        "unquantised": unquantised,
        "part": None if part == WHOLE else part,
    }
    return replace(checkpoint, asked={name: value for name, value in given.items() if value})


def _code_of(model: Any) -> str:
    """The code of a factory or module, as `--model` names it."""
    named = model if hasattr(model, "__qualname__") else type(model)
    return f"{named.__module__}:{named.__qualname__}"


def checkpoint_of(model: nn.Module | ExportedProgram) -> Checkpoint:
    """A network in memory as `load` gives one from a file, under the name of its class; `model` is not changed.

    Raises:
        UsageError: it can't be copied.
        CheckpointError: NaN, or a norm of unclear meaning.
    """
    path = Path(type(model).__name__)
    if isinstance(model, ExportedProgram):
        return checkpoint_of_program(model, path)
    try:
        copied = copy_of_model(model)
    except Exception as error:  # of whatever kind: some hold what can't be copied
        raise UsageError(
            str(path), f"can't be copied ({first_line(error)})", "save it with torch.save first"
        ) from error
    return _from_module(path, copied, None, False)


def _loaded(
    path: Path,
    model: Factory | None,
    model_kwargs: Mapping[str, Any] | None,
    dialect: str | None,
    trust: bool,
    unquantised: bool,
    part: Part,
) -> Checkpoint:
    named = None if dialect is None else dialect_named(dialect)
    opened = open_container(path, trust)
    if opened.kind == "program":
        _refuse_part(opened.path, part)
        checkpoint = load_program(opened.path, named, trust)
        require_used(named, {record.dialect for record in checkpoint.norms}, str(path))
        return _with_notes(checkpoint, model)
    weights = read_weights(opened, trust, part)
    if isinstance(weights, nn.Module):
        return _with_notes(_from_module(path, weights, named, unquantised), model)
    if model is None:
        return _bare(path, weights, named)
    built = build_model(model, model_kwargs)
    redrawn = _redrawn(built, model, model_kwargs)
    checkpoint, held = _from_state(path, weights, built, named, unquantised)
    lost = {name: value for name, value in redrawn.items() if name not in held}
    return replace(checkpoint, redrawn=lost, shards=opened.shards())


def read_state(path: str | Path, trust: bool = False, part: Part = WHOLE) -> State:
    """The weights in `path`, found in whatever holds them, prefixes of wrappers taken off; see `load`.

    Raises:
        UsageError: no such file, or it holds a program.
        CheckpointError: damaged, would run code, or holds no weights.
    """
    opened = open_container(Path(path), trust)
    if opened.kind == "program":
        raise UsageError(str(path), "is an exported program, not a state_dict", "use load")
    found = read_weights(opened, trust, part)
    return unwrap(State.of(found.state_dict()) if isinstance(found, nn.Module) else found)


def _refuse_part(path: Path, part: Part) -> None:
    if part.entry is not None:
        raise UsageError("--weights", f"means nothing here: {path} is an exported program", "leave it out")
    refuse_keys(part, path)


def _bare(path: Path, state: State, named: Dialect | None) -> Checkpoint:
    state = unwrap(state)
    norms, weights = inspect_state(state, named)
    require_used(named, {record.dialect for record in norms}, str(path))
    unknown = [stored.path for stored in stored_norms(state) if not stored.readings()]
    notes = [f"{each}: running statistics of no known dialect" for each in unknown]
    if named is None and any(record.dialect == "batchnorm" for record in norms):
        notes.append(_BY_NAME)
    return Checkpoint(path, "state_dict", None, None, norms, weights, (*state.notes, *notes))


def _from_module(path: Path, model: nn.Module, named: Dialect | None, unquantised: bool) -> Checkpoint:
    settled = Settled(_unwrapped_module(model), unquantised=unquantised)
    settled.notes.extend(_prepare(settled.model))
    return _finish(path, "module", settled, [], named)


def _from_state(
    path: Path, state: State, model: nn.Module, named: Dialect | None, unquantised: bool
) -> tuple[Checkpoint, set[str]]:
    """The checkpoint, and the paths of numbers that the file had beside the model's state_dict."""
    model = _unwrapped_module(model)
    if unquantised:
        refuse_fake_quantisers(model, str(path))
    notes = [*_prepare(model), *_narrow_to_float32(model, state)]
    settled, weights = fit(model, state, named, str(path), unquantised)
    settled.notes.extend(notes)
    return _finish(path, "state_dict", settled, weights, named), settled.held


def _finish(
    path: Path, source: Source, settled: Settled, weights: list[WeightNormRecord], named: Dialect | None
) -> Checkpoint:
    """Settle fake quantisation, norms and weight norms of a model that holds its weights."""
    quantises = any(observers(settled.model))
    original = _copy_with_own_code(settled) if quantises else None
    replace_fake_quantisers(settled)
    replace_norms(settled, named)
    replace_quantised(settled)
    require_used(named, settled.used, str(path))
    buffers = {name for name, _ in settled.model.named_buffers()}
    require_finite(_numbers(settled.model), may_be_infinite=buffers)
    resolved, notes = resolve_weight_norms(settled.model)
    settled.notes.extend(notes)
    model = settled.model.eval().requires_grad_(False)
    norms = tuple(settled.records.values())
    return Checkpoint(
        path,
        source,
        model,
        None,
        norms,
        (*weights, *resolved),
        settled.all_notes(),
        unproven=settled.unproven(),
        original=original,
        unquantised=settled.unquantised and (quantises or settled.has_ranges),
    )


def settle_quantisation(model: nn.Module, unquantised: bool) -> nn.Module:
    """`model`, with layers of ours for its own that quantise, in place and in its own precision."""
    settled = Settled(model, unquantised=unquantised)
    replace_norms(settled, None)
    replace_quantised(settled)
    return settled.model


def _copy_with_own_code(settled: Settled) -> nn.Module | None:
    """The network as its own code computes it; None where it can't be copied."""
    try:
        return copy_of_model(settled.model)
    except Exception:  # of whatever kind: some hold what can't be copied
        settled.doubt("", "could not be copied, and is not compared with its own code that quantises")
        return None


def _redrawn(built: nn.Module, model: Factory, model_kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Numbers that no state_dict holds, as a second call of the factory makes them where it makes others."""
    built = _unwrapped_module(built)
    if isinstance(model, nn.Module) or not any(map(is_drawn, loose_numbers(built, own_classes=True).values())):
        return {}
    try:
        again = loose_numbers(_unwrapped_module(build_model(model, model_kwargs)), own_classes=True)
    except UsageError:  # a factory that works once
        return {}
    first = loose_numbers(built, own_classes=True)
    return {path: value for path, value in again.items() if path in first and not same_number(first[path], value)}


def _unwrapped_module(model: nn.Module) -> nn.Module:
    """The network inside its wrappers, parts of it that were compiled included.

    Wrappers are PyTorch's own without hooks, which hand on what the network computes.
    """
    while _is_wrapper(model):
        model = model.get_submodule(_WRAPPERS[type(model).__name__])
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child).__name__ == "OptimizedModule" and _is_wrapper(child):
                parent._modules[name] = child._modules["_orig_mod"]
    return model


def _is_wrapper(model: nn.Module) -> bool:
    attribute, home = _WRAPPERS.get(type(model).__name__), type(model).__module__
    return home.startswith("torch.") and not has_hooks(model) and list(model._modules) == [attribute]


def _prepare(model: nn.Module) -> list[str]:
    """Evaluation mode, CPU, no gradients, half types widened to float32; in place. Says what was widened."""
    model.eval().requires_grad_(False).to("cpu")
    half = {value.dtype for value in _numbers(model).values()} & torch_dtypes(HALVES)
    for value in (*model.parameters(), *model.buffers()):
        if value.dtype in half:
            value.data = value.data.float()
    return [
        f"the model's {str(dtype).removeprefix('torch.')} is computed in float32" for dtype in sorted(half, key=str)
    ]


def _narrow_to_float32(model: nn.Module, state: State) -> list[str]:
    """A model that was made in float64 for a file without it becomes float32, as the network was trained."""
    types = {value.dtype for value in model.parameters() if value.is_floating_point()}
    if types != {torch.float64} or any(value.dtype == torch.float64 for value in state.tensors.values()):
        return []
    for value in (*model.parameters(), *model.buffers()):
        if value.dtype == torch.float64:
            value.data = value.data.float()
    return ["the model's float64 is computed in float32, which the file has"]


def _numbers(model: nn.Module) -> dict[str, torch.Tensor]:
    """The state_dict without what `get_extra_state` puts into it."""
    return {key: value for key, value in model.state_dict().items() if isinstance(value, torch.Tensor)}


def _with_notes(checkpoint: Checkpoint, model: Factory | None) -> Checkpoint:
    if model is None:
        return checkpoint
    note = "the file holds the whole network; --model is not used"
    return replace(checkpoint, notes=(*checkpoint.notes, note))
