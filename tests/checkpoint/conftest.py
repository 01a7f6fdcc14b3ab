"""What the tests of exported programs change copies of."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.checkpoint.program_archives import DYNAMIC
from tests.checkpoint.support import exported, l1_trained


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An honest archive with open sizes, made once; tests change copies of it."""
    return exported(tmp_path_factory.mktemp("honest") / "m.pt2", l1_trained(), dynamic_shapes=DYNAMIC)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """What an attack that succeeds makes."""
    return tmp_path / "marker"
