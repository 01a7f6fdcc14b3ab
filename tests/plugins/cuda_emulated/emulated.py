"""The emulated CUDA norms on numpy arrays: layouts, device memory with guards, and one call that checks the rest."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from normexport.plugins import kernels
from normexport.plugins.cuda import LAYOUTS
from normexport.plugins.kernels import kind_numbers
from tests.plugins.cuda_emulated import emulation_build

KINDS = kind_numbers()
#: float64 is the CPU's alone.
TYPES = {name: number for name, number in kernels.TYPES.items() if name != "float64"}
DTYPES = {name: np.dtype(getattr(ml_dtypes, name, None) or name) for name in TYPES}

#: Lanes of padding hold this; a kernel that reads one shows it in its statistics.
PADDING = {"float32": np.nan, "float16": np.nan, "bfloat16": np.nan, "int8": 113}


@dataclass(frozen=True)
class Device:
    """What the emulation pretends to be."""

    compute_capability: int
    multiprocessors: int
    shared_memory: int


TURING = Device(75, 40, 64 * 1024)
AMPERE = Device(80, 108, 163 * 1024)
HOPPER = Device(90, 132, 227 * 1024)


@dataclass(frozen=True)
class Norm:
    """One call. pad: elements between one sample and the next beyond what the layout needs, of x and of y."""

    kind: str
    type: str
    layout: str = "LINEAR"
    instance: bool = False
    k: int = 3
    chunks: int = 4
    epsilon: float = 1e-5
    correction: float = 0.0
    pad: tuple[int, int] = (0, 0)


def lanes(layout: str, channels: int) -> int:
    """v of the address formula in kernels.h."""
    rounded = {"HWC8": 8, "HWC16": 16}.get(layout)
    if rounded:
        return -(-channels // rounded) * rounded
    return {"LINEAR": 1, "CHW2": 2, "CHW4": 4, "CHW32": 32, "HWC": channels}[layout]


def sample_elements(layout: str, channels: int, space: int) -> int:
    v = lanes(layout, channels)
    return -(-channels // v) * v * space


def addresses(layout: str, shape: tuple[int, ...], stride: int) -> NDArray[np.int64]:
    """(N, C, S): where each element lies, ((n*Cb + c/v)*S + p)*v + c%v, samples `stride` elements apart."""
    n, c, p = np.ogrid[: shape[0], : shape[1], : shape[2]]
    v = lanes(layout, shape[1])
    return np.asarray(n * stride + (c // v * shape[2] + p) * v + c % v)


@cache
def library() -> ctypes.CDLL:
    """The emulated kernels, built when needed."""
    return open_library(emulation_build.build("normexport_emulated"))


def open_library(path: Any) -> ctypes.CDLL:
    loaded = ctypes.CDLL(str(path))
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    loaded.nx_emu_alloc.argtypes, loaded.nx_emu_alloc.restype = [size], pointer
    loaded.nx_emu_on_device.argtypes, loaded.nx_emu_on_device.restype = [pointer], pointer
    loaded.nx_emu_free.argtypes = [pointer]
    loaded.nx_emu_error.restype = loaded.nx_emu_launches.restype = ctypes.c_char_p
    loaded.nx_emu_set_seed.argtypes = [ctypes.c_uint64]
    loaded.nx_message.restype = ctypes.c_char_p
    loaded.nx_cuda_workspace.argtypes, loaded.nx_cuda_workspace.restype = [ctypes.POINTER(kernels.NxNorm)], size
    loaded.nx_cuda_norm.argtypes = [ctypes.POINTER(kernels.NxNorm), *[pointer] * 5, size, pointer]
    return loaded


class Buffer:
    """Device memory, `offset` elements off its alignment; free() says whether something wrote beside it."""

    def __init__(self, lib: ctypes.CDLL, elements: int, dtype: Any, offset: int = 0) -> None:
        self._lib, self._whole = lib, lib.nx_emu_alloc((elements + offset) * dtype.itemsize)
        self._offset, self.bytes = offset * dtype.itemsize, elements * dtype.itemsize
        raw = np.ctypeslib.as_array((ctypes.c_uint8 * self.bytes).from_address(self._whole + self._offset))
        self.array = raw.view(dtype) if elements else np.empty(0, dtype)

    def on_device(self) -> int:
        """The address for a kernel, with what `array` holds now."""
        return int(self._lib.nx_emu_on_device(self._whole)) + self._offset

    def free(self) -> bool:
        return self._lib.nx_emu_free(self._whole) == 0


@dataclass(frozen=True)
class Result:
    """status: NxStatus; y (N, C, S); launches: the kernels' names and how many of their blocks ran together."""

    status: int
    y: NDArray[Any]
    message: str
    launches: tuple[str, ...]


