"""Engines from plain ONNX files: what is built, and what each failure looks like. No GPU."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from normexport.engine import EngineConfig, ShapeRange, build_engine, manifest_path, read_manifest, require_same_plan
from normexport.errors import EngineError, ExitCode, MissingComponent, NormExportError, UsageError
from tests.engine import networks

pytestmark = pytest.mark.slow

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed: pip install 'normexport[rtx]'")

FAST = EngineConfig(targets=("sm89",))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return networks.convolutions(tmp_path / "model.onnx")


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    return tmp_path / "out" / "model.plan"


def files(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()} if folder.exists() else set()


@pytest.mark.parametrize("target", ["sm80", "sm86", "sm89", "sm120", "sm121"])
def test_an_engine_is_built_for_each_gpu_generation(model: Path, plan: Path, target: str) -> None:
    manifest = build_engine(model, plan, EngineConfig(targets=(target,)))
    assert manifest.targets == (target,)
    assert plan.stat().st_size == manifest.plan.bytes > 10_000


def test_the_oldest_gpus_take_float16_networks(tmp_path: Path, plan: Path) -> None:
    model = networks.convolutions(tmp_path / "half.onnx", kind="float16")
    config = EngineConfig(targets=("sm75",), precision="float16")
    assert build_engine(model, plan, config).precision == {"float16": 2}


def test_the_manifest_describes_the_plan_the_file_and_the_network(model: Path, plan: Path) -> None:
    manifest = build_engine(model, plan, FAST)
    content = json.loads(manifest_path(plan).read_text())
    assert content["plan"]["sha256"] == hashlib.sha256(plan.read_bytes()).hexdigest()
    assert content["onnx"]["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert content["inputs"] == [
        {
            "name": "x",
            "dtype": "float32",
            "shape": [-1, 8, 16, 16],
            "smallest": [1, 8, 16, 16],
            "expected": [8, 8, 16, 16],
            "largest": [32, 8, 16, 16],
            "more": [],
        }
    ]
    assert [(layer["type"], layer["onnx"]) for layer in content["layers"]] == [
        ("CONVOLUTION", "conv0"),
        ("ACTIVATION", "relu0"),
        ("CONVOLUTION", "conv1"),
        ("ACTIVATION", "relu1"),
    ]
    assert content["precision"] == {"float32": 2}
    assert content["plugin"] is None
    assert content["host_code"] is False
    assert read_manifest(plan) == manifest


def test_a_plan_that_was_changed_is_not_the_manifests(model: Path, plan: Path) -> None:
    manifest = build_engine(model, plan, FAST)
    require_same_plan(plan, manifest)
    plan.write_bytes(plan.read_bytes()[:-1] + b"!")
    with pytest.raises(UsageError, match="not the plan that its manifest describes"):
        require_same_plan(plan, manifest)


def test_shapes_given_for_one_end_alone_fix_the_input(model: Path, plan: Path) -> None:
    config = EngineConfig(targets=("sm89",), shapes=ShapeRange(expected={"x": (4, 8, 16, 16)}))
    (tensor,) = build_engine(model, plan, config).inputs
    assert {tensor.smallest, tensor.expected, tensor.largest} == {(4, 8, 16, 16)}


def test_any_size_may_be_open_when_shapes_are_given(tmp_path: Path, plan: Path) -> None:
    model = networks.convolutions(tmp_path / "open.onnx", size=("N", 8, "H", "W"))
    with pytest.raises(UsageError, match=r"open sizes \(\?x8x\?x\?\)"):
        build_engine(model, plan, FAST)
    shapes = ShapeRange({"x": (1, 8, 8, 8)}, {"x": (4, 8, 16, 16)}, {"x": (8, 8, 64, 64)})
    (tensor,) = build_engine(model, plan, EngineConfig(targets=("sm89",), shapes=shapes)).inputs
    assert (tensor.smallest, tensor.largest) == ((1, 8, 8, 8), (8, 8, 64, 64))


def test_a_plan_holds_several_profiles_and_its_manifest_tells_each(tmp_path: Path, plan: Path) -> None:
    model = networks.convolutions(tmp_path / "open.onnx", size=("N", 8, "H", "W"))
    small = ShapeRange({"x": (1, 8, 8, 8)}, {"x": (1, 8, 16, 16)}, {"x": (1, 8, 16, 16)})
    large = ShapeRange({"x": (1, 8, 32, 32)}, {"x": (4, 8, 32, 32)}, {"x": (8, 8, 64, 64)})
    (one,) = build_engine(model, plan, EngineConfig(targets=("sm89",), shapes=small)).inputs
    size_of_one = plan.stat().st_size
    (two,) = build_engine(model, plan, EngineConfig(targets=("sm89",), shapes=(small, large))).inputs
    assert one.profiles == two.profiles[:1] == (((1, 8, 8, 8), (1, 8, 16, 16), (1, 8, 16, 16)),)
    assert two.profiles[1] == ((1, 8, 32, 32), (4, 8, 32, 32), (8, 8, 64, 64))
    assert read_manifest(plan).inputs == (two,)
    assert plan.stat().st_size > size_of_one  # the kernels of the second lie in the plan
    with pytest.raises(EngineError, match="profile: 3 is the same as 1"):
        build_engine(model, plan, EngineConfig(targets=("sm89",), shapes=(small, large, small)))


def test_options_reach_the_builder(model: Path, plan: Path, tmp_path: Path) -> None:
    config = EngineConfig(
        targets=("sm89",),
        workspace=1 << 28,
        timing_cache=tmp_path / "timings",
        optimization_level=1,
        weight_streaming=True,
        log=tmp_path / "log",
    )
    assert build_engine(model, plan, config).options["weight_streaming"] is True
    assert "[TRT] [I]" in (tmp_path / "log").read_text()
    assert (tmp_path / "timings").stat().st_size > 0
    assert build_engine(model, plan, config).options["workspace"] == 1 << 28, "the timing cache is read again"


def test_debug_tensors_are_marked_in_the_network_and_told_in_the_manifest(model: Path, plan: Path) -> None:
    plain = build_engine(model, plan, FAST)
    watched = build_engine(model, plan, EngineConfig(targets=("sm89",), debug_tensors=True))
    assert (plain.options["debug_tensors"], watched.options["debug_tensors"]) == (False, True)
    assert watched.plan.sha256 != plain.plan.sha256
    assert watched.layers == plain.layers


def test_stages_are_told_as_they_begin(model: Path, plan: Path) -> None:
    stages: list[str] = []
    build_engine(model, plan, FAST, stages.append)
    assert stages.index("load") < stages.index("parse") < stages.index("build")
    assert len(stages) > 5, "the vendor's own phases are named too"


# Failures: one class each, words that name the place, and nothing left behind.


def refused(
    model: Path, plan: Path, config: EngineConfig = FAST, error: type[NormExportError] = EngineError, **kwargs: Any
) -> NormExportError:
    with pytest.raises(error) as caught:
        build_engine(model, plan, config, **kwargs)
    assert "\n" not in str(caught.value)
    assert not files(plan.parent), "nothing is written"
    return caught.value


def test_a_cut_onnx_file_is_refused(model: Path, plan: Path) -> None:
    model.write_bytes(model.read_bytes()[:1000])
    assert "model.onnx" in refused(model, plan).place


def test_a_missing_onnx_file_is_a_usage_error(plan: Path, tmp_path: Path) -> None:
    refused(tmp_path / "none.onnx", plan, error=UsageError)


@pytest.mark.parametrize("target", ["sm90", "sm1", "everything"])
def test_an_unknown_target_is_refused_by_name(model: Path, plan: Path, target: str) -> None:
    error = refused(model, plan, EngineConfig(targets=(target,)))
    assert target in error.place
    assert "sm89" in error.remedy


def test_what_the_vendor_can_not_build_for_a_target_is_told_in_its_words(tmp_path: Path, plan: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "product")]
    ends = [networks.value("x", ["N", 16])], [networks.value("y", ["N", 16])]
    model = networks.saved(tmp_path / "m.onnx", nodes, *ends, {"w": np.eye(16, dtype="float32")})
    assert "product" in str(refused(model, plan, EngineConfig(targets=("sm75",))))


def test_the_current_gpu_is_a_missing_component_where_there_is_none(model: Path, plan: Path) -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has an NVIDIA GPU")
    for config in (EngineConfig(targets=("current",)), EngineConfig(targets=("sm89",), refit=True)):
        assert refused(model, plan, config, MissingComponent).exit_code == ExitCode.MISSING


@pytest.mark.parametrize("option", ["version_compatible", "hardware_compatible"])
def test_an_option_that_the_flavour_lacks_is_refused(model: Path, plan: Path, option: str) -> None:
    options: dict[str, Any] = {option: True}
    error = refused(model, plan, EngineConfig(targets=("sm89",), **options), UsageError)
    assert error.place == "--" + option.replace("_", "-")


@pytest.mark.parametrize(
    ("shapes", "place"),
    [
        (ShapeRange({"x": (8, 8, 16, 16)}, {}, {"x": (2, 8, 16, 16)}), "input x"),
        (ShapeRange({}, {"x": (2, 8, 16)}, {}), "input x"),
        (ShapeRange({}, {"x": (2, 9, 16, 16)}, {}), "input x"),
        (ShapeRange({}, {}, {"x": (0, 8, 16, 16)}), "input x"),
        (ShapeRange({}, {"nobody": (1,)}, {}), "--optShapes"),
    ],
)
def test_an_impossible_profile_is_refused(model: Path, plan: Path, shapes: ShapeRange, place: str) -> None:
    assert refused(model, plan, EngineConfig(targets=("sm89",), shapes=shapes)).place == place


def test_a_precision_that_is_not_there_is_an_error(model: Path, plan: Path) -> None:
    error = refused(model, plan, EngineConfig(targets=("sm89",), precision="float16"))
    assert "2 float32" in error.cause


def test_an_operator_that_nobody_computes_is_named_before_the_parser_sees_it(tmp_path: Path, plan: Path) -> None:
    nodes = [helper.make_node("Mystery", ["x"], ["y"], "riddle", domain="example.com")]
    ends = [networks.value("x", ["N", 4])], [networks.value("y", ["N", 4])]
    error = refused(networks.saved(tmp_path / "m.onnx", nodes, *ends, {}, ["example.com"]), plan)
    assert (error.place, "example.com::Mystery" in error.cause) == ("node riddle", True)


def test_an_operator_of_ours_without_plugin_and_body_is_refused_by_name(tmp_path: Path, plan: Path) -> None:
    nodes = [helper.make_node("L7BatchNorm", ["x"], ["y"], "norm7", domain="normexport")]
    ends = [networks.value("x", ["N", 4])], [networks.value("y", ["N", 4])]
    error = refused(networks.saved(tmp_path / "m.onnx", nodes, *ends, {}, ["normexport"]), plan)
    assert (error.place, "L7BatchNorm" in error.cause) == ("node norm7", True)


def test_what_the_parser_lacks_is_told_with_the_node(tmp_path: Path, plan: Path) -> None:
    nodes = [helper.make_node("Det", ["x"], ["y"], "determinant")]
    ends = [networks.value("x", [4, 4])], [networks.value("y", [])]
    error = refused(networks.saved(tmp_path / "m.onnx", nodes, *ends, {}), plan)
    assert "determinant" in error.place


def child_of(process: int) -> int:
    tasks = [Path(f"/proc/{process}/task/{task}/children") for task in os.listdir(f"/proc/{process}/task")]
    children = [int(word) for task in tasks for word in task.read_text().split()]
    return next(child for child in children if b"worker.py" in Path(f"/proc/{child}/cmdline").read_bytes())


def test_a_builder_that_is_killed_is_one_clear_error(tmp_path: Path, plan: Path) -> None:
    model = networks.convolutions(tmp_path / "long.onnx", count=60, channels=8)

    def kill(stage: str) -> None:
        if stage == "build":
            os.kill(child_of(os.getpid()), signal.SIGKILL)

    error = refused(model, plan, on_stage=kill)
    assert "SIGKILL" in error.cause
    assert error.exit_code == ExitCode.ENGINE


def test_a_builder_that_takes_too_long_is_given_up(tmp_path: Path, plan: Path) -> None:
    model = networks.convolutions(tmp_path / "long.onnx", count=60, channels=8)
    error = refused(model, plan, EngineConfig(targets=("sm89",), timeout=0.02))
    assert "given up after 0.02 s" in error.cause


def test_a_plugin_library_that_is_none_is_refused(model: Path, plan: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.so"
    text.write_text("not a library")
    assert "text.so" in refused(model, plan, EngineConfig(targets=("sm89",), plugin_library=text)).place
    missing = EngineConfig(targets=("sm89",), plugin_library=tmp_path / "missing.so")
    assert "missing.so" in refused(model, plan, missing, MissingComponent).place


def test_a_plugin_library_without_creators_is_refused(model: Path, plan: Path, tmp_path: Path) -> None:
    source, library = tmp_path / "empty.c", tmp_path / "empty.so"
    source.write_text("int nothing;\n")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    error = refused(model, plan, EngineConfig(targets=("sm89",), plugin_library=library))
    assert "empty.so" in error.place
    assert "getCreators" in error.cause or "getPluginCreators" in error.cause


def test_a_file_of_another_flavour_is_a_usage_error(model: Path, plan: Path) -> None:
    refused(model, plan, EngineConfig(flavor="openvino"), UsageError)


def test_enterprise_tensorrt_that_is_not_installed_is_a_missing_component(model: Path, plan: Path) -> None:
    with pytest.raises(MissingComponent, match="tensorrt") as caught:
        build_engine(model, plan, EngineConfig(flavor="tensorrt"))
    assert caught.value.exit_code == ExitCode.MISSING


def test_an_old_plan_survives_a_failed_build(model: Path, plan: Path) -> None:
    build_engine(model, plan, FAST)
    before = plan.read_bytes(), manifest_path(plan).read_bytes()
    with pytest.raises(EngineError):
        build_engine(model, plan, EngineConfig(targets=("sm89",), precision="int8"))
    assert (plan.read_bytes(), manifest_path(plan).read_bytes()) == before
    assert files(plan.parent) == {"model.plan", "model.plan.json"}


def test_the_source_file_is_left_alone(model: Path, plan: Path) -> None:
    before = model.read_bytes()
    build_engine(model, plan, FAST)
    assert model.read_bytes() == before
    assert onnx.load(model).graph.node[0].op_type == "Conv"
