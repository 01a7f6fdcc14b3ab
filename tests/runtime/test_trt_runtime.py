"""What TensorRTRuntime asks of TensorRT, on the CPU: a stand-in for the vendor's module that computes y = 2x + 1.

The stand-in reads and writes memory by the addresses it is given, as TensorRT does, so names, shapes, types and
addresses have to be right. CUDA graphs and the device itself need a GPU.
"""

from __future__ import annotations

import ctypes
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from normexport.engine.manifest import FileId, Manifest, Tensor, manifest_path, manifest_text
from normexport.errors import EngineError, UsageError
from normexport.runtime import TensorRTRuntime, trt

DTYPES = {"float32": np.float32, "float16": np.float16, "int64": np.int64}


class Context:
    """Doubles and adds one, from address to address."""

    def __init__(self, dtype):
        self.dtype, self.shape, self.addresses, self.streams = np.dtype(dtype), None, {}, []

    def set_input_shape(self, name, shape):
        self.shape = shape
        return name == "x" and shape[0] != 13

    def get_tensor_shape(self, name):
        assert name == "y"
        return self.shape

    def set_tensor_address(self, name, address):
        self.addresses[name] = address

    def execute_async_v3(self, stream):
        self.streams.append(stream)
        count = int(np.prod(self.shape))
        arrays = {
            name: np.frombuffer((ctypes.c_char * (count * self.dtype.itemsize)).from_address(address), self.dtype)
            for name, address in self.addresses.items()
        }
        arrays["y"][:] = 2 * arrays["x"] + 1
        return count < 1000


def vendor(context, seen):
    """The module, with the calls that opening a plan takes."""
    engine = SimpleNamespace(create_execution_context=lambda: context)

    class Runtime:
        engine_host_code_allowed = None

        def __init__(self, logger):
            seen.append(self)

        def get_plugin_registry(self):
            return SimpleNamespace(load_library=lambda path: seen.append(path) or object())

        def deserialize_cuda_engine(self, plan):
            return engine if plan == b"a plan" else None

    logger = SimpleNamespace(ERROR=1)
    logger_type = type("Logger", (), {"ERROR": 1, "__init__": lambda self, level: None})
    return SimpleNamespace(__version__="1.7.2", Logger=logger_type, Runtime=Runtime, ILogger=logger)


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """Open a plan of one input and one output; returns the runtime, the context, and what opening it saw."""

    def opened(dtype="float32", content=b"a plan", **changes):
        plan = tmp_path / "m.plan"
        plan.write_bytes(content)
        ends = Tensor("x", dtype, (-1, 3), (1, 3), (4, 3), (16, 3)), Tensor("y", dtype, (-1, 3))
        known = FileId.of(plan)
        fields = {"plugin": None, "embedded": False, "host_code": False, "bodies": (), "plugins": (), "layers": ()}
        manifest = Manifest(
            plan=known, onnx=known, normexport="0", flavor="tensorrt-rtx", flavor_version="1.7.1.9", targets=("sm89",),
            inputs=ends[:1], outputs=ends[1:], precision={dtype: 1}, **{**fields, **changes},
        )  # fmt: skip
        manifest_path(plan).write_text(manifest_text(manifest))
        context, seen = Context(DTYPES[dtype]), []
        monkeypatch.setattr(trt, "require", lambda flavor: None)
        monkeypatch.setattr(trt, "import_module", lambda name: vendor(context, seen))
        monkeypatch.setattr(trt, "_device", lambda manifest, plan: torch.device("cpu"))
        monkeypatch.setattr(trt, "_stream", lambda device: 77)
        return TensorRTRuntime(plan, graphs=False, trust=bool(changes)), context, seen

    return opened


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_go_in_and_come_out_by_name_in_the_types_of_the_plan(opened, dtype):
    runtime, context, _ = opened(dtype)
    x = np.arange(12).reshape(4, 3).astype(DTYPES[dtype])
    y = runtime.run({"x": x})["y"]
    np.testing.assert_array_equal(y, 2 * x + 1)
    assert (y.dtype, y.shape, context.streams) == (np.dtype(dtype), (4, 3), [77])


def test_wider_floats_are_rounded_to_the_type_of_the_input(opened):
    runtime, *_ = opened("float16")
    y = runtime.run({"x": np.full((1, 3), 1.0001)})["y"]
    assert y.dtype == np.float16


def test_a_transposed_array_is_read_in_its_own_order(opened):
    runtime, *_ = opened()
    x = np.arange(12, dtype=np.float32).reshape(3, 4).T
    np.testing.assert_array_equal(runtime.run({"x": x})["y"], 2 * x + 1)


def test_a_strided_tensor_is_read_in_its_own_order(opened):
    runtime, *_ = opened()
    x = torch.arange(12, dtype=torch.float32).reshape(3, 4).T
    torch.testing.assert_close(runtime.run_tensors({"x": x})["y"], 2 * x + 1)


def test_outputs_of_one_run_survive_the_next(opened):
    runtime, *_ = opened()
    first = runtime.run({"x": np.zeros((2, 3), np.float32)})["y"]
    runtime.run({"x": np.ones((2, 3), np.float32)})
    np.testing.assert_array_equal(first, 1)


@pytest.mark.parametrize("shape", [(0, 3), (17, 3), (4, 2), (4,), (4, 3, 1)])
def test_shapes_outside_the_profile_never_reach_the_engine(opened, shape):
    runtime, context, _ = opened()
    with pytest.raises(UsageError, match="input x"):
        runtime.run_tensors({"x": torch.zeros(shape)})
    assert not context.streams


@pytest.mark.parametrize("tensor", [torch.zeros(1, 3, dtype=torch.float64), torch.zeros(1, 3, device="meta")])
def test_a_tensor_of_another_type_or_place_never_reaches_the_engine(opened, tensor):
    runtime, context, _ = opened()
    with pytest.raises(UsageError, match="float32 on cpu is needed"):
        runtime.run_tensors({"x": tensor})
    assert not context.streams


def test_what_the_engine_refuses_is_an_error_of_ours(opened):
    runtime, *_ = opened()
    with pytest.raises(UsageError, match=r"\(13, 3\) is not accepted"):
        runtime.run({"x": np.zeros((13, 3), np.float32)})
    with pytest.raises(UsageError, match="has no input z"):
        runtime.run({"z": np.zeros((1, 3), np.float32)})
    with pytest.raises(UsageError, match="missing"):
        runtime.run_tensors({})


def test_inner_values_are_said_to_be_inside_the_engine(opened):
    runtime, *_ = opened()
    assert set(runtime.run({"x": np.zeros((1, 3), np.float32)}, ["conv1"])) == {"y"}
    assert runtime.dropped == {"conv1": "is inside the engine"}


def test_host_code_is_allowed_only_for_plans_that_hold_it(opened):
    _, _, (plain, *_) = opened()
    assert plain.engine_host_code_allowed is False
    _, _, (holding, *_) = opened(host_code=True, embedded=True)
    assert holding.engine_host_code_allowed is True


def test_the_plugin_library_is_loaded_before_the_plan(opened, tmp_path, monkeypatch):
    library = tmp_path / "libnormexport_tensorrt.so"
    library.write_bytes(b"code")
    monkeypatch.setenv("NORMEXPORT_PLUGIN_DIR", str(tmp_path))
    _, _, seen = opened(plugin=FileId.of(library))
    assert seen[1] == str(library)


def test_a_plan_that_tensorrt_can_not_open_is_an_engine_error(opened):
    with pytest.raises(EngineError, match="can't open it"):
        opened(content=b"another plan")
