"""Every trained example as a file without functions: proven on OpenVINO, and judged on ONNX Runtime beside."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

import normexport
from examples import index
from normexport import ConvertConfig, Verdict
from normexport.checkpoint import load
from tests.foreign import needs

pytestmark = [pytest.mark.slow, needs("openvino", "pip install openvino")]


@pytest.mark.parametrize("name", sorted(index.read()))
def test_a_file_without_functions_runs_in_both_runtimes(name: str, tmp_path: Path) -> None:
    entry = index.read()[name]
    keywords = {key: entry[key] for key in ("model", "model_kwargs", "dialect")}
    checkpoint = load(index.CHECKPOINTS / name, **keywords)
    inputs = [entry["input"]] if entry["input"] else []
    config = ConvertConfig(inline=True, runtime="openvino")
    done = normexport.convert(checkpoint, tmp_path / "out", inputs, config)
    assert done.judgement.verdict is Verdict.PASSED
    assert "OpenVINO" in done.parity.candidate
    written = onnx.load(tmp_path / "out" / "model.onnx")
    assert not written.functions
    assert {node.domain for node in written.graph.node} <= {"", "ai.onnx"}
    beside = normexport.parity(checkpoint, tmp_path / "out" / "model.onnx", inputs)
    assert beside.judgement.verdict is Verdict.PASSED
