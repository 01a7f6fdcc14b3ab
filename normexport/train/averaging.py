"""`update_norms`: running statistics of a model whose weights were averaged or set, from one pass over data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from normexport.errors import UsageError
from normexport.nn import Norm


@torch.no_grad()
def update_norms(loader: Iterable[Any], model: nn.Module, device: int | str | torch.device | None = None) -> None:
    """Set the running statistics of every norm to those of `loader`, plain averages over its batches.

    As torch.optim.swa_utils.update_bn, which passes over norms that are not torch.nn.BatchNorm without a word; here
    those of `normexport.nn` are updated as well, in the same pass. Modes and momenta are afterwards what they were.

    Args:
        loader: batches: a tensor, or a tuple or list whose first entry is what the model takes.
        model: run in training mode, without gradients: an AveragedModel, or any other.
        device: that batches are moved to.

    Raises:
        UsageError: the model has running statistics and `loader` no batch, which would leave them at 0 and 1.
    """
    norms: list[Any] = [each for each in model.modules() if isinstance(each, (Norm, _BatchNorm))]
    norms = [each for each in norms if each.running_mean is not None]
    if not norms:
        return
    modes, momenta = {each: each.training for each in model.modules()}, [norm.momentum for norm in norms]
    kept = [{name: value.clone() for name, value in norm.named_buffers()} for norm in norms]
    batches = 0
    try:
        model.train()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        for batch in loader:
            first = batch[0] if isinstance(batch, (list, tuple)) else batch
            model(first if device is None else first.to(device))
            batches += 1
    finally:
        for norm, momentum, before in zip(norms, momenta, kept, strict=True):
            norm.momentum = momentum
            if batches == 0:
                norm.load_state_dict(before, strict=False)
        for module, training in modes.items():
            module.training = training
    if batches == 0:
        raise UsageError("update_norms", "the loader holds no batch", "pass at least one batch of inputs")
