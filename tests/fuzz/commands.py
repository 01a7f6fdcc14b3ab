"""The command line in this process, with everything imported beforehand, so that a fork has it at once."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from normexport_cli.app import app
from normexport_cli.failures import report

from tests.fuzz import seeds
from tests.fuzz.cases import INPUT, NETWORK
from tests.fuzz.child import Command

#: One thread: a pool of threads does not survive a fork.
torch.set_num_threads(1)
os.environ |= {"COLUMNS": "120", "OMP_NUM_THREADS": "1"}


def command(words: tuple[str, ...]) -> Command:
    """The command of these words: one of the command line, or a reader of the library under the same error handling."""
    if words[0] in LIBRARY:
        return lambda: _of_library(LIBRARY[words[0]], words[1:])
    return lambda: int(app(list(words), standalone_mode=False) or 0)


def _of_library(read: Callable[..., None], words: tuple[str, ...]) -> int:
    try:
        read(*words)
    except Exception as error:  # as the command line catches them
        return report(error, as_json=False, debug=False)
    return 0


def _samples(path: str) -> None:
    """Calibration data alone: `convert --precision int8` takes a second before it comes to them."""
    from normexport.onnx_export import InputSpec
    from normexport.precision.samples import batches_of

    for _ in batches_of(path, (InputSpec("input", (3, 8, 8), "float32", True),))():
        pass


def _calibration(cache: str, model: str) -> None:
    """A calibration cache for a model."""
    from normexport.io.onnx_model import open_onnx
    from normexport.precision.int8.calibration import read_calibration

    read_calibration(Path(cache), open_onnx(Path(model)), "mse")


def _state(cache: str, model: str) -> None:
    """A calibration state for a model: read, added up with what nothing has seen, and made ranges of."""
    from normexport.io.onnx_model import open_onnx
    from normexport.precision.int8.state import CalibrationState, merge
    from normexport.precision.int8.state_files import read_state, require_state_of

    state = read_state(Path(cache))
    require_state_of(Path(cache), state, open_onnx(Path(model)))
    merge(state, CalibrationState(state.model, state.computed_by, state.batch)).calibration("mse")


def _labels(path: str) -> None:
    """The labels of data."""
    from normexport.precision.labels import labels_in

    labels_in(path)


LIBRARY: dict[str, Callable[..., None]] = {
    "samples": _samples,
    "labels": _labels,
    "calibration": _calibration,
    "state": _state,
}


def warm_up(formats: set[str]) -> None:
    """Run honest files once here, so that what commands import late is there in every fork."""
    with tempfile.TemporaryDirectory() as name:
        weights, out, again = (f"{name}/{file}" for file in ("weights.pth", "out", "again.onnx"))
        Path(weights).write_bytes(seeds.checkpoints()["state"])
        runs = [
            ("convert", weights, *NETWORK, *INPUT, "-o", out),
            ("inspect", f"{out}/model.onnx"),
            ("fold", f"{out}/model.onnx", "-o", again),
        ]
        if "pt2" in formats:
            Path(f"{name}/model.pt2").write_bytes(seeds.programs()["batch"])
            runs.append(("inspect", f"{name}/model.pt2"))
        for words in runs:
            with contextlib.redirect_stdout(io.StringIO()):
                code = command(words)()
            if code:
                sys.exit(f"the honest {' '.join(words)} ended with {code}")
