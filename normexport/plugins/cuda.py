"""The compiled CUDA kernels through ctypes: a call by device pointers, on a stream."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_int32, c_size_t, c_void_p
from functools import cache
from pathlib import Path

from normexport.errors import MissingComponent, UsageError
from normexport.plugins.kernels import ABI_VERSION, NxNorm
from normexport.plugins.locate import require

#: Numbers of the memory layouts in the C interface, by name.
LAYOUTS = {"LINEAR": 0, "CHW2": 1, "CHW4": 2, "CHW32": 3, "HWC": 4, "HWC8": 5, "HWC16": 6}

_NO_DEVICE, _REFUSED = 7, 8
_REMEDY = "run: normexport plugins build --cuda"


class CudaKernels:
    """A loaded library of CUDA kernels; the CUDA runtime is inside it, and works on the process's current device.

    Raises:
        MissingComponent: it can't be loaded, or was built from another version of the C interface.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._library = ctypes.CDLL(str(path))
            version = self._library.nx_abi_version()
            self._library.nx_message.argtypes, self._library.nx_message.restype = [c_int32], c_char_p
            self._library.nx_cuda_workspace.argtypes = [POINTER(NxNorm)]
            self._library.nx_cuda_workspace.restype = c_size_t
            self._library.nx_cuda_norm.argtypes = [POINTER(NxNorm), *[c_void_p] * 5, c_size_t, c_void_p]
        except (OSError, AttributeError) as error:  # AttributeError: a symbol is missing
            raise MissingComponent(str(path), f"can't be loaded as the CUDA kernels ({error})", _REMEDY) from None
        if version != ABI_VERSION:
            raise MissingComponent(
                str(path), f"speaks version {version} of the C interface, normexport version {ABI_VERSION}", _REMEDY
            )

    def workspace(self, norm: NxNorm) -> int:
        """Bytes of device memory, aligned to 256, that `run` needs; 0 for none."""
        return int(self._library.nx_cuda_workspace(ctypes.byref(norm)))

    def status(
        self, norm: NxNorm, x: int, scale: int, bias: int, y: int, workspace: int | None, size: int, stream: int
    ) -> int:
        """Enqueue y on `stream` and return the status. The arguments are device addresses; see nx_cuda_norm."""
        return int(self._library.nx_cuda_norm(ctypes.byref(norm), x, scale, bias, y, workspace, size, stream))

    def run(
        self, norm: NxNorm, x: int, scale: int, bias: int, y: int, workspace: int | None, size: int, stream: int
    ) -> None:
        """`status`, with an error for every status but success.

        Raises:
            UsageError: the norm can't be computed as asked.
            MissingComponent: there is no usable GPU, or CUDA refused the launch.
        """
        status = self.status(norm, x, scale, bias, y, workspace, size, stream)
        if status in (_NO_DEVICE, _REFUSED):
            raise MissingComponent("CUDA kernels", self.message(status))
        if status:
            raise UsageError("CUDA kernels", self.message(status))

    def message(self, status: int) -> str:
        """What a status means and what to do."""
        return str(self._library.nx_message(status).decode())


@cache
def load() -> CudaKernels:
    """The CUDA kernels of this installation.

    Raises:
        MissingComponent: they are not built, can't be loaded, or are of another version.
    """
    return CudaKernels(require("cuda"))
