"""What the checkpoint tests share: running a loaded model, and layouts' own evaluation as the expectation."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import normexport.nn as nxnn
from normexport.checkpoint import load
from normexport.checkpoint.records import Checkpoint, NormRecord
from normexport.errors import CheckpointError, ExitCode
from tests.checkpoint.layouts import Net

IMAGES = torch.randn(4, 3, 7, 7, generator=torch.Generator().manual_seed(7))


def own_forward(model: Any, x: torch.Tensor = IMAGES) -> torch.Tensor:
    """The original's evaluation in float64, on a copy; fake quantisation of inputs and parameters off."""
    model = copy.deepcopy(model)
    for module in model.modules():
        if "quantize_input" in module._modules:
            module.quantize_input = nn.Identity()
            module.rounded = lambda v: v
    with torch.no_grad():
        return model.eval().double()(x.double())


def forward(model: Any, x: torch.Tensor = IMAGES) -> torch.Tensor:
    """The loaded model's evaluation; weights float32 as loaded, arithmetic float64."""
    with torch.no_grad():
        return copy.deepcopy(model).double()(x.double())


def assert_same(got: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal to the rounding of float32 weights (6e-8, a few of them in a product)."""
    scale = float(expected.abs().max())
    np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=0, atol=2e-6 * max(scale, 1e-30))


def save(path: Path, thing: Any) -> Path:
    torch.save(thing, path)
    return path


def only_norm(checkpoint: Checkpoint) -> NormRecord:
    """The record of the single norm."""
    (record,) = checkpoint.norms
    return record


def refused(path: Path, **options: Any) -> str:
    """The message of the CheckpointError that loading raises: one line."""
    with pytest.raises(CheckpointError) as caught:
        load(path, **options)
    assert caught.value.exit_code == ExitCode.CHECKPOINT
    message = str(caught.value)
    assert "\n" not in message
    return message


def batch_norm_net() -> Net:
    return Net(nn.BatchNorm2d(6))


def l1_net() -> Net:
    return Net(nxnn.L1BatchNorm2d(6))


def l1_trained() -> nn.Sequential:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nxnn.L1BatchNorm2d(6), nn.ReLU())
    net.train()(IMAGES)
    return net.eval()


def l1_factory() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 6, 3), nxnn.L1BatchNorm2d(6), nn.ReLU())


class Payload:
    """A pickle that would create a folder when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.path),)


def exported(path: Path, net: Any, **options: Any) -> Path:
    torch.export.save(torch.export.export(net, (IMAGES,), **options), path)
    return path
