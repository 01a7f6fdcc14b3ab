"""`record_channel_norms`: note the norms of weight vectors at every step of an optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from normexport.errors import UsageError
from normexport.train.invariance import ScaleInvariance, find_scale_invariant, layers_of, trainable_weight
from normexport.train.recording import NormWriter
from normexport.train.steps import was_skipped
from normexport.train.vectors import vector_norms


def record_channel_norms(
    model: nn.Module,
    optimizer: Optimizer,
    path: str | Path,
    *,
    example: Any = None,
    layers: ScaleInvariance | None = None,
    resume: bool = False,
) -> NormRecorder:
    """Record, from now on and at every step of `optimizer`, the norms of the model's scale-invariant weights before it.

    The weight decay that the optimizer has for them now is noted too. Steps that a GradScaler skips are no steps. One
    row takes 4 bytes a vector (8 for float64 weights). Under DistributedDataParallel record in one process. Close the
    recorder, or use it in a `with`.

    Args:
        model: its layers are those that `find_scale_invariant` finds.
        optimizer: of that model.
        path: the file, written anew; it is made at once.
        example: see `find_scale_invariant`.
        layers: what `find_scale_invariant` found, where that is asked with more arguments.
        resume: go on in the file of an interrupted run, from the step that `load_state_dict` gives.

    Raises:
        UsageError: no layer is scale invariant, the model can't be traced, the file can't be written, or, on
            resuming, is of other layers.
    """
    return NormRecorder(model, optimizer, Path(path), layers or find_scale_invariant(model, example), resume)


class NormRecorder:
    """Writes a recording while an optimizer steps; made by `record_channel_norms`.

    Attributes:
        layers: the layers that are recorded, and why others are not.
    """

    def __init__(
        self, model: nn.Module, optimizer: Optimizer, path: Path, layers: ScaleInvariance, resume: bool
    ) -> None:
        require_some(model, layers)
        self.layers = layers
        self._modules = layers_of(model, layers)
        wide = any(parameter.dtype == torch.float64 for parameter in model.parameters())
        self._writer = NormWriter(path, layers.layers, _decay_of(self._modules, optimizer), wide, resume)
        self._before: np.ndarray[Any, np.dtype[np.float64]] | None = None
        self._hooks = [
            optimizer.register_step_pre_hook(lambda *_: self._measure()),
            optimizer.register_step_post_hook(lambda made, *_: self._append(made)),
        ]

    def _measure(self) -> None:
        norms = [vector_norms(layer, vectors) for layer, vectors in self._modules.values()]
        self._before = torch.cat(norms).cpu().numpy()

    def _append(self, optimizer: Optimizer) -> None:
        if self._before is not None and not was_skipped(optimizer):
            self._writer.append(self._before)
        self._before = None

    @property
    def steps(self) -> int:
        """How many steps are in the file."""
        return self._writer.steps

    def state_dict(self) -> dict[str, int]:
        """What a checkpoint of the run keeps: the step."""
        return {"step": self.steps}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on at the step of a checkpoint; what was recorded after it is dropped.

        Raises:
            UsageError: the file has fewer steps.
        """
        self._writer.go_to(state["step"])

    def close(self) -> None:
        """Stop recording."""
        for hook in self._hooks:
            hook.remove()
        self._writer.close()

    def __enter__(self) -> NormRecorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _decay_of(modules: Mapping[str, tuple[nn.Module, int]], optimizer: Optimizer) -> dict[str, float]:
    """path -> the weight decay of the group that has the layer's weight; 0 where none has it."""
    by_weight = {
        id(parameter): float(group.get("weight_decay", 0.0))
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    return {path: by_weight.get(id(trainable_weight(layer)), 0.0) for path, (layer, _) in modules.items()}


def require_some(model: nn.Module, layers: ScaleInvariance) -> None:
    """Refuse a model without a scale-invariant layer, with the first reasons.

    Raises:
        UsageError: with them.
    """
    if layers.layers:
        return
    reasons = "; ".join(f"{path}: {reason}" for path, reason in list(layers.others.items())[:3])
    cause = f"no layer is scale invariant ({reasons or 'there is no Conv or Linear'})"
    raise UsageError(type(model).__name__, cause, "put a norm behind the layers that are meant")
