"""Memory of the current GPU, for plans: through PyTorch where it can use the GPU, else through NVIDIA's own bindings.

The two hand out tensors that say the same of themselves: `shape`, `dtype`, `device.type`, `data_ptr()`, `contiguous()`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any, ClassVar, Protocol
from weakref import finalize

import numpy as np

from normexport.dtypes import FLOAT32, FLOATS, HALVES, array_name, as_numpys
from normexport.errors import EngineError, MissingComponent
from normexport.runtime.base import Array

_NEEDS, _ELSEWHERE = "is needed to run a plan, and", "run it on a machine with one"


class GpuMemory(Protocol):
    """The memory of one GPU, and the stream on which work with it is queued."""

    #: What `device.type` of its tensors is.
    place: str
    #: "sm89"
    architecture: str

    @property
    def stream(self) -> int:
        """The CUDA stream of the calls that follow."""

    def upload(self, array: Array, dtype: str) -> Any:
        """A tensor of the named type with the numbers of an array, rounded where the type is narrower."""

    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        """A tensor that is about to be written."""

    def download(self, tensor: Any) -> Array:
        """A tensor's numbers once the stream has made them; types that numpy lacks as float32."""

    def read(self, address: int, shape: tuple[int, ...], dtype: str, stream: int) -> Array:
        """What lies at an address once a stream has made it, as `download` gives it."""


def gpu_memory() -> GpuMemory:
    """The memory of the current GPU.

    Raises:
        MissingComponent: there is no GPU, or neither PyTorch nor NVIDIA's bindings are installed.
    """
    torch = import_module("torch") if _is_installed("torch") else None
    if torch is not None and torch.cuda.is_available():
        return TorchMemory(torch.device("cuda", torch.cuda.current_device()))
    if _is_installed("cuda.bindings"):
        return BoundMemory(import_module("cuda.bindings.runtime"))
    if torch is not None:
        remedy = "run it on a machine with one, and with a build of PyTorch for CUDA, or: pip install cuda-bindings"
        raise MissingComponent("an NVIDIA GPU", f"{_NEEDS} PyTorch sees none", remedy)
    remedy = "on a machine with a GPU run: pip install cuda-bindings"
    raise MissingComponent("cuda-bindings", f"or PyTorch {_NEEDS} neither is installed", remedy)


class TorchMemory:
    """PyTorch's memory on a device of its own; work is queued on PyTorch's current stream."""

    def __init__(self, device: Any) -> None:
        import torch

        self._torch, self._device, self.place = torch, device, str(device.type)
        is_gpu = device.type == "cuda"
        self.architecture = "sm{}{}".format(*torch.cuda.get_device_capability(device)) if is_gpu else device.type

    @property
    def stream(self) -> int:
        return int(self._torch.cuda.current_stream(self._device).cuda_stream)

    def upload(self, array: Array, dtype: str) -> Any:
        tensor = self._torch.from_numpy(np.asarray(array, order="C")).to(self._device)
        return tensor.to(getattr(self._torch, dtype))

    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        return self._torch.empty(shape, dtype=getattr(self._torch, dtype), device=self._device)

    def download(self, tensor: Any) -> Array:
        array: Array = as_numpys(tensor.cpu()).numpy()
        return array

    def read(self, address: int, shape: tuple[int, ...], dtype: str, stream: int) -> Array:
        torch, described = self._torch, _described(address, shape, dtype)
        with torch.cuda.stream(torch.cuda.ExternalStream(stream)):
            tensor = torch.as_tensor(described, device=self._device).view(getattr(torch, dtype))
            array = self.download(tensor)
            torch.cuda.current_stream().synchronize()
        return array


class BoundMemory:
    """The GPU's memory through `cuda.bindings.runtime`, on a stream of its own.

    Raises:
        MissingComponent: there is no GPU, or none that its driver can serve.
        EngineError: a call fails.
    """

    place = "cuda"

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime
        try:
            found = self._call("cudaGetDeviceCount")
        except EngineError as error:  # no driver, or an old one
            raise MissingComponent("an NVIDIA GPU", f"{_NEEDS} none answers: {error.cause}", _ELSEWHERE) from error
        if not found:
            raise MissingComponent("an NVIDIA GPU", f"{_NEEDS} there is none", _ELSEWHERE)
        device, names = self._call("cudaGetDevice"), runtime.cudaDeviceAttr
        parts = names.cudaDevAttrComputeCapabilityMajor, names.cudaDevAttrComputeCapabilityMinor
        self.architecture = "sm{}{}".format(*(self._call("cudaDeviceGetAttribute", part, device) for part in parts))
        self._stream = self._call("cudaStreamCreate")
        finalize(self, runtime.cudaStreamDestroy, self._stream)

    @property
    def stream(self) -> int:
        return int(self._stream)

    def upload(self, array: Array, dtype: str) -> BoundTensor:
        stored = np.asarray(array, _stored_in(dtype), order="C")
        tensor = self.empty(stored.shape, dtype)
        if stored.nbytes:
            kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
            self._call("cudaMemcpy", tensor.data_ptr(), stored.ctypes.data, stored.nbytes, kind)
        return tensor

    def empty(self, shape: tuple[int, ...], dtype: str) -> BoundTensor:
        size = math.prod(shape) * _stored_in(dtype).itemsize
        address = int(self._call("cudaMalloc", max(size, 1)))
        return BoundTensor(address, shape, dtype, self._runtime.cudaFree)

    def download(self, tensor: Any) -> Array:
        return self.read(tensor.data_ptr(), tensor.shape, tensor.dtype, self.stream)

    def read(self, address: int, shape: tuple[int, ...], dtype: str, stream: int) -> Array:
        stored = np.empty(shape, _stored_in(dtype))
        self._call("cudaStreamSynchronize", stream)
        if stored.nbytes:
            kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
            self._call("cudaMemcpy", stored.ctypes.data, address, stored.nbytes, kind)
        return stored.astype(np.dtype(array_name(dtype)), copy=False)

    def _call(self, function: str, *arguments: Any) -> Any:
        """What a function of the bindings gives beside its status, None where that is nothing."""
        status, *given = getattr(self._runtime, function)(*arguments)
        if int(status):
            text = self._runtime.cudaGetErrorString(status)[1].decode()
            raise EngineError(function, text, "see the GPU's state: nvidia-smi")
        return given[0] if given else None


class BoundTensor:
    """Memory of the GPU that is given back with the last reference to it."""

    device = SimpleNamespace(type="cuda")

    def __init__(self, address: int, shape: tuple[int, ...], dtype: str, free: Callable[[int], object]) -> None:
        self.shape, self.dtype, self._address = shape, dtype, address
        finalize(self, free, address)

    def data_ptr(self) -> int:
        return self._address

    def contiguous(self) -> BoundTensor:
        return self


def _stored_in(dtype: str) -> np.dtype[Any]:
    return FLOATS[dtype].numpy if dtype in FLOATS else np.dtype(dtype)


def _described(address: int, shape: tuple[int, ...], dtype: str) -> Any:
    """Memory as the CUDA array interface describes it; the bits of types that numpy lacks go as integers."""
    floats = {each.name: f"<{'f' if each.is_numpys else 'i'}{each.bits // 8}" for each in (FLOAT32, *HALVES.values())}
    kind = floats[dtype] if dtype in floats else np.dtype(dtype).str

    class Described:
        __cuda_array_interface__: ClassVar[dict[str, Any]] = {
            "shape": shape, "typestr": kind, "data": (address, False), "strides": None, "version": 3,
        }  # fmt: skip

    return Described()


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # the package around it is not there, or stands for one that is not
        return False
