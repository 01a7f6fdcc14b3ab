"""What a state_dict can't give back: numbers that its network's forward reads and that no key of the file holds.

The rule. Looked at is every number that is kept outside the state_dict: buffers that are not persistent, attributes
that are tensors, arrays, numbers, or lists, dicts and objects of such. It is lost state where
- a second call of the factory makes it otherwise (it is random), or it changes while the model runs in training mode,
- and the evaluation gives other results with that other value in its place.
The last is asked of the whole as well: a model that computes something else after training forwards, although all its
parameters and buffers are put back, keeps numbers where nobody looked.

Numbers that every call of the factory makes alike and that training's forward leaves alone are taken for constants;
what a training script sets from outside (a temperature that it lowers) can't be known. Weights that a hook computes
anew in every forward are not read, and so not lost.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from normexport.checkpoint import Checkpoint
from normexport.checkpoint.loose import copy_of_model, loose_numbers, same_number, set_number
from normexport.errors import CheckpointError
from normexport.onnx_export import InputSpec
from normexport.onnx_export.calls import Call, call_of, outputs_of
from normexport.proof.inputs.batches import standard_batches
from normexport.runtime import Array

#: Results that differ by less, of their largest number, are rounding.
_ROUNDING = 1e-6
_RUNS = 5  # that must agree before a difference is blamed on lost state
_STEPS = 2  # of training: a first one may only begin (an average that starts with the first batch)


def require_no_lost_state(
    checkpoint: Checkpoint, inputs: Sequence[InputSpec], data: Mapping[str, Array] | None = None
) -> None:
    """Refuse a checkpoint that was loaded into a factory's model and whose file lacks numbers that the model reads.

    Args:
        checkpoint: of a state_dict; others hold all that their network has.
        inputs: what the model reads.
        data: real inputs, run too where given.

    Raises:
        CheckpointError: naming the attribute.
    """
    model = checkpoint.model
    if checkpoint.source != "state_dict" or model is None:
        return
    call = call_of(model, inputs, str(checkpoint.path))
    for batch in standard_batches(inputs, data, sizes=(2,)):
        for path, why in _lost(model, call, checkpoint.redrawn, [batch.feeds[spec.name] for spec in inputs]):
            raise CheckpointError(
                f"{checkpoint.path}: {path}",
                f"is {why}, its forward reads it in evaluation, and no key of the file holds it",
                "make it a buffer (register_buffer) and save again, or save with torch.export.save",
            )


def _lost(
    model: nn.Module, call: Call, redrawn: Mapping[str, Any], arrays: Sequence[Array]
) -> Iterator[tuple[str, str]]:
    """Paths of lost state, each with how it is known to be."""
    fresh = loose_numbers(model)
    expected = _results(model, call, arrays)
    if expected is None or not _alike(expected, _results(model, call, arrays)):
        return  # it does not run, or at random: others say so, in their own words
    trained = _train_copy(model, call, arrays)
    changed = {} if trained is None else loose_numbers(trained)
    for path, value in fresh.items():
        for why, others in (("drawn at random by the factory", redrawn), ("changed by training", changed)):
            if path not in others or same_number(value, others[path]):
                continue
            if _alike(expected, _results(model, call, arrays, path, others[path])):
                continue
            if not _steady(model, call, arrays):
                return
            yield path, why
    if trained is not None:
        trained.load_state_dict(model.state_dict(), strict=False)
        differs = not _alike(expected, _run(trained.eval(), call, arrays))
        if differs and _steady(model, call, arrays):
            yield "the model", "changed by training beyond its parameters and buffers"


def _steady(model: nn.Module, call: Call, arrays: Sequence[Array]) -> bool:
    """Whether a model computes one thing in `_RUNS` runs now: a little noise looks like rounding once, or twice."""
    now = _results(model, call, arrays)
    return now is not None and all(_alike(now, _results(model, call, arrays)) for _ in range(_RUNS))


def _train_copy(model: nn.Module, call: Call, arrays: Sequence[Array]) -> nn.Module | None:
    """A copy after a few forwards in training mode; None where it can't be copied or trained like that."""
    copied = _copy(model)
    ran = copied is not None and all(_run(copied.train(), call, arrays) is not None for _ in range(_STEPS))
    return copied if ran else None


def _results(
    model: nn.Module, call: Call, arrays: Sequence[Array], path: str = "", value: Any = None
) -> list[Tensor] | None:
    """What a copy of `model` computes, with `value` at `path`; None where it does not run."""
    copied = _copy(model)
    if copied is None:
        return None
    if path:
        set_number(copied, path, value)
    return _run(copied.eval(), call, arrays)


def _copy(model: nn.Module) -> nn.Module | None:
    try:
        return copy_of_model(model)
    except Exception:  # some hold what can't be copied (a generator, a computed weight)
        return None


def _run(model: nn.Module, call: Call, arrays: Sequence[Array]) -> list[Tensor] | None:
    sides = [torch.from_numpy(np.array(array)) for array in arrays]
    wide = any(parameter.dtype == torch.float64 for parameter in model.parameters())
    sides = [side if not side.is_floating_point() else side.double() if wide else side.float() for side in sides]
    try:
        quiet = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
        with torch.no_grad(), torch.random.fork_rng(devices=()), quiet[0], quiet[1]:
            torch.manual_seed(0)  # a model that draws numbers draws the same ones here: that is not what is asked
            arguments, named = call.arguments(sides)
            returned = outputs_of(model(*arguments, **named))
            return [leaf.detach() for leaf in returned if isinstance(leaf, torch.Tensor)]
    except Exception:  # a model's code can raise anything
        return None


def _alike(one: list[Tensor], other: list[Tensor] | None) -> bool:
    if other is None or len(one) != len(other):
        return False
    for first, second in zip(one, other, strict=True):
        if first.shape != second.shape or first.dtype != second.dtype:
            return False
        if not first.is_floating_point():
            if not torch.equal(first, second):
                return False
            continue
        finite = first[torch.isfinite(first)]
        scale = float(finite.abs().max()) if finite.numel() else 0.0
        if not torch.allclose(first, second, rtol=_ROUNDING, atol=_ROUNDING * scale, equal_nan=True):
            return False
    return True
