"""Every kind and scope, in every spelling, by every exporter: recognised, and the same numbers as the formula.

Witnesses: the formula in float64 numpy (`raw_norms.net_formula`) and ONNX Runtime on the file as the exporter wrote it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch

from normexport import export, load, norms
from normexport.recognition import fold_recognised
from normexport.runtime import Float64Runtime
from tests.recognition.raw_norms import GROUPS, SPELLINGS, RawNet, net_formula

pytestmark = pytest.mark.slow

SHAPE = (4, 4, 8, 4)


def by_dynamo(net: RawNet, path: Path) -> None:
    torch.onnx.export(net, (torch.randn(SHAPE),), path, dynamo=True, external_data=False, verbose=False)


def by_torchscript(net: RawNet, path: Path) -> None:
    torch.onnx.export(net, (torch.randn(SHAPE),), path, dynamo=False, input_names=["x"])


def by_program(net: RawNet, path: Path) -> None:
    program = path.with_suffix(".pt2")
    torch.export.save(torch.export.export(net, (torch.randn(SHAPE),)), program)
    export(load(program), output=path)


EXPORTERS: dict[str, Callable[[RawNet, Path], None]] = {
    "dynamo": by_dynamo,
    "torchscript": by_torchscript,
    "program": by_program,
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("scope", ["batch", "instance", "group", "layer"])
@pytest.mark.parametrize("kind", list(norms.KINDS))
def test_every_spelling_is_recognised_and_computes_the_same(
    kind: str, scope: str, exporter: str, tmp_path: Path
) -> None:
    net = RawNet(kind, scope).eval()
    path = tmp_path / "raw.onnx"
    EXPORTERS[exporter](net, path)
    result = fold_recognised(ir.load(path), live_operators=True)
    live = [node for node in result.model.graph if node.domain == norms.DOMAIN]
    op = norms.kind(kind).op(norms.Scope("group" if scope == "layer" else scope))
    assert [node.op_type for node in live] == [op] * len(SPELLINGS)
    groups = {"group": GROUPS, "layer": 1}.get(scope, 0)
    assert {node.attributes.get_int("num_groups", 0) for node in live} == {groups}
    assert len(result.norms) == len(SPELLINGS)
    assert all(outcome.fate == "live" and "recognised in" in outcome.reason for outcome in result.norms)

    x = np.random.default_rng(7).standard_normal(SHAPE) * [[[[0.01]], [[1.0]], [[30.0]], [[0.2]]]]
    expected = net_formula(net, x)
    name = result.model.graph.inputs[0].name
    assert name is not None
    (exact,) = Float64Runtime(result.model, torch=False).run({name: x}).values()
    assert np.abs(exact - expected).max() < 1e-5 * np.abs(expected).max()  # the file's constants are float32
    content = ir.to_proto(result.model).SerializeToString()
    norms.register_schemas()
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
    feeds = {name: x.astype(np.float32)}
    (before,) = ort.InferenceSession(path).run(None, feeds)
    (after,) = ort.InferenceSession(content).run(None, feeds)
    assert np.abs(after - before).max() < 1e-3 * np.abs(before).max()
