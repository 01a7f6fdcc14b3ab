"""Archives of exported programs taken apart and put together again, for tests that change them."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.checkpoint.support import refused

DYNAMIC = ({0: torch.export.Dim("batch", min=1, max=512), 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO},)


def members_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {info.filename.partition("/")[2]: archive.read(info) for info in archive.infolist()}


def written(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"m/{name}", content)
    return path


def changed_program(source: Path, target: Path, change: Callable[..., Any]) -> Path:
    """The archive with its program's JSON changed in place by `change(program)`."""
    members = members_of(source)
    found = json.loads(members["models/model.json"])
    change(found)
    return written(target, {**members, "models/model.json": json.dumps(found).encode()})


def changed_text(source: Path, target: Path, old: str, new: str) -> Path:
    """The archive with a text of its program's JSON changed, wherever it stands."""
    members = members_of(source)
    text = members["models/model.json"].decode()
    assert old in text
    return written(target, {**members, "models/model.json": text.replace(old, new).encode()})


def opens_in_torch(path: Path) -> None:
    """What PyTorch's own reader makes of it, whatever that is."""
    try:
        torch.export.load(path).module()
    except Exception:  # damaged archives make it raise anything
        return


def would_run(path: Path, marker: Path) -> str:
    message = refused(path)
    assert not marker.exists()
    assert "would run code to be opened: " in message, message
    return message


def damaged(path: Path) -> str:
    message = refused(path)
    assert "is a damaged exported program: " in message or "is truncated or damaged" in message, message
    return message


def pickled(payload: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(payload, buffer)
    return buffer.getvalue()


def config(program: Path, target: Path, **changes: Any) -> Path:
    """The archive with fields of the weight 0.weight changed: of its payload, or of its tensor_meta."""
    members = members_of(program)
    table = json.loads(members["data/weights/model_weights_config.json"])
    entry = table["config"]["0.weight"]
    for name, value in changes.items():
        (entry if name in entry else entry["tensor_meta"])[name] = value
    return written(target, {**members, "data/weights/model_weights_config.json": json.dumps(table).encode()})


def ints(*numbers: int) -> list[dict[str, int]]:
    return [{"as_int": number} for number in numbers]