def struct(norm: Norm, shape: tuple[int, ...]) -> kernels.NxNorm:
    """norm for x of `shape` (N, C, S)."""
    sample = sample_elements(norm.layout, shape[1], shape[2])
    strides = [sample + pad if pad else 0 for pad in norm.pad]
    return kernels.NxNorm(
        KINDS[norm.kind], TYPES[norm.type], LAYOUTS[norm.layout], norm.instance, *shape, *strides,
        norm.k, norm.chunks, norm.epsilon, norm.correction,
    )  # fmt: skip


def run(
    norm: Norm,
    x: NDArray[Any],
    scale: NDArray[np.float32],
    bias: NDArray[np.float32],
    *,
    device: Device = HOPPER,
    seed: int = 0,
    in_place: bool = False,
    offset: int = 0,
    lib: ctypes.CDLL | None = None,
) -> Result:
    """y for x (N, C, S) of the norm's dtype.

    Asserts what holds of every call: nothing is written beside the buffers, pad lanes come out zero, gaps between
    samples, x, scale and bias are left alone.
    """
    lib = lib or library()
    lib.nx_emu_set_device(device.compute_capability, device.multiprocessors, device.shared_memory)
    lib.nx_emu_set_seed(seed)
    lib.nx_emu_clear()
    dtype, sample = DTYPES[norm.type], sample_elements(norm.layout, *x.shape[1:])
    norm = replace(norm, pad=(norm.pad[0], norm.pad[0])) if in_place else norm
    described = struct(norm, x.shape)
    spans = [max(0, x.shape[0] * (sample + pad) - pad) if x.size else 0 for pad in norm.pad]
    source = Buffer(lib, spans[0], dtype, offset)
    source.array[:] = PADDING[norm.type]
    where = addresses(norm.layout, x.shape, sample + norm.pad[0])
    source.array[where] = x
    before = source.array.tobytes()
    target = source if in_place else Buffer(lib, spans[1], dtype, offset)
    gaps = np.ones(spans[1], bool)
    for n in range(x.shape[0] if x.size else 0):
        gaps[n * (sample + norm.pad[1]) :][:sample] = False
    gap_bytes = target.array[gaps].tobytes()
    vectors = [Buffer(lib, len(each), np.dtype(np.float32)) for each in (scale, bias)]
    for buffer, each in zip(vectors, (scale, bias), strict=True):
        buffer.array[:] = each
    room = Buffer(lib, lib.nx_cuda_workspace(ctypes.byref(described)), np.dtype(np.uint8))
    status = lib.nx_cuda_norm(
        ctypes.byref(described), source.on_device(), vectors[0].on_device(), vectors[1].on_device(),
        target.on_device(), room.on_device() if room.bytes else None, room.bytes, None,
    )  # fmt: skip
    message = lib.nx_emu_error().decode() or lib.nx_message(status).decode()
    launches = tuple(lib.nx_emu_launches().decode().splitlines())
    y_where = addresses(norm.layout, x.shape, sample + norm.pad[1])
    y = target.array[y_where].copy()
    if status == 0:
        lanes_of_padding = ~gaps
        lanes_of_padding[y_where] = False
        assert not np.frombuffer(target.array[lanes_of_padding].tobytes(), np.uint8).any(), f"{norm}: padding not zero"
        assert target.array[gaps].tobytes() == gap_bytes, f"{norm}: wrote between samples"
        assert in_place or source.array.tobytes() == before, f"{norm}: x was changed"
        for buffer, each in zip(vectors, (scale, bias), strict=True):
            np.testing.assert_array_equal(buffer.array, each)
    buffers = [source, *vectors, room] + ([] if in_place else [target])
    intact = [buffer.free() for buffer in buffers]
    assert all(intact), f"{norm}: wrote beyond a buffer"
    return Result(status, y, message, launches)
