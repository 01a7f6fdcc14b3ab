"""Files that show a fault without normexport: the part as ONNX, what it is fed, and five lines that run it.

They are what a vendor can be sent: ONNX Runtime and numpy are all that they need. Before they are written, the script
is run in a process of its own, and has to show the fault there.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from normexport.errors import UsageError
from normexport.io.atomic import replacing_all, scratch
from normexport.io.numpy_files import write_arrays
from normexport.runtime import Array

MODEL, INPUT, SCRIPT = "bisect.onnx", "input.npz", "show.py"
_SECONDS = 300.0
_SHOWS = 1  # the script's exit code where the fault is seen

_TEXT = f'''import os, numpy as np, onnxruntime as ort; os.chdir(os.path.dirname(os.path.abspath(__file__)))
data, model = np.load("{INPUT}"), ort.InferenceSession("{MODEL}", providers=["CPUExecutionProvider"])
got = model.run(None, {{each.name: data[f"input_{{i}}"] for i, each in enumerate(model.get_inputs())}})[0]
error = np.abs(got.astype(np.float64) - data["expected"]).max() if got.shape == data["expected"].shape else np.inf
raise SystemExit(f"error {{error:.3g}}, {{data['allowed']:.3g}} allowed" if not error <= data["allowed"] else 0)
'''


@dataclass(frozen=True)
class Evidence:
    """What is written.

    Attributes:
        model: the part, as the bytes of its file; its inputs are fed `inputs`, in their order.
        expected: what it has to give, in float64.
        allowed: the largest error that is within its budget.
    """

    model: bytes
    inputs: tuple[Array, ...]
    expected: Array
    allowed: float

    def arrays(self) -> dict[str, Array]:
        """What the .npz file holds."""
        given = {f"input_{index}": array for index, array in enumerate(self.inputs)}
        return {**given, "expected": np.asarray(self.expected), "allowed": np.asarray(self.allowed)}


def shows(evidence: Evidence) -> str | None:
    """What the script says in a process of its own, where it shows the fault; None where it does not, or can't run."""
    try:
        said = _said(evidence)
    except (UsageError, OSError, subprocess.TimeoutExpired):  # no room for its files, or no end
        return None
    return said[-1] if said and said[-1].startswith("error ") else None


def _said(evidence: Evidence) -> list[str]:
    with scratch() as folder:
        _fill(evidence, {name: folder / name for name in (MODEL, INPUT, SCRIPT)})
        command = [sys.executable, "-P", SCRIPT]
        folders = os.pathsep.join(folder for folder in sys.path if folder)
        run = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": folders},
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    return run.stderr.strip().splitlines() if run.returncode == _SHOWS else []


def write(evidence: Evidence, folder: Path) -> tuple[Path, ...]:
    """Write the three files into a folder, all or none.

    Raises:
        UsageError: it can't be written.
    """
    paths = [folder / name for name in (SCRIPT, INPUT, MODEL)]
    with replacing_all(*paths) as staged:
        _fill(evidence, {path.name: temporary for path, temporary in zip(paths, staged, strict=True)})
    return tuple(paths)


def _fill(evidence: Evidence, places: Mapping[str, Path]) -> None:
    places[MODEL].write_bytes(evidence.model)
    with places[INPUT].open("wb") as file:
        write_arrays(file, evidence.arrays())
    places[SCRIPT].write_bytes(_TEXT.encode())
