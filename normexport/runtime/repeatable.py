"""Is a torch model a function of its inputs? Asked by running it: twice on one input, and after other inputs.

What a model keeps from run to run, or draws at random, has no place in a file that computes the same at every run, and
a proof of one run is none of the next.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from normexport.checkpoint.loose import loose_numbers, same_number
from normexport.errors import NormExportError
from normexport.onnx_export import InputSpec
from normexport.runtime.base import Array, Feeds
from normexport.runtime.float64_torch import LARGE
from normexport.runtime.torch_runtime import TorchRuntime

#: Two runs differ by rounding where a buffer lies otherwise in memory; by this share of the result they do not.
_ROUNDING = 1e-4


def doubts_of_model(
    model: nn.Module | ExportedProgram,
    inputs: Sequence[InputSpec],
    outputs: Sequence[str],
    dtype: str,
    feeds: Sequence[Feeds],
) -> tuple[str, ...]:
    """Why `model` is no function of its inputs, in words; nothing where it does not run, which others say.

    Run are: the first feeds, the same with other values, all the others, the first again; and on a fresh copy in
    another order. It is none where a result depends on what was run before, where it draws numbers, or where something
    that it keeps is not what it was after the same input. What it merely notes down of its last input is no reason.

    Args:
        model, inputs, outputs, dtype: as `TorchRuntime` takes them.
        feeds: sets of inputs, small ones; at least one.
    """
    sequence = [feeds[0], {name: _other(array) for name, array in feeds[0].items()}, *feeds[1:]]
    try:
        first = TorchRuntime(model, inputs, outputs, dtype)
        drawn = _random_states()
        results = [first.run(sequence[0])]
        kept = _numbers_kept(first)
        results += [first.run(each) for each in sequence[1:]]
        again = first.run(sequence[0])
        changed = [
            path for path, value in _numbers_kept(first).items() if path in kept and not same_number(kept[path], value)
        ]
        drew = drawn != _random_states()
        fresh = TorchRuntime(model, inputs, outputs, dtype)
        others = [fresh.run(each) for each in reversed(sequence[1:])][::-1]
    except NormExportError:
        return ()
    pairs = zip((again, *others), results, strict=True)
    same = all(_alike(one, other, exactly=drew) for one, other in pairs)
    found = [f"{path}: is changed by every run; the file keeps the value of the checkpoint" for path in sorted(changed)]
    if not same and drew:
        found.append("the model draws random numbers in evaluation")
    elif not same and not changed:
        found.append("the model gives another result for the same input after other inputs")
    return tuple(found)


def _other(array: Array) -> Array:
    """Other values of the same kind: each one's neighbour, floating-point ones halved."""
    moved: Any = np.roll(array.reshape(-1), 1).reshape(array.shape)
    other: Array = (moved * 0.5).astype(array.dtype) if np.issubdtype(array.dtype, np.floating) else moved
    return other


def _numbers_kept(runtime: TorchRuntime) -> dict[str, Any]:
    """All numbers of a runtime's model by path; of large tensors a sum of their bits."""
    model = runtime.model
    held = dict((*model.named_parameters(), *model.named_buffers()))
    return {**loose_numbers(model), **{path: _bits_of(value) for path, value in held.items()}}


def _bits_of(value: Tensor) -> Tensor:
    value = value.detach()
    if value.numel() < LARGE or value.layout != torch.strided:
        return value.clone()
    return value.contiguous().view(torch.uint8).view(-1)[: value.nbytes // 4 * 4].view(torch.int32).sum()


def _random_states() -> tuple[Any, ...]:
    numpy_state = np.random.get_state(legacy=False)
    assert isinstance(numpy_state, dict)
    state: Mapping[str, Any] = numpy_state["state"]
    key = {name: np.asarray(each).tobytes() for name, each in state.items()}
    return torch.get_rng_state().numpy().tobytes(), key, random.getstate()


def _alike(one: Mapping[str, Array], other: Mapping[str, Array], exactly: bool = False) -> bool:
    for name, first in one.items():
        second = other[name]
        if first.shape != second.shape or first.dtype != second.dtype:
            return False
        if exactly or not np.issubdtype(first.dtype, np.inexact):
            if not np.array_equal(first, second, equal_nan=np.issubdtype(first.dtype, np.inexact)):
                return False
            continue
        finite = np.abs(first[np.isfinite(first)].astype(np.complex128))
        scale = float(finite.max()) if finite.size else 0.0
        if not np.allclose(first, second, rtol=0.0, atol=_ROUNDING * scale, equal_nan=True):
            return False
    return True
