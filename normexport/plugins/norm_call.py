"""The live norms by the compiled kernels, on numpy arrays and on torch tensors of the CPU.

    from normexport.plugins.norm_call import norm
    y = norm("l1", x, scale, bias)

Importing this module loads neither torch nor the library; the first call loads the library.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np

from normexport.errors import UsageError
from normexport.norms import CHUNKS_DEFAULT, EPSILON_DEFAULT, K_DEFAULT, Scope, require_groups
from normexport.plugins.kernels import TYPES, NxNorm, default_threads, load, number_of

_T = TypeVar("_T")
_V = TypeVar("_V")
_PLACE = "norm"


def norm(
    kind: str,
    x: _T,
    scale: _V,
    bias: _V,
    *,
    epsilon: float = EPSILON_DEFAULT,
    scope: Scope = Scope.BATCH,
    num_groups: int = 1,
    k: int = K_DEFAULT,
    chunks: int = CHUNKS_DEFAULT,
    correction: float = 0.0,
    out: _T | None = None,
    threads: int | None = None,
) -> _T:
    """`y = scale * d / (stat + epsilon) + bias` with `d = x - mean` and the statistics of x, like `norms.reference`.

    x (N, C, *space): a numpy array or a torch tensor on the CPU, float32, float16, bfloat16 (numpy: of ml_dtypes) or
    float64; every sample contiguous, samples any distance apart. scale, bias (C,), converted to float32 (float64 for
    float64 x). Statistics over what `scope` says, of `num_groups` groups where that is the group; `correction` 0.0 is
    the kind's own constant. No gradient is recorded.

    int8 x is the integer norm, `norms.quantized_reference`: scale, bias and epsilon in units of the quantised
    tensors.

    Args:
        out: where y goes; like x, and x itself is allowed. None: a new array or tensor.
        threads: how many to compute on; None: OMP_NUM_THREADS or all processors, for tensors torch's own number.

    Returns:
        y, of the shape, type and library of x; `out` where given.

    Raises:
        UsageError: an unknown kind, a type, shape or memory layout that the kernels do not take, k > elements,
            a `num_groups` that does not divide C.
        MissingComponent: no kernel computes that kind, or the library is not built or of another version.
    """
    number = number_of(kind)
    source = _memory("x", x)
    if len(source.shape) < 2:
        raise UsageError(_PLACE, f"x has shape {source.shape} and so no channel axis", "pass (N, C, *space)")
    if scope is Scope.GROUP:
        require_groups(source.shape[1], num_groups)
    factors, shifts = _vector("scale", scale, source), _vector("bias", bias, source)
    y = cast(Any, x).new_empty(source.shape) if source.torch else np.empty(source.shape, cast(Any, x).dtype)
    result = y if out is None else out
    target = _memory("out", result)
    if (target.shape, target.type, target.torch) != (source.shape, source.type, source.torch):
        raise UsageError(_PLACE, f"out is {target} where x is {source}", "pass an out like x")
    if isinstance(result, np.ndarray) and not result.flags.writeable:
        raise UsageError(_PLACE, "out is read-only", "pass a writable array")
    described = NxNorm(
        kind=number,
        type=TYPES[source.type],
        instance=scope.is_instance,
        batch=source.shape[0],
        channels=source.shape[1],
        space=int(np.prod(source.shape[2:], dtype=np.int64)),
        x_stride=source.stride,
        y_stride=target.stride,
        k=k,
        chunks=chunks,
        epsilon=epsilon,
        correction=correction,
        num_groups=num_groups if scope is Scope.GROUP else 0,
    )
    if threads is None:
        threads = sys.modules["torch"].get_num_threads() if source.torch else default_threads()
    if threads < 1:
        raise UsageError(_PLACE, f"threads = {threads}", "ask for at least 1")
    load().run(described, source.address, _address(factors), _address(shifts), target.address, threads)
    return cast(_T, result)


def target() -> str:
    """The instruction set that the library chose: AVX3_DL, AVX3, AVX2 or SSE2; NEON on ARM.

    Raises:
        MissingComponent: the library is not built, or is of another version.
    """
    return load().target


@dataclass(frozen=True)
class _Memory:
    """Where the elements of an array or a tensor lie; stride: elements from sample to sample, 0 for packed."""

    shape: tuple[int, ...]
    type: str
    address: int
    stride: int
    torch: bool

    def __str__(self) -> str:
        return f"{self.type}{list(self.shape)}"


def _memory(name: str, value: Any) -> _Memory:
    if _is_tensor(value):
        return _tensor_memory(name, value)
    if not isinstance(value, np.ndarray):
        raise UsageError(_PLACE, f"{name} is a {type(value).__name__}", "pass a numpy array or a torch tensor")
    if not value.dtype.isnative:
        raise UsageError(_PLACE, f"{name} is of foreign byte order", "pass x.astype(x.dtype.newbyteorder('='))")
    size = value.itemsize
    strides = [each // size if each % size == 0 else -1 for each in value.strides]
    stride = _sample_stride(name, value.shape, strides, "numpy.ascontiguousarray")
    if value.ctypes.data % size:
        raise UsageError(_PLACE, f"{name} is not aligned to its elements", "copy it first: x.copy()")
    return _Memory(value.shape, _require_known_dtype(name, value.dtype.name), value.ctypes.data, stride, False)


def _tensor_memory(name: str, value: Any) -> _Memory:
    if value.device.type != "cpu":
        raise UsageError(_PLACE, f"{name} is on {value.device}", "pass a tensor on the CPU")
    if str(value.layout) != "torch.strided" or value.is_conj() or value.is_neg():
        raise UsageError(_PLACE, f"{name} is no plain dense tensor", "pass x.to_dense().resolve_neg()")
    stride = _sample_stride(name, tuple(value.shape), list(value.stride()), "x.contiguous()")
    return _Memory(tuple(value.shape), _require_known_dtype(name, str(value.dtype)[6:]), value.data_ptr(), stride, True)


def _sample_stride(name: str, shape: tuple[int, ...], strides: list[int], remedy: str) -> int:
    """Elements from one sample to the next, 0 for packed; refuses what the kernels can't address."""
    if 0 in shape:
        return 0
    packed = 1
    for size, stride in reversed(list(zip(shape[1:], strides[1:], strict=True))):
        if size > 1 and stride != packed:
            raise UsageError(_PLACE, f"a sample of {name} is not contiguous in memory", f"pass {remedy} of it")
        packed *= size
    if not shape or shape[0] <= 1 or strides[0] == packed:
        return 0
    if strides[0] < packed:
        raise UsageError(_PLACE, f"samples of {name} overlap in memory or run backwards", f"pass {remedy} of it")
    return strides[0]


def _require_known_dtype(name: str, dtype: str) -> str:
    if dtype not in TYPES:
        raise UsageError(_PLACE, f"{name} is {dtype}", f"pass one of {', '.join(TYPES)}")
    return dtype


def _vector(name: str, value: Any, x: _Memory) -> Any:
    """scale or bias, contiguous, in the type that the kernels read it in."""
    wide = "float64" if x.type == "float64" else "float32"
    if _is_tensor(value) != x.torch:
        raise UsageError(_PLACE, f"{name} and x are of different libraries", "pass both as arrays or both as tensors")
    if tuple(value.shape) != x.shape[1:2]:
        raise UsageError(
            _PLACE,
            f"{name} has shape {tuple(value.shape)} where x has {x.shape[1]} channels on axis 1",
            f"pass {name} of shape ({x.shape[1]},)",
        )
    if x.torch:
        if value.device.type != "cpu":
            raise UsageError(_PLACE, f"{name} is on {value.device}", "pass a tensor on the CPU")
        return value.detach().to(getattr(sys.modules["torch"], wide)).contiguous()
    return np.ascontiguousarray(value, dtype=wide)


def _address(vector: Any) -> int:
    return int(vector.data_ptr() if _is_tensor(vector) else vector.ctypes.data)


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)
