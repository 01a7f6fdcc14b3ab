"""A folder with a model in it and a secret beside."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.io import onnx_attacks as attacks


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder, beside a secret."""
    (tmp_path / "secret").write_bytes(attacks.SECRET)
    (tmp_path / "models").mkdir()
    return tmp_path / "models"
