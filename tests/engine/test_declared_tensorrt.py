"""All that our code asks of TensorRT is there, in every version whose Python bindings are, and takes what it is given.

The witness is the vendor's own: names, enum members and signatures as the bindings of that version declare them.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from normexport.engine.manifest import FileId, Manifest, PlanTensor, manifest_path, manifest_text
from normexport.engine.worker import Worker
from normexport.runtime import TensorRTRuntime, tensorrt_runtime
from tests.engine import declared
from tests.engine.declared import Source, Undeclared, Vendor
from tests.runtime.conftest import OnCpu

#: Of the versions that `make bindings` gets: the oldest that is served, the newest 10, the first and the newest 11.
SOURCES = declared.sources()
ENTERPRISE = [each for each in SOURCES if each.folder is not None]


def _parameters() -> Iterator[Any]:
    reason = declared.missing()
    if reason is not None:
        yield pytest.param(None, marks=pytest.mark.skip(reason=reason), id="tensorrt")
    for source in SOURCES:
        if source.folder is None or reason is None:
            yield pytest.param(source, id=source.name)


@pytest.fixture(params=_parameters())
def source(request: pytest.FixtureRequest) -> Source:
    found: Source = request.param
    return found


def request(folder: Path, vendor: Vendor, **changes: Any) -> dict[str, Any]:
    """A build with every option that this version has."""
    rtx = vendor.__version__.startswith("1.")
    asked = {
        "plan": str(folder / "model.plan"),
        "targets": ["sm75", "sm89", "sm120"] if rtx else ["current"],
        "opens": True,
        "profiles": [
            [{"name": "x", "smallest": [1, 3], "expected": [1, 3], "largest": [1, 3]}],
            [{"name": "x", "smallest": [2, 3], "expected": [4, 3], "largest": [16, 3]}],
        ],
        "workspace": 1 << 20,
        "optimization_level": 3,
        "flags": ["REFIT", "WEIGHT_STREAMING", *([] if rtx else ["VERSION_COMPATIBLE"])],
        "tf32": False,
        "debug_tensors": vendor.debug_tensors,
        "hardware_compatible": not rtx,
        "timing_cache": str(folder / "timings"),
        "timings": str(folder / "timings.new"),
        "embed": ["plugin.so"],
    }
    return asked | changes


@pytest.fixture
def vendor(source: Source) -> Vendor:
    """The version, played back, for a network and an engine of one input x (?, 3) and one output y."""
    found = Vendor(declared.listed(source))
    found.debug_tensors = hasattr(found.INetworkDefinition, "mark_unfused_tensors_as_debug_tensors")
    found.answers |= {
        "IPluginRegistry.all_creators": [found.IPluginCreatorV3One.__new__(found.IPluginCreatorV3One)],
        "ICudaEngine.num_io_tensors": 2,
        "ICudaEngine.get_tensor_name": lambda index: "xy"[index],
        "ICudaEngine.get_tensor_mode": lambda name: found.TensorIOMode["INPUT" if name == "x" else "OUTPUT"],
        "ICudaEngine.get_tensor_shape": lambda name: (-1, 3),
        "ICudaEngine.num_optimization_profiles": 2,
        "ICudaEngine.get_tensor_profile_shape": lambda name, index: [[(1, 3)] * 3, [(2, 3), (4, 3), (16, 3)]][index],
        "IExecutionContext.get_tensor_shape": lambda name: (4, 3),
    }
    return found


def told(channel: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in channel.getvalue().splitlines()]


def test_a_build_with_every_option_asks_for_nothing_that_is_not_declared(vendor: Vendor, tmp_path: Path) -> None:
    channel = io.StringIO()
    worker = Worker(channel, vendor)
    worker.load(["plugin.so"])
    network = worker.parse("model.onnx")
    worker.build(network, request(tmp_path, vendor))
    hello, parsed, *_, done = told(channel)
    assert hello["hello"] == {"version": vendor.__version__, "creators": [["x", "x", "x"]]}
    assert parsed["parsed"]["inputs"] == [{"name": "x", "dtype": "float", "shape": [1, 3]}]
    assert set(done) == {"done"}
    assert (tmp_path / "timings.new").exists()
    assert {
        "Builder.build_serialized_network",
        "IBuilderConfig.set_flag",
        "IBuilderConfig.set_timing_cache",
        "IBuilderConfig.plugins_to_serialize",
        "IBuilderConfig.progress_monitor",
        "IOptimizationProfile.set_shape",
        "IPluginRegistry.load_library",
        "OnnxParser.parse_from_file",
        "Runtime.deserialize_cuda_engine",
    } <= set(vendor.used)


def test_what_the_parser_says_of_an_error_is_declared(vendor: Vendor) -> None:
    channel = io.StringIO()
    vendor.answers |= {"OnnxParser.parse_from_file": False, "ParserError.desc": "no such operator"}
    with pytest.raises(SystemExit):
        Worker(channel, vendor).parse("model.onnx")
    assert told(channel)[-1] == {"failed": {"stage": "parse", "cause": "no such operator", "node": "x x"}}


@pytest.mark.parametrize("debug_tensors", [False, True])
def test_opening_and_running_a_plan_asks_for_nothing_that_is_not_declared(
    vendor: Vendor, source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, debug_tensors: bool
) -> None:
    plan = tmp_path / "model.plan"
    plan.write_bytes(b"a plan")
    known = FileId.of(plan)
    manifest = Manifest(
        plan=known,
        onnx=known,
        plugin=None,
        embedded=False,
        host_code=False,
        normexport="0",
        flavor="tensorrt-rtx" if source.folder is None else "tensorrt",
        flavor_version=vendor.__version__,
        targets=("current",),
        inputs=(PlanTensor("x", "float32", (-1, 3), (1, 3), (1, 3), (1, 3), (((2, 3), (4, 3), (16, 3)),)),),
        outputs=(PlanTensor("y", "float32", (-1, 3)),),
        precision={},
        plugins=(),
        bodies=(),
        layers=(),
        options={"debug_tensors": debug_tensors},
    )
    manifest_path(plan).write_text(manifest_text(manifest))
    monkeypatch.setattr(tensorrt_runtime, "require", lambda flavor: None)
    monkeypatch.setattr(tensorrt_runtime, "import_module", lambda name: vendor)
    monkeypatch.setattr(tensorrt_runtime, "gpu_memory", OnCpu)
    rtx = source.folder is None
    runtime = TensorRTRuntime(plan, runtime_cache=tmp_path / "kernels" if rtx else None)
    if debug_tensors and not vendor.debug_tensors:
        pytest.skip(f"version {vendor.__version__} has no debug tensors, and builds no plan with them")
    outputs = runtime.run({"x": np.zeros((4, 3), np.float32)}, ["inside"] if debug_tensors else [])
    assert outputs["y"].shape == (4, 3)
    runtime.save_runtime_cache()
    assert ("IRuntimeConfig.set_runtime_cache" in vendor.used) == rtx == (tmp_path / "kernels").exists()
    assert {"IExecutionContext.set_tensor_address", "IExecutionContext.execute_async_v3"} <= set(vendor.used)
    assert vendor.used["IExecutionContext.set_optimization_profile_async"] == (1, OnCpu.stream)
    assert ("IExecutionContext.set_debug_listener" in vendor.used) == debug_tensors


def test_what_is_used_is_deprecated_nowhere(vendor: Vendor, tmp_path: Path) -> None:
    worker = Worker(io.StringIO(), vendor)
    worker.load(["plugin.so"])
    worker.build(worker.parse("model.onnx"), request(tmp_path, vendor))
    deprecated = sorted(name for name in vendor.used if "deprecated" in vendor.docs.get(name, "").lower())
    assert deprecated == []


def test_networks_are_strongly_typed_where_that_is_a_choice(vendor: Vendor) -> None:
    Worker(io.StringIO(), vendor).parse("model.onnx")
    choice = vendor.NetworkDefinitionCreationFlag.__members__.get("STRONGLY_TYPED")
    assert vendor.used["Builder.create_network"] == (0 if choice is None else 1 << int(choice),)


def test_the_oldest_version_that_is_served_and_the_newest_are_among_those_asked() -> None:
    if reason := declared.missing():
        pytest.skip(reason)
    versions = [tuple(map(int, each.name.split(".")[:2])) for each in ENTERPRISE]
    assert min(versions) <= (10, 7)
    assert max(versions) >= (11, 4)


def test_the_play_back_refuses_what_is_not_declared(source: Source) -> None:
    """What makes the tests above able to fail."""
    vendor = Vendor(declared.listed(source))
    builder = vendor.Builder(vendor.Logger(vendor.Logger.INFO))
    config = builder.create_builder_config()
    with pytest.raises(AttributeError):
        config.int9_calibrator  # noqa: B018  (to look is what raises)
    with pytest.raises(AttributeError):
        config.max_workspace = 3
    with pytest.raises(Undeclared):
        config.set_flag("TF32")
    with pytest.raises(Undeclared):
        config.set_flag(vendor.BuilderFlag.TF32, 1)
    with pytest.raises(Undeclared):
        config.set_timing_cache(cache=config.create_timing_cache(b""))
    with pytest.raises(Undeclared):
        builder.create_optimization_profile().set_shape("x", (1,), (1,), "16")
    with pytest.raises(AttributeError):
        vendor.BuilderFlag.NO_SUCH_FLAG  # noqa: B018  (to look is what raises)
    with pytest.raises(AssertionError, match="phase_start"):
        type("Monitor", (vendor.IProgressMonitor,), {
            "__module__": "normexport.x", "__init__": lambda self: None, "phase_start": lambda self, name: None
        })  # fmt: skip


@pytest.mark.parametrize("name", ["FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"])
def test_flags_that_eleven_removed_are_known_to_be_gone_there(name: str) -> None:
    """Were one of them asked for, the tests above would fail on 11 and pass on 10."""
    if reason := declared.missing():
        pytest.skip(reason)
    for each in ENTERPRISE:
        there = name in declared.listed(each)["enums"]["BuilderFlag"]
        assert there == (int(each.name.split(".")[0]) < 11)
