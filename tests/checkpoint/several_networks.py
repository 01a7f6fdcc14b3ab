"""Weights of a network times a factor, and what a file of several of them loads as."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from normexport.checkpoint import Part, load
from normexport.errors import ExitCode, UsageError
from tests.checkpoint.support import (
    forward,
    l1_factory,
    l1_trained,
    own_forward,
)


def weights(factor: float = 1) -> dict[str, Tensor]:
    """The weights of the network, those of its convolution times `factor`."""
    return {key: value * factor if key.startswith("0.") else value for key, value in l1_trained().state_dict().items()}


def expected(factor: float) -> Tensor:
    net = l1_trained()
    net.load_state_dict(weights(factor))
    return own_forward(net)


def under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


def loaded(file: Path, **part: Any) -> tuple[Tensor, tuple[str, ...]]:
    checkpoint = load(file, model=l1_factory, part=Part(**part))
    return forward(checkpoint.model), checkpoint.notes


def misused(file: Path, **part: Any) -> str:
    with pytest.raises(UsageError) as caught:
        load(file, model=l1_factory, part=Part(**part))
    assert caught.value.exit_code == ExitCode.USAGE
    return str(caught.value)
