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
from normexport.runtime.gpu_memory import GpuMemory

#: Types of tensors that are handed over.
_TYPES = (FLOAT32.name, *HALVES, "int64", "int32", "int8", "uint8", "bool")

_Take = Callable[[Any, Any, Any, Any, str, Any], bool]


class DebugTensors:
    """Listens to one execution context of the vendor's module `trt`.

    Args:
        memory: where tensors of the engine lie.
        wanted: names of the tensors to hand over, each once; the engine knows more.
        sink: receives name and array.

    Attributes:
        given: names that were handed over.

    Raises:
        EngineError: the context takes no listener.
    """

    def __init__(self, trt: Any, context: Any, memory: GpuMemory, wanted: Collection[str], sink: Sink) -> None:
        self._trt, self._memory, self._wanted, self._sink = trt, memory, set(wanted), sink
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
            found = pointer(address), tuple(shape), of_tensorrt(kind.name.lower())
            array = array_at(*found, int(stream), self._memory if on_device else None)
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


def array_at(address: int, shape: tuple[int, ...], dtype: str, stream: int, memory: GpuMemory | None) -> Array | None:
    """A copy of the tensor at an address, types that numpy lacks as float32; None for types that no tensor has.

    Args:
        stream: the CUDA stream that writes it.
        memory: the GPU's, where it lies in that; None: it lies in the host's.
    """
    if dtype not in _TYPES:
        return None
    if math.prod(shape) == 0:
        return np.empty(shape, np.dtype(array_name(dtype)))
    if memory is not None:
        return memory.read(address, shape, dtype, stream)
    kind = FLOATS[dtype].numpy if dtype in FLOATS else np.dtype(dtype)
    held = (ctypes.c_char * (math.prod(shape) * kind.itemsize)).from_address(address)
    stored: Array = np.frombuffer(bytes(held), kind).reshape(shape)
    return stored.astype(np.dtype(array_name(dtype)), copy=False)


def _listener(trt: Any, take: _Take) -> Any:
    class Listener(trt.IDebugListener):  # type: ignore[misc]  # trt is Any: TensorRT may be missing
        """Hands every call on."""

        def __init__(self) -> None:
            trt.IDebugListener.__init__(self)

        def process_debug_tensor(self, addr: Any, location: Any, type: Any, shape: Any, name: str, stream: Any) -> bool:
            return take(addr, location, type, shape, name, stream)

    return Listener()
