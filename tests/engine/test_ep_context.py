"""Plans inside ONNX files, read by the rules of ONNX Runtime's RTX provider, which are written a second time here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
from normexport_cli.app import app
from onnx import AttributeProto, TensorProto
from typer.testing import CliRunner

from normexport.engine import EngineConfig, build_engine, read_manifest
from normexport.engine.ep_context import ep_context_model
from normexport.engine.manifest import PlanTensor
from normexport.errors import EngineError, ExitCode, UsageError
from tests.engine import networks
from tests.engine.test_manifest import MANIFEST

needs_rtx = pytest.mark.skipif(
    not find_spec("tensorrt_rtx"),
    reason="TensorRT for RTX is not installed: pip install 'normexport[rtx]'",
)


def opened_as_the_provider_does(path: Path) -> bytes:
    """The plan that `GetEpContextFromGraph` of the provider hands to TensorRT, or the reason why it gives none."""
    (node,) = onnx.load(path).graph.node
    assert (node.op_type, node.domain) == ("EPContext", "com.microsoft")
    attributes = {each.name: each for each in node.attribute}
    assert attributes["embed_mode"].type == AttributeProto.INT
    assert attributes["ep_cache_context"].type == AttributeProto.STRING
    held = attributes["ep_cache_context"].s
    if attributes["embed_mode"].i:
        return held
    name = held.decode()
    assert not name.startswith("/")
    assert ".." not in name
    return (path.parent / name).read_bytes()


def words_of(model: onnx.ModelProto) -> dict[str, Any]:
    return {each.name: onnx.helper.get_attribute_value(each) for each in model.graph.node[0].attribute}


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Path]:
    """Build a plan of a small network with an open batch into out/, and the file around it; returns that."""

    def build(context: str = "out/model_ctx.onnx", **options: Any) -> Path:
        model = networks.convolutions(tmp_path / "model.onnx")
        (tmp_path / "out").mkdir(exist_ok=True)
        config = EngineConfig(**{"targets": ("sm89",), "ep_context": tmp_path / context, **options})
        build_engine(model, tmp_path / "out" / "model.plan", config)
        return tmp_path / context

    return build


@needs_rtx
@pytest.mark.parametrize("embed", [False, True])
def test_a_provider_finds_the_plan_in_the_file_or_beside_it(
    build: Callable[..., Path], tmp_path: Path, embed: bool
) -> None:
    file = build(ep_context_embed=embed)
    plan = (tmp_path / "out" / "model.plan").read_bytes()
    assert opened_as_the_provider_does(file) == plan
    assert (file.stat().st_size > len(plan)) == embed
    model = onnx.load(file)
    onnx.checker.check_model(model, full_check=True)
    (x,), (y,) = model.graph.input, model.graph.output
    assert (x.name, x.type.tensor_type.elem_type) == ("x", TensorProto.FLOAT)
    assert [each.dim_value for each in x.type.tensor_type.shape.dim] == [0, 8, 16, 16]
    assert y.name == "y"
    known = words_of(model)
    assert known["hardware_architecture"] == b"89"
    assert known["onnx_model_filename"] == b"model.onnx"
    assert known["ep_sdk_version"].decode() == read_manifest(tmp_path / "out" / "model.plan").flavor_version
    assert known["partition_name"].decode() == model.graph.node[0].name


@needs_rtx
def test_onnx_runtime_knows_the_node_and_misses_no_more_than_the_provider(build: Callable[..., Path]) -> None:
    """Its schema is checked as the file is loaded; what ends it is that the CPU has no kernel for plans."""
    for embed in (False, True):
        with pytest.raises(Exception, match=r"EPContext.*kernel|kernel.*EPContext|NOT_IMPLEMENTED.*EPContext"):
            onnxruntime.InferenceSession(build(ep_context_embed=embed), providers=["CPUExecutionProvider"])


@needs_rtx
def test_a_plan_for_several_gpus_names_none_of_which_a_provider_would_warn(build: Callable[..., Path]) -> None:
    assert "hardware_architecture" not in words_of(onnx.load(build(targets=("sm86", "sm89"))))


@needs_rtx
def test_a_plan_in_a_folder_below_is_named_by_its_path(build: Callable[..., Path], tmp_path: Path) -> None:
    file = build("model_ctx.onnx")
    assert words_of(onnx.load(file))["ep_cache_context"] == b"out/model.plan"
    assert opened_as_the_provider_does(file) == (tmp_path / "out" / "model.plan").read_bytes()


@needs_rtx
def test_a_plan_that_the_provider_would_not_read_is_refused_before_it_is_built(
    build: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(
        UsageError, match=r"can't name the plan .*; put them into one folder, or add --ep-context-embed"
    ):
        build("elsewhere/model_ctx.onnx")
    assert not list((tmp_path / "out").iterdir())
    assert opened_as_the_provider_does(build("elsewhere/model_ctx.onnx", ep_context_embed=True))
    (tmp_path / "dots").mkdir()
    model, config = tmp_path / "model.onnx", EngineConfig(targets=("sm89",), ep_context=tmp_path / "dots" / "c.onnx")
    with pytest.raises(UsageError, match=r"without '\.\.' in its path"):
        build_engine(model, tmp_path / "dots" / "a..b.plan", config)


@needs_rtx
def test_the_file_takes_the_place_of_nothing_that_is_read_or_written(
    build: Callable[..., Path], tmp_path: Path
) -> None:
    for taken in ("model.onnx", "out/model.plan", "out/model.plan.json"):
        with pytest.raises(UsageError, match="the ONNX file around the plan"):
            build(taken)
    assert onnx.load(tmp_path / "model.onnx").graph.node[0].op_type == "Conv"


def test_scalars_integers_booleans_and_halves_keep_their_types() -> None:
    kinds = {"int64": TensorProto.INT64, "bool": TensorProto.BOOL, "uint8": TensorProto.UINT8}
    kinds |= {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16, "int32": TensorProto.INT32}
    tensors = tuple(PlanTensor(f"t/{kind}:0", kind, ()) for kind in kinds)
    model = ep_context_model(replace(MANIFEST, inputs=tensors, outputs=tensors[::-1]), name="m.plan")
    found = {each.name: each.type.tensor_type for each in model.graph.input}
    assert {name: each.elem_type for name, each in found.items()} == {f"t/{k}:0": n for k, n in kinds.items()}
    assert all(each.HasField("shape") and not each.shape.dim for each in found.values())
    assert list(model.graph.node[0].output) == [each.name for each in tensors[::-1]]
    with pytest.raises(EngineError, match="tensor x: is of the type fp8"):
        ep_context_model(replace(MANIFEST, inputs=(PlanTensor("x", "fp8", (1,)),)), name="m.plan")


def test_a_plan_larger_than_an_onnx_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("normexport.engine.ep_context._MOST_BYTES", 10)
    assert ep_context_model(MANIFEST, content=b"x" * 10)
    with pytest.raises(EngineError, match=r"the plan: has 11 bytes.*leave --ep-context-embed out"):
        ep_context_model(MANIFEST, content=b"x" * 11)


@needs_rtx
def test_the_command_names_the_file_around_the_plan_and_wants_one_to_embed_it_in(tmp_path: Path) -> None:
    networks.convolutions(tmp_path / "model.onnx")
    words = ["build", str(tmp_path / "model.onnx"), "-o", str(tmp_path / "model.plan")]
    embed = CliRunner().invoke(app, [*words, "--ep-context-embed"])
    assert embed.exit_code == ExitCode.USAGE
    assert embed.stderr.startswith("error: --ep-context-embed: has no file to embed the plan in; add --ep-context")
    good = CliRunner().invoke(app, [*words, "--target", "sm89", "--ep-context", str(tmp_path / "ctx.onnx")])
    assert good.exit_code == ExitCode.GOOD, good.stderr
    assert "ctx.onnx" in good.stdout
