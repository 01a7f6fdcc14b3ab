"""A conversion with a bundle of each kind, made once; tests only read it."""

from __future__ import annotations

from pathlib import Path

import pytest

import normexport
from tests.capsule import sealed_net


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("served") / "my net.pt2"
    sealed_net.saved(sealed_net.trained(), path)
    return path


@pytest.fixture(scope="session")
def bundles(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with triton/, kserve/ and folder/."""
    pytest.importorskip("tritonclient", reason="tritonclient is not installed: pip install 'normexport[serve]'")
    output = tmp_path_factory.mktemp("bundles")
    for kind in ("triton", "kserve", "folder"):
        assert normexport.convert(checkpoint, output, config=normexport.ConvertConfig(bundle=kind)).passed
    return output
