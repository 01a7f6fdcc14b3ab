"""Stand-ins for the vendor's modules, on the CPU: an engine that computes y = 2x + 1, and memory that is the host's.

The engine reads and writes memory by the addresses it is given, as TensorRT does, so names, shapes, types and addresses
have to be right. CUDA graphs and the device itself need a GPU.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

DTYPES: dict[str, Any] = {"float32": np.float32, "float16": np.float16, "int64": np.int64}


class Context:
    """Doubles and adds one, from address to address."""

    def __init__(self, dtype: DTypeLike) -> None:
        self.dtype: Any = np.dtype(dtype)
        self.shape: tuple[int, ...] = ()
        self.addresses: dict[str, int] = {}
        self.config: Any = None
        self.streams: list[int] = []

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        return name == "x" and shape[0] != 13

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        assert name == "y"
        return self.shape

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self.profile = profile
        return stream == 77

    def set_debug_listener(self, listener: Any) -> bool:
        self.listener = listener
        return True

    def execute_async_v3(self, stream: int) -> bool:
        self.streams.append(stream)
        if getattr(self, "unfused_tensors_debug_state", False):
            self._show_inside(stream)
        count = int(np.prod(self.shape))
        arrays = {
            name: np.frombuffer((ctypes.c_char * (count * self.dtype.itemsize)).from_address(address), self.dtype)
            for name, address in self.addresses.items()
        }
        arrays["y"][:] = 2 * arrays["x"] + 1
        return count < 1000

    def _show_inside(self, stream: int) -> None:
        """Tensors as the vendor's bindings show them: an address in a PyCapsule, valid during the call."""
        count = int(np.prod(self.shape))
        x = np.frombuffer((ctypes.c_char * (count * self.dtype.itemsize)).from_address(self.addresses["x"]), self.dtype)
        for name, factor in (("conv1", 2), ("reformat_1", 7), ("conv1", 9)):
            held = (factor * x).astype(self.dtype)
            capsule = PyCapsule_New(held.ctypes.data, None, None)
            kind = SimpleNamespace(name=NAMES[self.dtype.name])
            self.listener.process_debug_tensor(capsule, "host", kind, self.shape, name, stream)
            held[:] = 0


PyCapsule_New = ctypes.pythonapi.PyCapsule_New
PyCapsule_New.restype, PyCapsule_New.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]


class RuntimeConfig:
    """As the vendor's, with a cache that takes b"old" alone and grows to b"new"."""

    def create_runtime_cache(self) -> SimpleNamespace:
        self.made = SimpleNamespace(content=b"", serialize=lambda: bytearray(b"new"))
        self.made.deserialize = lambda content: bytes(content) in (b"old", b"new")
        return self.made

    def set_runtime_cache(self, cache: Any) -> bool:
        self.cache = cache
        return cache is self.made


class Engine:
    """An engine of one input and one output, which says of itself what its `tensors` say; others are overlaid."""

    def __init__(self, context: Context, tensors: Mapping[str, Any]) -> None:
        self.context, self.tensors, self.num_io_tensors = context, tensors, len(tensors)
        self.num_optimization_profiles = max(len(each.get("profiles", [0])) for each in tensors.values())

    def create_execution_context(self, runtime_config: Any = None) -> Context:
        self.context.config = runtime_config
        return self.context

    def create_runtime_config(self) -> Any:
        return RuntimeConfig()

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_mode(self, name: str) -> str:
        return self.tensors[name].get("mode", "out")

    def get_tensor_dtype(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(name=self.tensors[name]["dtype"])

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name]["shape"]

    def get_tensor_location(self, name: str) -> str:
        return self.tensors[name].get("location", "device")

    def get_tensor_format(self, name: str) -> str:
        return self.tensors[name].get("format", "linear")

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        assert 0 <= profile < self.num_optimization_profiles
        return (
            self.tensors[name]["profiles"][profile]
            if "profiles" in self.tensors[name]
            else self.tensors[name]["profile"]
        )


