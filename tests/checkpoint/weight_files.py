"""Files of weights as others write them, byte by byte: safetensors, indexes of several files, folders."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_TYPES = {
    torch.float32: "F32", torch.float64: "F64", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL", torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
}  # fmt: skip


def raw(value: Tensor) -> bytes:
    """The bytes of a tensor, little-endian, in the order of its elements."""
    flat = value.detach().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def described(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], bytes]:
    """The header of a safetensors file, without its metadata, and the bytes that follow it."""
    header, data = {}, b""
    for name, value in state.items():
        content = raw(value)
        places = [len(data), len(data) + len(content)]
        header[name] = {"dtype": _TYPES[value.dtype], "shape": list(value.shape), "data_offsets": places}
        data += content
    return header, data


def packed(header: Any, data: bytes) -> bytes:
    """A safetensors file of a header, as an object or as text, and what follows it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def write_safetensors(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Path:
    """A safetensors file as Hugging Face's library writes it."""
    header, data = described(state)
    path.write_bytes(packed({"__metadata__": dict(metadata or {"format": "pt"}), **header}, data))
    return path


def write_shards(
    folder: Path, state: Mapping[str, Tensor], write: Callable[[Path, dict[str, Tensor]], object], suffix: str
) -> Path:
    """Two files of weights and their index, whose path is returned; Hugging Face's names of them."""
    folder.mkdir(exist_ok=True)
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    names = list(state)
    homes: dict[str, str] = {}
    for number, part in enumerate((names[:3], names[3:]), 1):
        shard = f"{stem}-{number:05d}-of-00002.{suffix}"
        write(folder / shard, {name: state[name] for name in part})
        homes |= dict.fromkeys(part, shard)
    index = folder / f"{stem}.{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": homes}))
    return index


def change_index(index: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the map of an index, name of tensor -> name of file, in place."""
    document = json.loads(index.read_text())
    change(document["weight_map"])
    index.write_text(json.dumps(document))
