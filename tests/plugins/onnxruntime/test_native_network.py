"""Networks with live norms on ONNX Runtime with the library: parity holds, and no body is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import normexport
from normexport import nn as nxn
from normexport import norms
from normexport.io.onnx_model import open_onnx
from normexport.norms import KINDS, Scope
from normexport.runtime import OnnxRuntime
from tests.models.resnet import resnet_tiny
from tests.plugins.onnxruntime.one_node import live_model, session

pytestmark = pytest.mark.slow

#: What bodies are made of, and a residual network is not.
OF_BODIES = {"Abs", "ReduceMax", "TopK", "Sqrt", "Log", "Div", "Sub", "Pad"}


class Mixed(nn.Module):
    """Every kind, live and running, over batches and over samples, and a bounded weight."""

    def __init__(self) -> None:
        super().__init__()
        live: dict[str, Any] = {"track_running_stats": False}
        self.stem = nxn.bounded_weight_norm(nn.Conv2d(3, 8, 3, padding=1))
        self.norms = nn.Sequential(
            nxn.L1BatchNorm2d(8, **live),
            nxn.LinfInstanceNorm2d(8, affine=True),
            nxn.TopKBatchNorm2d(8, k=4, **live),
            nxn.RangeBatchNorm2d(8, **live),
            nxn.L2InstanceNorm2d(8),
        )
        self.behind = nxn.L1BatchNorm2d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.behind(torch.relu(self.norms(self.stem(x)))).mean((2, 3))


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixed")
    torch.manual_seed(0)
    model = Mixed().eval()
    batch = {0: torch.export.Dim("batch")}
    torch.export.save(torch.export.export(model, (torch.randn(2, 3, 8, 8),), dynamic_shapes=(batch,)), folder / "m.pt2")
    return folder


def test_conversion_passes_parity_on_the_kernels_and_on_the_bodies(
    converted: Path, ort_library: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    native = normexport.convert(converted / "m.pt2", tmp_path / "native")
    assert native.passed
    assert native.parity.candidate == "ONNX Runtime with native norms"
    monkeypatch.setenv("NORMEXPORT_PLUGIN_DIR", str(tmp_path / "empty"))
    plain = normexport.convert(converted / "m.pt2", tmp_path / "plain")
    assert plain.passed
    assert plain.parity.candidate == "ONNX Runtime"
    assert (tmp_path / "native" / "model.onnx").read_bytes() == (tmp_path / "plain" / "model.onnx").read_bytes()


def test_two_files_compare_on_the_kernels(converted: Path, ort_library: Path, tmp_path: Path) -> None:
    exported = normexport.export(converted / "m.pt2", output=tmp_path / "whole.onnx")
    normexport.fold(tmp_path / "whole.onnx", tmp_path / "folded.onnx")
    report = normexport.check(tmp_path / "whole.onnx", tmp_path / "folded.onnx")
    assert report.passed
    assert report.candidate == "ONNX Runtime with native norms"
    assert {norms.kind(kind).op(Scope.BATCH) for kind in ("l1", "topk", "range")} <= {
        node.op_type for node in exported.model.graph
    }


def test_optimised_graph_keeps_every_operator_and_nothing_of_a_body(ort_library: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    made: list[Any] = []

    def live(channels: int) -> nn.Module:
        kind = list(KINDS.values())[len(made) % len(KINDS)]
        made.append(kind.op(Scope.BATCH))
        return getattr(nxn, f"{kind.title}BatchNorm2d")(channels, track_running_stats=False)

    model = resnet_tiny(live).eval()
    torch.save(model.state_dict(), tmp_path / "model.pt")
    checkpoint = normexport.load(tmp_path / "model.pt", model=lambda: model)
    normexport.export(checkpoint, ["3x64x64"], output=tmp_path / "model.onnx")
    proto = onnx.load(tmp_path / "model.onnx")
    session(proto, ort_library, optimized_model_filepath=str(tmp_path / "optimised.onnx"))
    nodes = onnx.load(tmp_path / "optimised.onnx", load_external_data=False).graph.node
    assert sorted(node.op_type for node in nodes if node.domain == norms.DOMAIN) == sorted(made)
    others = [node.op_type for node in nodes if node.domain != norms.DOMAIN]
    assert others.count("ReduceMean") == 1  # the network's own average pool
    assert not OF_BODIES & set(others)


def test_without_the_library_the_bodies_are_what_runs(tmp_path: Path) -> None:
    model = live_model("L1BatchNorm", bodies=True)
    session(model, optimized_model_filepath=str(tmp_path / "optimised.onnx"))
    kinds = {node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node}
    assert "L1BatchNorm" not in kinds
    assert {"ReduceMean", "Abs"} <= kinds


def test_operators_that_the_library_does_not_have_run_on_their_bodies_beside_it(
    converted: Path, ort_library: Path, tmp_path: Path
) -> None:
    normexport.export(converted / "m.pt2", output=tmp_path / "whole.onnx")
    model = open_onnx(tmp_path / "whole.onnx")
    assert {"RunningNorm", "BoundedWeightNorm"} <= {node.op_type for node in model.graph}
    x = np.random.default_rng(0).standard_normal((3, 3, 8, 8)).astype(np.float32)
    native, plain = OnnxRuntime(model), OnnxRuntime(model, native=False)
    assert (native.name, plain.name) == ("ONNX Runtime with native norms", "ONNX Runtime")
    (name,) = native.input_names
    (y,), (z,) = native.run({name: x}).values(), plain.run({name: x}).values()
    # Five norms in a row, each dividing by a statistic near 1: some 2**-20 of values near 1.
    np.testing.assert_allclose(y, z, rtol=0, atol=2.0**-18 * float(np.abs(z).max()))


def test_inner_values_can_be_captured_around_native_norms(converted: Path, ort_library: Path, tmp_path: Path) -> None:
    exported = normexport.export(converted / "m.pt2", output=tmp_path / "whole.onnx")
    wanted = [layer.tensor for layer in exported.layers if layer.path.startswith("norms.")]
    assert len(wanted) == 5
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    native, plain = OnnxRuntime(exported.model), OnnxRuntime(exported.model, native=False)
    (name,) = native.input_names
    theirs, ours = native.run({name: x}, wanted), plain.run({name: x}, wanted)
    for tensor in wanted:
        np.testing.assert_allclose(theirs[tensor], ours[tensor], rtol=0, atol=2.0**-18 * np.abs(ours[tensor]).max())


def test_jitter_moves_a_model_that_runs_on_the_kernels(converted: Path, ort_library: Path, tmp_path: Path) -> None:
    model = normexport.export(converted / "m.pt2").model
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    plain, moved = OnnxRuntime(model), OnnxRuntime(model, jitter=1)
    (name,) = plain.input_names
    (y,), (z,) = plain.run({name: x}).values(), moved.run({name: x}).values()
    assert 0 < np.abs(y - z).max() < 1e-4 * np.abs(y).max()
