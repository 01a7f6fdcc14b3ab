"""Weights and constants of an archive: raw numbers, read by us within the archive's own size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from normexport.checkpoint.pt2.archive import ProgramArchive
from normexport.checkpoint.pt2.refusal import Damaged, WouldRun
from normexport.io.limits import memory_allowance

#: `torch._export.serde.schema.ScalarType`.
DTYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16, 7: torch.float32,
    8: torch.float64, 10: torch.complex64, 11: torch.complex128, 12: torch.bool, 13: torch.bfloat16, 28: torch.uint16,
    29: torch.float8_e4m3fn, 30: torch.float8_e5m2, 31: torch.float8_e4m3fnuz, 32: torch.float8_e5m2fnuz,
    34: torch.uint32, 35: torch.uint64,
}  # fmt: skip
_STRIDED = 7


def read_tensors(archive: ProgramArchive, folder: str, table: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of `folder` by name, as `plain_payloads` describes them; those of one file share its memory.

    Raises:
        WouldRun: one is stored as a pickle.
        Damaged: one has no numbers, lies outside its file, or all claim more than the archive's size allows.
    """
    _require_room(table, memory_allowance(archive.size))
    memory: dict[str, Tensor] = {}
    tensors = {}
    for name, payload in table.items():
        file = payload["path_name"]
        if file not in memory:
            memory[file] = _memory(archive, folder + file, name)
        tensor = _view(memory[file], name, payload["tensor_meta"])
        floating = tensor.is_floating_point() or tensor.is_complex()
        wants = bool(payload["tensor_meta"]["requires_grad"]) and floating
        tensors[name] = nn.Parameter(tensor, requires_grad=wants) if payload["is_param"] else tensor
    return tensors


def shape_of(name: str, described: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """Shape, strides and offset (elements) of a stored tensor.

    Raises:
        Damaged: one is no number, or negative.
    """
    numbers = [*described["sizes"], *described["strides"], described["storage_offset"]]
    plain = [each.get("as_int", -1) for each in numbers]
    rank = len(described["sizes"])
    if min(plain) < 0 or len(plain) != 2 * rank + 1 or rank > 64:
        raise Damaged(f"{name} has no plain shape")
    return tuple(plain[:rank]), tuple(plain[rank : 2 * rank]), plain[-1]


def _require_room(table: Mapping[str, Any], most: int) -> None:
    claimed = 0
    for name, payload in table.items():
        described = payload["tensor_meta"]
        if payload["use_pickle"] or described is None:
            raise WouldRun(f"the pickled constant {name}")
        if described["dtype"] not in DTYPES or described["layout"] != _STRIDED:
            raise Damaged(f"{name} is of a type that holds no plain numbers")
        claimed += math.prod(shape_of(name, described)[0]) * DTYPES[described["dtype"]].itemsize
        if claimed > most:
            raise Damaged(f"its tensors claim more than the {most >> 20} MiB that a file of its size can hold")


def _memory(archive: ProgramArchive, file: str, name: str) -> Tensor:
    size = archive.size_of(file)
    if size is None:
        raise Damaged(f"it has no {file}, the numbers of {name}")
    memory = torch.empty(size, dtype=torch.uint8)
    archive.read_into(file, memory.numpy().data)
    return memory


def _view(memory: Tensor, name: str, described: Mapping[str, Any]) -> Tensor:
    dtype = DTYPES[described["dtype"]]
    shape, strides, offset = shape_of(name, described)
    used = (
        0 if 0 in shape else offset + 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    )
    whole = memory.numel() // dtype.itemsize
    if used > whole or memory.numel() % dtype.itemsize:
        raise Damaged(f"{name} needs {used} numbers, and its file holds {whole}")
    if 0 in shape:
        return torch.empty(shape, dtype=dtype)
    return memory.view(dtype).as_strided(shape, strides, offset)