NAMES = {"float32": "FLOAT", "float16": "HALF", "int64": "INT64"}


def tensors(dtype: str, **changes: Any) -> dict[str, Any]:
    """What the engine says: x (1 to 16, 3) -> y, changed as `x={...}` or `y={...}` say."""
    x = {"mode": "in", "dtype": NAMES[dtype], "shape": (-1, 3), "profile": [(1, 3), (4, 3), (16, 3)]}
    y = {"dtype": NAMES[dtype], "shape": (-1, 3)}
    return {"x": x | changes.pop("x", {}), "y": y | changes.pop("y", {}), **changes}


def vendor(context: Context, seen: list[Any], engine: Engine) -> SimpleNamespace:
    """The module, with the calls that opening a plan takes."""

    class Runtime:
        engine_host_code_allowed = None

        def __init__(self, logger: Any) -> None:
            seen.append(self)

        def get_plugin_registry(self) -> SimpleNamespace:
            return SimpleNamespace(load_library=self._load)

        def _load(self, path: str) -> object:
            seen.append(path)
            return object()

        def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
            return engine if plan == b"a plan" else None

    logger = SimpleNamespace(ERROR=1)
    logger_type = type("Logger", (), {"ERROR": 1, "__init__": lambda self, level: None})
    kinds = {
        "TensorIOMode": SimpleNamespace(INPUT="in"),
        "TensorLocation": SimpleNamespace(DEVICE="device"),
        "TensorFormat": SimpleNamespace(LINEAR="linear"),
        "IDebugListener": type("IDebugListener", (), {"__init__": lambda self: None}),
    }
    return SimpleNamespace(__version__="1.7.2", Logger=logger_type, Runtime=Runtime, ILogger=logger, **kinds)


class Bindings:
    """`cuda.bindings.runtime` for one GPU whose memory is the host's; knows what is allocated, and what was called.

    Args:
        fails: by function, the status that it ends with.
    """

    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice="up", cudaMemcpyDeviceToHost="down")
    cudaDeviceAttr = SimpleNamespace(
        cudaDevAttrComputeCapabilityMajor="major", cudaDevAttrComputeCapabilityMinor="minor"
    )

    def __init__(self, fails: dict[str, int] | None = None, devices: int = 1) -> None:
        self.fails, self.devices = fails or {}, devices
        self.held: dict[int, ctypes.Array[ctypes.c_char]] = {}
        self.waited_for: list[int] = []

    def _status(self, function: str) -> int:
        return self.fails.get(function, 0)

    def cudaGetErrorString(self, status: int) -> tuple[int, bytes]:
        return 0, b"error %d" % status

    def cudaGetDeviceCount(self) -> tuple[int, int]:
        return self._status("cudaGetDeviceCount"), self.devices

    def cudaGetDevice(self) -> tuple[int, int]:
        return 0, 0

    def cudaDeviceGetAttribute(self, attribute: str, device: int) -> tuple[int, int]:
        return 0, {"major": 8, "minor": 9}[attribute]

    def cudaStreamCreate(self) -> tuple[int, int]:
        return 0, 77

    def cudaStreamDestroy(self, stream: int) -> tuple[int]:
        return (0,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[int]:
        self.waited_for.append(stream)
        return (self._status("cudaStreamSynchronize"),)

    def cudaMalloc(self, size: int) -> tuple[int, int | None]:
        assert size > 0
        if status := self._status("cudaMalloc"):
            return status, None
        room = ctypes.create_string_buffer(b"\xff" * size, size)
        self.held[ctypes.addressof(room)] = room
        return 0, ctypes.addressof(room)

    def cudaFree(self, address: int) -> tuple[int]:
        del self.held[address]
        return (0,)

    def cudaMemcpy(self, to: int, source: int, size: int, kind: str) -> tuple[int]:
        on_device, on_host = (to, source) if kind == "up" else (source, to)
        assert on_device in self.held
        assert on_host not in self.held
        assert size <= len(self.held[on_device])
        ctypes.memmove(to, source, size)
        return (self._status("cudaMemcpy"),)
