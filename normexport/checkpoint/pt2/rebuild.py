"""A new archive from validated values, which PyTorch opens; numbers are put in afterwards.

PyTorch's reader never sees a byte of the untrusted archive. What it opens is written here: the validated program, and
for each tensor a table entry whose file holds a single element that all others repeat (stride 0), so that nothing large
is written or read twice.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from normexport.checkpoint.pt2.archive import CONSTANTS, PROGRAM, SAMPLES, WEIGHTS
from normexport.checkpoint.pt2.refusal import Damaged
from normexport.checkpoint.pt2.tensors import DTYPES, shape_of

_PREFIX = {WEIGHTS: "weight_", CONSTANTS: "tensor_"}
_TABLE = {WEIGHTS: f"{WEIGHTS}model_weights_config.json", CONSTANTS: f"{CONSTANTS}model_constants_config.json"}


def canonical_archive(
    program: Mapping[str, Any], weights: Mapping[str, Any], constants: Mapping[str, Any], samples: bytes
) -> io.BytesIO:
    """An archive as `torch.export.save` writes it, without the numbers of its tensors."""
    buffer = io.BytesIO()
    writer = torch._C.PyTorchFileWriter(buffer)
    for folder, table in ((WEIGHTS, weights), (CONSTANTS, constants)):
        entries = {}
        for index, (name, payload) in enumerate(table.items()):
            file = f"{_PREFIX[folder]}{index}"
            element = bytes(DTYPES[payload["tensor_meta"]["dtype"]].itemsize)
            writer.write_record(folder + file, element, len(element))
            entries[name] = {
                **payload,
                "path_name": file,
                "tensor_meta": _repeat_one_number(name, payload["tensor_meta"]),
            }
        _write(writer, _TABLE[folder], json.dumps({"config": entries}).encode())
    _write(writer, PROGRAM, json.dumps(program, allow_nan=False).encode())
    _write(writer, SAMPLES, samples)
    _write(writer, "archive_format", b"pt2")
    _write(writer, "archive_version", b"0")
    writer.write_end_of_file()
    buffer.seek(0)
    return buffer


def fill_in(program: ExportedProgram, weights: Mapping[str, Tensor], constants: Mapping[str, Tensor]) -> None:
    """Put the tensors in the places of those that repeat one element; in place.

    Raises:
        Damaged: the program's tensors are others.
    """
    for own, tensors in ((program.state_dict, weights), (program.constants, constants)):
        if own.keys() != tensors.keys():
            raise Damaged("its tables and its program name different tensors")
        own.update(tensors)


def _write(writer: Any, name: str, content: bytes) -> None:
    writer.write_record(name, content, len(content))


def _repeat_one_number(name: str, described: Mapping[str, Any]) -> dict[str, Any]:
    shape, _, _ = shape_of(name, described)
    return {**described, "strides": [{"as_int": 0}] * len(shape), "storage_offset": {"as_int": 0}}
