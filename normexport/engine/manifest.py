"""`model.plan.json`, the manifest beside a plan: what it was made from, for which GPUs, and what is in it.

{"format": 1, "plan": {"file": "model.plan", "bytes": 380132, "sha256": "..."},
 "onnx": {"file": "model.onnx", "sha256": "..."}, "plugin": null, "flavor": "tensorrt-rtx", ...}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from normexport.errors import UsageError

FORMAT = 1


@dataclass(frozen=True)
class FileId:
    """A file as it was: its name, size and SHA-256."""

    file: str
    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path, name: str | None = None) -> FileId:
        """Of the file at `path`, which will be called `name`."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256") if hasattr(hashlib, "file_digest") else _digest(file)
        return cls(name or path.name, path.stat().st_size, digest.hexdigest())


@dataclass(frozen=True)
class Tensor:
    """An input or output of the engine; -1 is a dynamic size. The three shapes are an input's profile."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    smallest: tuple[int, ...] | None = None
    expected: tuple[int, ...] | None = None
    largest: tuple[int, ...] | None = None


@dataclass(frozen=True)
class NetworkLayer:
    """A layer of the network before fusion: its ONNX node and the module that the node came from ("": none)."""

    name: str
    type: str
    dtype: str
    onnx: str
    module: str


@dataclass(frozen=True)
class Manifest:
    """All that is known about a plan.

    Attributes:
        plugin: the plugin library, None where no node needs one; `embedded` says whether the plan holds it.
        host_code: the plan holds code that runs on the host: it may be opened only by those who trust it.
        plugins: nodes that became plugins, as (node, operator, module).
        bodies: operators of the domain `normexport` that were built from their bodies.
        precision: number of computing layers by type.
        seconds: wall times by stage.
    """

    plan: FileId
    onnx: FileId
    plugin: FileId | None
    embedded: bool
    host_code: bool
    normexport: str
    flavor: str
    flavor_version: str
    targets: tuple[str, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    precision: Mapping[str, int]
    plugins: tuple[tuple[str, str, str], ...]
    bodies: tuple[str, ...]
    layers: tuple[NetworkLayer, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The manifest as JSON holds it."""
        return {"format": FORMAT, **asdict(self)}


def manifest_path(plan: Path) -> Path:
    """out/model.plan -> out/model.plan.json."""
    return plan.with_name(plan.name + ".json")


def manifest_text(manifest: Manifest) -> str:
    """The file's content."""
    return json.dumps(manifest.as_dict(), indent=1, allow_nan=False) + "\n"


def read_manifest(plan: Path) -> Manifest:
    """The manifest beside `plan`.

    Raises:
        UsageError: there is none, or it is no manifest of this format.
    """
    path = manifest_path(plan)
    if not plan.exists() and not path.exists():
        raise UsageError(str(plan), "does not exist", "build it with normexport build")
    if not path.is_file():
        raise UsageError(str(plan), f"has no manifest beside it ({path.name})", "build it with normexport build")
    try:
        content = json.loads(path.read_text())
        if content.pop("format") != FORMAT:
            raise ValueError("another format")
        return _manifest(content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(str(path), f"is not a manifest ({error})", "build the plan again") from error


def check_plan(plan: Path, manifest: Manifest) -> None:
    """The plan is the one that its manifest describes.

    Raises:
        UsageError: the plan is missing, or its bytes are others.
    """
    if not plan.is_file():
        raise UsageError(str(plan), "does not exist", "check the path")
    if FileId.of(plan).sha256 != manifest.plan.sha256:
        raise UsageError(str(plan), "is not the plan that its manifest describes", "build it again; do not run it")


def _manifest(content: dict[str, Any]) -> Manifest:
    tuples = {key: tuple(content[key]) for key in ("targets", "bodies", "warnings")}
    plugin = content["plugin"]
    structured = {
        "plan": FileId(**content["plan"]),
        "onnx": FileId(**content["onnx"]),
        "plugin": None if plugin is None else FileId(**plugin),
        "inputs": tuple(_tensor(each) for each in content["inputs"]),
        "outputs": tuple(_tensor(each) for each in content["outputs"]),
        "layers": tuple(NetworkLayer(**each) for each in content["layers"]),
        "plugins": tuple((str(node), str(op), str(module)) for node, op, module in content["plugins"]),
    }
    return Manifest(**{**content, **tuples, **structured})


def _tensor(content: dict[str, Any]) -> Tensor:
    shapes = {
        key: value if value is None else tuple(value) for key, value in content.items() if isinstance(value, list)
    }
    return Tensor(**{**content, **shapes})


def _digest(file: Any) -> Any:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest
