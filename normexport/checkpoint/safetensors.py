"""The tensors of a safetensors file, read without a library of others: nothing in such a file can run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from normexport.dtypes import BFLOAT16
from normexport.errors import CheckpointError
from normexport.io.opening import open_regular
from normexport.io.safetensors_files import BadSafetensors, StoredTensor, read_header

_DTYPES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32", "I32": "int32",
    "U64": "uint64", "I64": "int64", "F16": "float16", "BF16": BFLOAT16.name, "F32": "float32", "F64": "float64",
    "C64": "complex64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
}  # fmt: skip


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Name -> tensor on the CPU, in its own type, in the order of the header.

    Raises:
        CheckpointError: it can't be read, is damaged, or holds a type that PyTorch does not have.
    """
    try:
        with open_regular(path) as file:
            return {name: _read(file, stored) for name, stored in read_header(file).tensors.items()}
    except BadSafetensors as error:
        cause = str(error) if error.remedy else f"is damaged ({error})"
        raise CheckpointError(str(path), cause, error.remedy or "copy or download it again") from error
    except OSError as error:
        cause = f"can't be read ({error.strerror or error})"
        raise CheckpointError(str(path), cause, "check its permissions") from error


def _read(file: BinaryIO, stored: StoredTensor) -> Tensor:
    memory = torch.empty(stored.end - stored.begin, dtype=torch.uint8)
    file.seek(stored.begin)
    if file.readinto(memory.numpy()) != memory.numel():  # type: ignore[attr-defined]  # BinaryIO lacks it
        raise BadSafetensors("it is cut short")
    dtype = getattr(torch, _DTYPES[stored.dtype])
    if dtype == torch.bool:
        return memory.ne(0).reshape(stored.shape)  # a byte of 2 would be no bool
    if sys.byteorder == "big":
        size = 4 if dtype.is_complex else dtype.itemsize
        memory.numpy().view(f"u{size}").byteswap(inplace=True)
    return memory.view(dtype).reshape(stored.shape)
