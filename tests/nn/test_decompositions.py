"""No lock-in: networks with our modules go through the exporters of others, and none of them meets our operators."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from normexport import nn as nxn
from normexport.onnx_export import InputSpec, export
from tests.foreign import needs, needs_executorch, needs_openvino

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]

BATCH = {0: torch.export.Dim("batch")}


def network() -> nn.Module:
    """Running statistics, live ones of every kind but Top-k over every scope, and a bounded weight."""
    torch.manual_seed(0)
    return nn.Sequential(
        nxn.bounded_weight_norm(nn.Conv2d(3, 6, 3)),
        nxn.L1BatchNorm2d(6),
        nn.ReLU(),
        nxn.LinfInstanceNorm2d(6),
        nxn.LinfBatchNorm2d(6, track_running_stats=False),
        nxn.RangeBatchNorm2d(6, track_running_stats=False),
        nxn.L1GroupNorm(3, 6),
    ).eval()


def given(batch: int = 4) -> Tensor:
    return torch.randn(batch, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def program() -> torch.export.ExportedProgram:
    return torch.export.export(network(), (given(2),), dynamic_shapes=(BATCH,))


def check(found: Any, x: Tensor) -> None:
    """Against the network in float64, at most 1e-6 of its size."""
    exact = network().double()(x.double()).detach().numpy()
    error = np.linalg.norm(np.asarray(found, np.float64) - exact)
    assert error <= 1e-6 * np.linalg.norm(exact)


def operators(graph: torch.fx.Graph) -> set[str]:
    return {str(node.target).split(".")[0] for node in graph.nodes if node.op == "call_function"}


def test_export_keeps_our_operators_and_decomposing_leaves_none() -> None:
    made = program()
    assert "normexport" in operators(made.graph)
    decomposed = made.run_decompositions()
    assert "normexport" not in operators(decomposed.graph)
    for batch in (2, 5):
        check(decomposed.module()(given(batch)).detach(), given(batch))


def test_our_own_export_still_sees_its_operators() -> None:
    nodes = [node.domain for node in export(network(), (InputSpec("x", (3, 8, 8)),)).model.graph]
    assert nodes.count("normexport") == 6


@pytest.mark.parametrize("kind", ["L1", "Linf", "TopK", "Range", "L2"])
@pytest.mark.parametrize("scope", ["Batch", "Instance", "Group"])
def test_every_kind_decomposes_with_open_sizes(kind: str, scope: str) -> None:
    if scope == "Group":
        norm = getattr(nxn, f"{kind}GroupNorm")(3, 6)
    else:
        own = {"track_running_stats": False} if scope == "Batch" else {}
        norm = getattr(nxn, f"{kind}{scope}Norm2d")(6, **own)
    sizes = {**BATCH, 2: torch.export.Dim("height", min=4), 3: torch.export.Dim("width", min=4)}
    made = torch.export.export(norm.eval(), (torch.randn(2, 6, 8, 5),), dynamic_shapes=(sizes,)).run_decompositions()
    assert "normexport" not in operators(made.graph)
    for shape in ((2, 6, 8, 5), (5, 6, 7, 9)):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(2))
        exact = norm.double()(x.double()).detach()
        norm.float()
        assert torch.linalg.vector_norm(made.module()(x) - exact) <= 1e-6 * torch.linalg.vector_norm(exact)


def test_torchs_own_onnx_export_takes_them() -> None:
    from normexport.runtime import OnnxRuntime

    made = torch.onnx.export(
        network(), (given(2),), dynamo=True, verbose=False, dynamic_shapes=(BATCH,), input_names=["x"]
    )
    assert made is not None
    assert {node.domain for node in made.model.graph} == {""}
    for batch in (2, 5):
        (found,) = OnnxRuntime(made.model).run({"x": given(batch).numpy()}).values()
        check(found, given(batch))


def test_a_torchscript_trace_runs_without_this_library() -> None:
    traced = torch.jit.trace(network(), given())
    assert not [node.kind() for node in traced.inlined_graph.nodes() if node.kind().startswith("normexport")]
    kept = io.BytesIO()
    torch.jit.save(traced, kept)
    kept.seek(0)
    check(torch.jit.load(kept)(given()).detach(), given())


def test_aot_inductor_compiles_them(tmp_path: Path) -> None:
    try:
        package = torch._inductor.aoti_compile_and_package(program(), package_path=str(tmp_path / "model.pt2"))
    except torch._inductor.exc.InvalidCxxCompiler:
        pytest.skip("AOTInductor found no C++ compiler")
    check(torch._inductor.aoti_load_package(package)(given()).detach(), given())


@needs_openvino
@pytest.mark.parametrize("form", ["module", "program"])
def test_openvinos_converter_takes_them(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from normexport.runtime.openvino_runtime import import_openvino

    openvino = import_openvino()
    made = (
        openvino.convert_model(program())
        if form == "program"
        else openvino.convert_model(network(), example_input=given(2))
    )
    compiled = openvino.Core().compile_model(made, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    check(compiled(given().numpy())[0], given())


@needs_executorch
@needs("ruamel", "pip install executorch")
def test_executorch_takes_them() -> None:
    from executorch.exir import to_edge

    edge = to_edge(torch.export.export(network(), (given(),)))
    named = {str(node.target) for node in edge.exported_program().graph.nodes if node.op == "call_function"}
    assert not {name for name in named if "normexport" in name}
    check(edge.exported_program().module()(given()).detach(), given())
    assert edge.to_executorch().buffer
