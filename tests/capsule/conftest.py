"""A conversion with its capsule, made once; tests only read it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import normexport
from normexport import capsule
from normexport.reports import Conversion
from tests.capsule import sealed_net


@dataclass(frozen=True)
class Sealed:
    """A folder with model.pt2, its conversion in out/ and c.npz."""

    folder: Path
    report: Conversion

    @property
    def path(self) -> Path:
        return self.folder / "c.npz"

    @property
    def model(self) -> Path:
        return self.folder / "out" / "model.onnx"

    def arrays(self) -> dict[str, np.ndarray]:
        """What another program would save: all outputs of all runs, by ONNX Runtime."""
        session = onnxruntime.InferenceSession(self.model)
        names = [output.name for output in session.get_outputs()]
        found: dict[str, np.ndarray] = {}
        for number, run in enumerate(capsule.read(self.path).runs):
            values = session.run(names, dict(run.feeds))
            found |= {f"{number}/{name}": value for name, value in zip(names, values, strict=True)}
        return found

    def broken(self, path: Path, weight: str, factor: float) -> Path:
        """The ONNX file with one output channel of a weight scaled."""
        return sealed_net.broken(self.model, path, weight, factor)


@pytest.fixture(scope="session")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    folder = tmp_path_factory.mktemp("sealed")
    sealed_net.saved(sealed_net.trained(), folder / "model.pt2")
    config = normexport.ConvertConfig(capsule=folder / "c.npz")
    report = normexport.convert(folder / "model.pt2", folder / "out", config=config)
    assert report.passed
    return Sealed(folder, report)
