"""What the tests of trained models share."""

from __future__ import annotations

import pytest

from tests.real.wheels import Wheels


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Wheels:
    """Wheels, each downloaded when the first test wants it."""
    return Wheels(tmp_path_factory.mktemp("wheels"))
