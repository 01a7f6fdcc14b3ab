"""What the tests of exported programs change copies of."""

from __future__ import annotations

import pytest

from tests.checkpoint.program_archives import DYNAMIC
from tests.checkpoint.support import exported, l1_trained


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    """An honest archive with open sizes, made once; tests change copies of it."""
    return exported(tmp_path_factory.mktemp("honest") / "m.pt2", l1_trained(), dynamic_shapes=DYNAMIC)


@pytest.fixture
def marker(tmp_path):
    """What an attack that succeeds makes."""
    return tmp_path / "marker"
