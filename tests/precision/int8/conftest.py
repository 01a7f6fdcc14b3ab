"""What tests of int8 on the integers of training are given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.models.trained_integers import images


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "images.npz"
    np.savez(path, x=images().numpy())
    return path
