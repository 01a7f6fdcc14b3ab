"""Values inside an engine: what its debug tensors hold while it runs, handed over one after the other.

An engine built with `EngineConfig.debug_tensors` lets the tensors that the optimiser left as they are be seen; fusion
goes on as before. TensorRT calls a listener as each of them is there, with an address that is valid during the call.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from normexport.dtypes import FLOAT32, FLOATS, HALVES, array_name, of_tensorrt
from normexport.errors import EngineError
from normexport.runtime.base import Array, Sink

#: How an address on the GPU is described to PyTorch; the bits of types that numpy lacks go as integers.
_TYPES = {
    **{each.name: f"<{'f' if each.is_numpys else 'i'}{each.bits // 8}" for each in (FLOAT32, *HALVES.values())},
    "int64": "<i8",
    "int32": "<i4",
    "int8": "|i1",
    "uint8": "|u1",
    "bool": "|b1",
}

_Take = Callable[[Any, Any, Any, Any, str, Any], bool]


class DebugTensors:
    """Listens to one execution context of the vendor's module `trt`.

    Args:
        wanted: names of the tensors to hand over, each once; the engine knows more.
        sink: receives name and array.

    Attributes:
        given: names that were handed over.

    Raises:
        EngineError: the context takes no listener.
    """

    def __init__(self, trt: Any, context: Any, wanted: Collection[str], sink: Sink) -> None:
        self._trt, self._wanted, self._sink = trt, set(wanted), sink
        self._error: Exception | None = None
        self.given: set[str] = set()
        self._listener = _listener(trt, self._take)  # the context keeps no reference that Python counts
        if not context.set_debug_listener(self._listener):
            raise EngineError("debug tensors", "the engine takes no listener", "build the plan with --debug-tensors")
        context.unfused_tensors_debug_state = True

    def check(self) -> None:
        """Raise what went wrong in a call: an exception can't pass through the vendor's library."""
        if self._error is not None:
            raise self._error

    def _take(self, address: Any, location: Any, kind: Any, shape: Any, name: str, stream: Any) -> bool:
        if name not in self._wanted or name in self.given or self._error is not None:
            return True
        try:
            on_device = location == self._trt.TensorLocation.DEVICE
            array = array_at(pointer(address), of_tensorrt(kind.name.lower()), tuple(shape), int(stream), on_device)
            if array is not None:
                self._sink(name, array)
                self.given.add(name)
        except Exception as error:  # raised again by `check`
            self._error = error
        return True


def pointer(address: Any) -> int:
    """The number in what the bindings call a pointer: an integer, or a PyCapsule."""
    if isinstance(address, int):
        return address
    python = ctypes.pythonapi
    python.PyCapsule_GetName.restype, python.PyCapsule_GetName.argtypes = ctypes.c_char_p, [ctypes.py_object]
    python.PyCapsule_GetPointer.restype = ctypes.c_void_p
    python.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    return python.PyCapsule_GetPointer(address, python.PyCapsule_GetName(address)) or 0


def array_at(address: int, dtype: str, shape: tuple[int, ...], stream: int, on_device: bool) -> Array | None:
    """A copy of the tensor at an address, types that numpy lacks as float32; None for types that PyTorch has not.

    Args:
        stream: the CUDA stream that writes it.
        on_device: in the GPU's memory, else in the host's.
    """
    if dtype not in _TYPES:
        return None
    if math.prod(shape) == 0:
        return np.empty(shape, np.dtype(array_name(dtype)))
    if on_device:
        return _from_device(address, dtype, shape, stream)
    kind = FLOATS[dtype].numpy if dtype in FLOATS else np.dtype(_TYPES[dtype])
    held = (ctypes.c_char * (math.prod(shape) * kind.itemsize)).from_address(address)
    stored: Array = np.frombuffer(bytes(held), kind).reshape(shape)
    return stored.astype(np.dtype(array_name(dtype)), copy=False)


def _from_device(address: int, dtype: str, shape: tuple[int, ...], stream: int) -> Array:
    import torch

    class Described:
        """Memory as the CUDA array interface describes it."""

        __cuda_array_interface__ = {  # noqa: RUF012
            "shape": shape, "typestr": _TYPES[dtype], "data": (address, False), "strides": None, "version": 3,
        }  # fmt: skip

    with torch.cuda.stream(torch.cuda.ExternalStream(stream)):  # type: ignore[no-untyped-call]
        tensor = torch.as_tensor(Described(), device="cuda")
        host = tensor.cpu() if array_name(dtype) == dtype else tensor.view(FLOATS[dtype].torch).float().cpu()
        torch.cuda.current_stream().synchronize()
    array: Array = host.numpy()
    return array


def _listener(trt: Any, take: _Take) -> Any:
    class Listener(trt.IDebugListener):  # type: ignore[misc]
        """Hands every call on."""

        def __init__(self) -> None:
            trt.IDebugListener.__init__(self)

        def process_debug_tensor(self, addr: Any, location: Any, type: Any, shape: Any, name: str, stream: Any) -> bool:
            return take(addr, location, type, shape, name, stream)

    return Listener()
