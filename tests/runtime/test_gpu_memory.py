"""Plans without PyTorch: memory of the GPU through NVIDIA's bindings, of which a stand-in keeps count here."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from normexport.errors import EngineError, MissingComponent
from normexport.runtime import gpu_memory
from normexport.runtime.gpu_memory import BoundMemory
from tests.runtime.conftest import OnCpu
from tests.runtime.tensorrt_stand_in import DTYPES, Bindings


@pytest.fixture
def bindings() -> Bindings:
    return Bindings()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_plan_computes_the_same_without_pytorch(
    opened: Callable[..., Any], bindings: Bindings, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, context, _ = opened(dtype, memory=lambda: BoundMemory(bindings))
    monkeypatch.setitem(sys.modules, "torch", None)
    x = np.arange(12).reshape(3, 4).T.astype(DTYPES[dtype])
    y = runtime.run({"x": x})["y"]
    np.testing.assert_array_equal(y, 2 * x + 1)
    assert (y.dtype, context.streams) == (np.dtype(dtype), [77])
    assert bindings.waited_for == [77]


def test_values_inside_the_engine_are_seen_without_pytorch(
    opened: Callable[..., Any], bindings: Bindings, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, *_ = opened(memory=lambda: BoundMemory(bindings), trust=False, options={"debug_tensors": True})
    monkeypatch.setitem(sys.modules, "torch", None)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    values = runtime.run({"x": x}, ["conv1", "conv2"])
    np.testing.assert_array_equal(values["conv1"], 2 * x)
    assert runtime.dropped == {"conv2": "is fused inside the engine"}


def test_a_scalar_stays_a_scalar_on_its_way_up(bindings: Bindings) -> None:
    scalar: Any = np.float32(2)  # what some operators of numpy return for an array of no axes
    for memory in (BoundMemory(bindings), OnCpu()):
        assert tuple(memory.upload(scalar, "float32").shape) == ()


def test_memory_is_given_back_when_a_run_is_over_and_when_it_fails(
    opened: Callable[..., Any], bindings: Bindings
) -> None:
    runtime, *_ = opened(memory=lambda: BoundMemory(bindings))
    for _ in range(3):
        runtime.run({"x": np.ones((2, 3), np.float32)})
    bindings.fails["cudaMemcpy"] = 700
    with pytest.raises(EngineError, match=r"cudaMemcpy: error 700; .*nvidia-smi"):
        runtime.run({"x": np.ones((2, 3), np.float32)})
    gc.collect()
    assert bindings.held == {}


def test_a_gpu_without_room_is_one_clear_line(bindings: Bindings) -> None:
    memory = BoundMemory(bindings)
    bindings.fails["cudaMalloc"] = 2
    with pytest.raises(EngineError, match="cudaMalloc: error 2"):
        memory.empty((1 << 20, 1 << 20), "float32")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int64", "int32", "int8", "uint8", "bool"])
@pytest.mark.parametrize("shape", [(), (2, 3), (0, 3)])
def test_numbers_of_every_type_of_a_plan_come_back_as_they_went_up(
    bindings: Bindings, dtype: str, shape: tuple[int, ...]
) -> None:
    memory = BoundMemory(bindings)
    kind = np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)
    sent = np.resize(np.array([1.0078125, 0, 3.14159]), shape)
    tensor = memory.upload(sent.astype(np.float64 if kind.kind in "fV" else kind), dtype)
    back = memory.download(tensor)
    expected = sent.astype(kind)
    np.testing.assert_array_equal(back, expected.astype(np.float32) if dtype == "bfloat16" else expected)
    assert back.dtype == (np.float32 if dtype == "bfloat16" else kind)
    assert (tensor.shape, tensor.dtype, tensor.device.type) == (shape, dtype, memory.place)


@pytest.mark.parametrize(
    ("bindings", "words"),
    [
        (Bindings(devices=0), "there is none; run it on a machine with one"),
        (Bindings({"cudaGetDeviceCount": 35}), "none answers: error 35; run it on a machine with one"),
    ],
)
def test_a_machine_without_a_gpu_is_a_missing_component(bindings: Bindings, words: str) -> None:
    with pytest.raises(MissingComponent, match=f"an NVIDIA GPU: is needed to run a plan, and {words}"):
        BoundMemory(bindings)


def test_a_plan_for_another_gpu_is_refused(opened: Callable[..., Any], bindings: Bindings) -> None:
    with pytest.raises(EngineError, match=r"was built for sm120, and this GPU is sm89; build it for sm89"):
        opened(memory=lambda: BoundMemory(bindings), targets=("sm120",))


def test_pytorch_goes_before_the_bindings_where_it_sees_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    torch: Any = ModuleType("torch")
    torch.cuda = SimpleNamespace(is_available=lambda: False)
    known = {"torch": torch, "cuda.bindings.runtime": Bindings()}
    monkeypatch.setattr(gpu_memory, "import_module", known.__getitem__)
    monkeypatch.setattr(gpu_memory, "_is_installed", {"torch", "cuda.bindings"}.__contains__)
    assert isinstance(gpu_memory.gpu_memory(), BoundMemory)
    torch.cuda.is_available = lambda: True
    torch.cuda.current_device = lambda: 3
    torch.device = lambda *words: words
    monkeypatch.setattr(gpu_memory, "TorchMemory", lambda device: ("torch", device))
    chosen: Any = gpu_memory.gpu_memory()
    assert chosen == ("torch", ("cuda", 3))


@pytest.mark.parametrize(
    ("installed", "words"),
    [
        (set(), "cuda-bindings: or PyTorch is needed .* neither is installed; .*pip install cuda-bindings"),
        ({"torch"}, "an NVIDIA GPU: is needed to run a plan, and PyTorch sees none"),
    ],
)
def test_what_is_missing_is_named_with_what_installs_it(
    installed: set[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_memory, "_is_installed", installed.__contains__)
    torch = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: False))
    monkeypatch.setattr(gpu_memory, "import_module", {"torch": torch}.__getitem__)
    with pytest.raises(MissingComponent, match=words):
        gpu_memory.gpu_memory()


def test_nvidias_bindings_have_what_is_called() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")
    called = [name for name in vars(Bindings) if name.startswith("cuda")]
    assert not [name for name in called if not hasattr(runtime, name)]
    assert {"cudaMemcpyHostToDevice", "cudaMemcpyDeviceToHost"} <= set(dir(runtime.cudaMemcpyKind))
    assert set(vars(Bindings.cudaDeviceAttr)) <= set(dir(runtime.cudaDeviceAttr))
