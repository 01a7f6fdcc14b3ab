"""The file of kernels that TensorRT for RTX compiles: read, written and refused, told by a stand-in for the engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from normexport_cli.app import app
from typer.testing import CliRunner

from normexport.errors import ExitCode, UsageError
from normexport.runtime.tensorrt_runtime import Plan
from normexport.verbs.run import run

FEEDS: dict[str, Any] = {"x": np.ones((2, 3), np.float32)}


def test_a_cache_that_is_not_there_is_written_once_something_was_compiled(
    opened: Callable[..., Any], tmp_path: Path
) -> None:
    file = tmp_path / "kernels"
    runtime, context, _ = opened(cache=file)
    runtime.run(FEEDS)
    assert context.config.cache is context.config.made
    assert not file.exists()
    runtime.save_runtime_cache()
    assert file.read_bytes() == b"new"


def test_a_cache_that_holds_all_is_left_alone(opened: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "kernels"
    file.write_bytes(b"new")
    before = file.stat().st_mtime_ns, file.stat().st_ino
    runtime, *_ = opened(cache=file)
    runtime.save_runtime_cache()
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == before
    file.write_bytes(b"old")
    runtime, *_ = opened(cache=file)
    runtime.save_runtime_cache()
    assert file.read_bytes() == b"new"


def test_a_file_that_is_no_cache_of_this_gpu_is_refused_and_kept(opened: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "thesis.txt"
    file.write_bytes(b"years of work")
    with pytest.raises(UsageError, match=r"thesis\.txt: is no runtime cache of this version, driver and GPU; name"):
        opened(cache=file)
    assert file.read_bytes() == b"years of work"


def test_a_folder_or_a_place_below_a_file_is_refused(opened: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="file"):
        opened(cache=tmp_path / "file" / "kernels")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="folder"):
        opened(cache=tmp_path / "folder")


def test_a_plan_of_finished_kernels_has_no_cache(opened: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="runtime cache: is not for a plan of TensorRT, which holds finished kernels"):
        opened(cache=tmp_path / "kernels", flavor="tensorrt")


def test_without_a_cache_contexts_are_made_as_before(opened: Callable[..., Any]) -> None:
    runtime, context, _ = opened()
    runtime.save_runtime_cache()
    assert context.config is None


def test_run_writes_the_cache_and_never_over_its_inputs(opened: Callable[..., Any], tmp_path: Path) -> None:
    opened()
    np.savez(tmp_path / "in.npz", **FEEDS)
    plan, inputs, output = tmp_path / "m.plan", tmp_path / "in.npz", tmp_path / "out.npz"
    assert run(Plan(plan, runtime_cache=tmp_path / "kernels"), inputs, output) == {"y": (2, 3)}
    assert (tmp_path / "kernels").read_bytes() == b"new"
    for taken in (plan, inputs, output, tmp_path / "m.plan.json"):
        before = taken.read_bytes()
        with pytest.raises(UsageError, match=r"runtime cache"):
            run(Plan(plan, runtime_cache=taken), inputs, output)
        assert taken.read_bytes() == before


def test_an_onnx_file_has_no_cache() -> None:
    words = ["run", "model.onnx", "--inputs", "in.npz", "-o", "out.npz", "--runtime-cache", "kernels"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == ExitCode.USAGE
    assert result.stderr == "error: --runtime-cache: means nothing here: it is for a plan; leave it out\n"
