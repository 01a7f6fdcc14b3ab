"""`normexport prove` where there is no torch, no checkpoint, no GPU: its exit codes and what it prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from normexport.engine import manifest_path
from normexport.engine.manifest import FileId, Manifest, PlanTensor, manifest_text
from normexport.errors import ExitCode
from tests.capsule.conftest import Sealed
from tests.capsule.sealed_net import write

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

#: What an environment without PyTorch lacks, and the exporter's library, which needs it.
BLOCKED = """
import sys
for name in ("torch", "onnxscript"): sys.modules[name] = None
from normexport_cli.start import main
main()
"""


@pytest.fixture
def prove(sealed: Sealed, tmp_path: Path) -> Callable[..., Any]:
    """The command in a process in which torch can't be imported."""

    def prove(*words: str | Path, path: str | Path = sealed.path) -> subprocess.CompletedProcess[str]:
        paths = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tools'}", "COLUMNS": "120"}
        command = [sys.executable, "-c", BLOCKED, "prove", str(path), *map(str, words)]
        return subprocess.run(command, cwd=tmp_path, env=paths, capture_output=True, text=True)

    return prove


def test_the_file_passes_and_a_broken_copy_fails_at_its_module(
    sealed: Sealed, tmp_path: Path, prove: Callable[..., Any]
) -> None:
    done = prove(sealed.model)
    assert (done.returncode, done.stderr) == (ExitCode.GOOD, "")
    assert done.stdout.splitlines()[-1] == "PARITY PASSED"
    done = prove(sealed.broken(tmp_path / "b.onnx", "second", 1.001), "--layers")
    assert (done.returncode, done.stderr) == (ExitCode.FAILED, "")
    assert done.stdout.splitlines()[-1].startswith("PARITY FAILED  first divergence at second (Conv2d)")


def test_arrays_pass_and_no_arrays_are_inconclusive(sealed: Sealed, tmp_path: Path, prove: Callable[..., Any]) -> None:
    write(tmp_path / "r.npz", sealed.arrays())
    done = prove("r.npz", "--json")
    assert (done.returncode, json.loads(done.stdout)["verdict"]) == (ExitCode.GOOD, "passed")
    np.savez(tmp_path / "none.npz", z=np.ones(1))
    done = prove("none.npz", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["verdict"], told["passed"]) == (ExitCode.INCONCLUSIVE, "inconclusive", False)
    assert prove("none.npz").stdout.splitlines()[-1].startswith("PARITY INCONCLUSIVE")


def test_a_plan_needs_what_it_runs_on(sealed: Sealed, tmp_path: Path, prove: Callable[..., Any]) -> None:
    plan = tmp_path / "m.plan"
    plan.write_bytes(b"a plan")
    x, y = (
        PlanTensor("x", "float32", (-1, 3, 8, 8), (1, 3, 8, 8), (2, 3, 8, 8), (8, 3, 8, 8)),
        PlanTensor("y", "float32", (-1, 5)),
    )
    manifest = Manifest(
        plan=FileId.of(plan), onnx=FileId.of(sealed.model), plugin=None, embedded=False, host_code=False,
        normexport="0", flavor="tensorrt-rtx", flavor_version="1.7.1", targets=("sm89",), inputs=(x,), outputs=(y,),
        precision={"float32": 1}, plugins=(), bodies=(), layers=(),
    )  # fmt: skip
    manifest_path(plan).write_text(manifest_text(manifest))
    for name in ("m.plan", "m.plan.json"):
        done = prove(name)
        assert done.returncode == ExitCode.MISSING, done.stderr
        assert done.stderr.startswith("error: ")
        assert len(done.stderr.splitlines()) == 1
        assert done.stdout == ""


@pytest.mark.parametrize("name", ["nothing.onnx", "nothing.npz", "nothing.plan", "nothing.txt", "."])
def test_a_candidate_that_is_none_is_one_line(prove: Callable[..., Any], name: str) -> None:
    done = prove(name)
    assert done.returncode == ExitCode.USAGE
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_what_is_no_capsule_is_one_line(sealed: Sealed, tmp_path: Path, prove: Callable[..., Any]) -> None:
    (tmp_path / "c.npz").write_bytes(b"PK\x03\x04" + bytes(100))
    for path in ("c.npz", "none.npz", sealed.model):
        done = prove(sealed.model, path=path)
        assert done.returncode == ExitCode.USAGE
        assert len(done.stderr.splitlines()) == 1


def test_a_machine_without_onnx_runtime_says_what_to_install(sealed: Sealed, tmp_path: Path) -> None:
    paths = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tools'}"}
    code = BLOCKED.replace('"onnxscript"', '"onnxscript", "onnxruntime"')
    command = [sys.executable, "-c", code, "prove", str(sealed.path), str(sealed.model)]
    done = subprocess.run(command, cwd=tmp_path, env=paths, capture_output=True, text=True)
    assert done.returncode == ExitCode.MISSING
    assert "pip install 'normexport[cpu]'" in done.stderr
