"""The stages say what they do through logging, each under its module's name, and are silent by default."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import normexport
from normexport import nn as nxn

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def _checkpoint(folder: Path) -> Path:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), nxn.L1BatchNorm2d(3), torch.nn.ReLU())
    torch.save(network.eval(), folder / "model.pt")
    return folder / "model.pt"


def _said(caplog: pytest.LogCaptureFixture, name: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == name]


def test_every_stage_of_a_conversion_says_what_it_did(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint = _checkpoint(tmp_path)
    with caplog.at_level(logging.DEBUG, "normexport"):
        config = normexport.ConvertConfig(precision=normexport.Half())
        conversion = normexport.convert(checkpoint, tmp_path / "out", ["2x9x9"], config)
    assert _said(caplog, "normexport.checkpoint.load_file") == [f"{checkpoint}: module, norms: 1"]
    (exported,) = _said(caplog, "normexport.onnx_export.exported")
    nodes = sum(conversion.operators.before.values())
    assert exported.startswith(f"{checkpoint}: exported, nodes: {nodes}, ")
    folding = _said(caplog, "normexport.folding.fold")
    assert folding == ["'1': folded, scaled into Conv '0'", "norms: 1 folded, 0 lowered, 0 live"]
    assert _said(caplog, "normexport.precision.reduce") == ["float16, modules kept in float32: 0; PASSED"]
    stages = [text.split()[0] for text in _said(caplog, "normexport.verbs.clock")]
    assert stages == ["load", "export", "fold", "write", "parity", "precision", "report"]
    (written,) = _said(caplog, "normexport.verbs.convert")
    assert written == f"{checkpoint}: written to {tmp_path / 'out'}; {conversion.judgement.verdict.word}"


def test_a_verdict_is_logged_with_its_reasons(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, bias in (("one", 1.0), ("other", 2.0)):
        weight = numpy_helper.from_array(np.full((1, 3), bias, np.float32), "bias")
        ends = [helper.make_tensor_value_info(end, TensorProto.FLOAT, ["batch", 3]) for end in "xy"]
        graph = helper.make_graph([helper.make_node("Add", ["x", "bias"], ["y"])], name, ends[:1], ends[1:], [weight])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        (tmp_path / f"{name}.onnx").write_bytes(model.SerializeToString())
    with caplog.at_level(logging.DEBUG, "normexport"):
        report = normexport.parity(tmp_path / "one.onnx", tmp_path / "other.onnx")
    assert not report.passed
    (verdict,) = _said(caplog, "normexport.verbs.parity")
    assert ": FAILED: output y" in verdict
    assert report.judgement.reasons[0] in verdict
    assert _said(caplog, "normexport.io.onnx_model") == [
        f"{tmp_path / name}: opened, nodes: 1" for name in ("one.onnx", "other.onnx")
    ]


def test_words_out_of_a_file_are_escaped(caplog: pytest.LogCaptureFixture) -> None:
    x, y = (ir.Value(name=name, shape=ir.Shape(["n", 2, 4]), type=ir.TensorType(ir.DataType.FLOAT)) for name in "xy")
    constants = {}
    for name in ("scale", "bias", "mean", "var"):
        constants[name] = ir.Value(name=name, const_value=ir.tensor(np.ones(2, np.float32), name=name))
    node = ir.node(
        "BatchNormalization", [x, *constants.values()], outputs=[y], name="evil\n\x1b[31mINFO:root:all is well"
    )
    graph = ir.Graph([x], [y], nodes=[node], initializers=[*constants.values()], opset_imports={"": 20}, name="g")
    with caplog.at_level(logging.DEBUG, "normexport"):
        normexport.fold(ir.Model(graph, ir_version=10))
    said = "".join(_said(caplog, "normexport.folding.fold"))
    assert "all is well" in said
    assert said.isprintable()


def test_nothing_is_said_unless_a_program_listens(tmp_path: Path) -> None:
    checkpoint = _checkpoint(tmp_path)
    code = (
        "import sys, normexport; "
        "result = normexport.convert(sys.argv[1], sys.argv[2], ['2x9x9']); "
        "import logging; root = logging.getLogger(); own = logging.getLogger('normexport'); "
        "assert not root.handlers and own.level == logging.NOTSET; "
        "assert [type(handler).__name__ for handler in own.handlers] == ['NullHandler']"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(checkpoint), str(tmp_path / "out")]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout == run.stderr == ""
