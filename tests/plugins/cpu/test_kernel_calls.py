"""Calls that can't be served: a status from C, an error with a remedy from Python."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from normexport import plugins
from normexport.errors import MissingComponent, UsageError
from normexport.plugins import kernels, norm_call
from tests.plugins.cpu.kernel_cases import case, needs_library

pytestmark = needs_library

OK, BAD_ARGUMENT, BAD_K, BAD_CHUNKS, UNSUPPORTED, WORKSPACE, TOO_LARGE = range(7)


def described(**changes: int) -> kernels.NxNorm:
    fields = {"kind": 0, "type": 0, "batch": 2, "channels": 3, "space": 5, "k": 1, "chunks": 1, "epsilon": 1e-5}
    return kernels.NxNorm(**{**fields, **changes})


class Call:
    """nx_cpu_norm with good arguments, any of which may be replaced."""

    def __init__(self, norm: kernels.NxNorm) -> None:
        self.library = ctypes.CDLL(str(plugins.require("kernels")))
        self.library.nx_cpu_workspace.restype = ctypes.c_size_t
        self.library.nx_cpu_norm.argtypes = [ctypes.c_void_p] * 6 + [ctypes.c_size_t, ctypes.c_void_p]
        self.norm, self.bytes = norm, self.library.nx_cpu_workspace(ctypes.byref(norm))
        self.x, self.y = np.ones((2, 3, 9000)), np.zeros((2, 3, 9000))
        self.vector, raw = np.ones(3), np.zeros(self.bytes + 512, np.uint8)
        self.raw, self.workspace = raw, (raw.ctypes.data + 255) // 256 * 256

    def __call__(self, **changed: Any) -> int:
        plain = {name: getattr(self, name).ctypes.data for name in ("x", "y")}
        plain |= {
            "scale": self.vector.ctypes.data,
            "bias": self.vector.ctypes.data,
            "norm": ctypes.addressof(self.norm),
        }
        at = {**plain, "workspace": self.workspace, "size": self.bytes, **changed}
        names = ("norm", "x", "scale", "bias", "y", "workspace", "size")
        return self.library.nx_cpu_norm(*(at[name] for name in names), None)


@pytest.mark.parametrize("pointer", ["norm", "x", "scale", "bias", "y"])
def test_a_null_pointer_is_a_bad_argument(pointer: str) -> None:
    call = Call(described())
    assert call() == OK
    assert call(**{pointer: None}) == BAD_ARGUMENT


@pytest.mark.parametrize(
    ("status", "changes"),
    [
        (BAD_ARGUMENT, {"kind": 5}),
        (BAD_ARGUMENT, {"type": 9}),
        (BAD_ARGUMENT, {"instance": 2}),
        (BAD_ARGUMENT, {"space": -1}),
        (BAD_ARGUMENT, {"x_stride": 14}),
        (BAD_K, {"kind": 2, "k": 0}),
        (BAD_K, {"kind": 2, "k": 11}),
        (BAD_K, {"kind": 2, "k": 6, "instance": 1}),
        (BAD_CHUNKS, {"kind": 3, "chunks": 0}),
        (UNSUPPORTED, {"layout": 3}),
        (TOO_LARGE, {"type": 3, "batch": 1 << 20, "space": 1 << 11}),
        (TOO_LARGE, {"batch": 1 << 40, "space": 1 << 40}),
    ],
)
def test_what_can_not_be_computed_is_a_status(status: int, changes: dict[str, Any]) -> None:
    assert Call(described(**changes))() == status


def test_a_workspace_that_is_null_small_or_unaligned_is_refused() -> None:
    call = Call(described(kind=2, space=9000, k=3))
    assert call.bytes > 0
    assert call() == OK
    assert call(workspace=None) == WORKSPACE
    assert call(size=call.bytes - 1) == WORKSPACE
    assert call(workspace=call.workspace + 8) == WORKSPACE


def test_an_empty_tensor_needs_no_pointers() -> None:
    for empty in ({"batch": 0}, {"channels": 0}, {"space": 0}):
        assert Call(described(**empty))(x=None, y=None, scale=None, bias=None) == OK


def test_the_struct_is_that_of_the_header() -> None:
    library = ctypes.CDLL(str(plugins.require("kernels")))
    assert library.nx_norm_size() == ctypes.sizeof(kernels.NxNorm) == 88


@pytest.mark.parametrize(
    ("cause", "change"),
    [
        ("no norm kind|not a norm kind", {"kind": "l3"}),
        ("no channel axis", {"x": np.zeros(3, np.float32)}),
        ("x is int32", {"x": np.zeros((2, 3, 5), np.int32)}),
        ("x is a list", {"x": [[1.0]]}),
        ("not contiguous", {"x": np.zeros((2, 5, 3), np.float32).transpose(0, 2, 1)}),
        ("run backwards", {"x": np.zeros((2, 3, 5), np.float32)[::-1]}),
        ("overlap", {"x": np.lib.stride_tricks.as_strided(np.zeros(99, np.float32), (2, 3, 5), (40, 20, 4))}),
        ("byte order", {"x": np.zeros((2, 3, 5), ">f4")}),
        ("not aligned", {"x": np.zeros(121, np.int8)[1:].view(np.float32).reshape(2, 3, 5)}),
        ("3 channels", {"scale": np.ones(4, np.float32)}),
        ("different libraries", {"bias": torch.ones(3)}),
        ("out is", {"out": np.zeros((2, 3, 6), np.float32)}),
        ("out is", {"out": np.zeros((2, 3, 5), np.float64)}),
        ("threads = 0", {"threads": 0}),
        ("1 <= k <= elements", {"kind": "topk", "k": 11}),
        ("chunks >= 1", {"kind": "range", "chunks": 0}),
    ],
)
def test_a_wrong_call_says_what_is_wrong(cause: str, change: dict[str, Any]) -> None:
    x, scale, bias = case((2, 3, 5), "float32")
    arguments = {"kind": "l1", "x": x, "scale": scale, "bias": bias, **change}
    with pytest.raises(UsageError, match=cause):
        norm_call.norm(**arguments)


def test_a_read_only_out_is_refused() -> None:
    x, scale, bias = case((2, 3, 5), "float32")
    out = np.zeros_like(x)
    out.flags.writeable = False
    with pytest.raises(UsageError, match="read-only"):
        norm_call.norm("l1", x, scale, bias, out=out)


def test_tensors_elsewhere_are_refused() -> None:
    one = torch.ones(3)
    with pytest.raises(UsageError, match="on meta"):
        norm_call.norm("l1", torch.ones(2, 3, 5, device="meta"), one, one)
    with pytest.raises(UsageError, match="no plain dense"):
        norm_call.norm("l1", torch.ones(2, 3).to_sparse(), one, one)


def test_a_tensor_gives_a_tensor_of_the_same_values() -> None:
    x, scale, bias = case((2, 3, 5), "float32")
    y = norm_call.norm("l1", *map(torch.from_numpy, (x, scale, bias)))
    assert isinstance(y, torch.Tensor)
    assert np.array_equal(y.numpy(), norm_call.norm("l1", x, scale, bias))
    every_second = torch.from_numpy(x).repeat_interleave(2, 0)[::2]
    assert torch.equal(norm_call.norm("l1", every_second, *map(torch.from_numpy, (scale, bias))), y)


def test_a_missing_or_foreign_library_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = plugins.require("kernels").parent
    monkeypatch.setenv("NORMEXPORT_PLUGIN_DIR", str(tmp_path))
    kernels.load.cache_clear()
    try:
        with pytest.raises(MissingComponent, match="normexport plugins build"):
            norm_call.target()
        (tmp_path / "libnormexport_kernels.so").write_text("not a library")
        with pytest.raises(MissingComponent, match=r"can't be loaded.*normexport plugins build"):
            norm_call.target()
        monkeypatch.setattr(kernels, "ABI_VERSION", 3)
        monkeypatch.setenv("NORMEXPORT_PLUGIN_DIR", str(good))
        with pytest.raises(MissingComponent, match=r"speaks version 2.*normexport plugins build"):
            norm_call.target()
    finally:
        kernels.load.cache_clear()
