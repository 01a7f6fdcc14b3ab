"""`model.plan.json`, the manifest beside a plan: what it was made from, for which GPUs, and what is in it.

{"format": 1, "plan": {"file": "model.plan", "bytes": 380132, "sha256": "..."},
 "onnx": {"file": "model.onnx", "sha256": "..."}, "plugin": null, "flavor": "tensorrt-rtx", ...}

It tells honest files from mixed-up ones, and no more: whoever can write the plan can write the manifest beside it. So
nothing is allowed because a manifest says so, files that it names are never opened, and fields that this version does
not know are refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from normexport.errors import UsageError
from normexport.io.json_files import (
    BadJson,
    Record,
    by_name,
    count,
    digest,
    dimension,
    file_name,
    flag,
    many,
    number,
    optional,
    read_json,
    record,
    scalar,
    text,
    word,
)

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


Shape = tuple[int, ...]


@dataclass(frozen=True)
class PlanTensor:
    """An input or output of the engine; -1 is a dynamic size. The three shapes are an input's first profile.

    Attributes:
        more: (smallest, expected, largest) of each further profile.
    """

    name: str
    dtype: str
    shape: Shape
    smallest: Shape | None = None
    expected: Shape | None = None
    largest: Shape | None = None
    more: tuple[tuple[Shape, Shape, Shape], ...] = ()

    @property
    def profiles(self) -> tuple[tuple[Shape, Shape, Shape], ...]:
        """(smallest, expected, largest) of each profile; of what has none its shape alone."""
        first = (self.smallest or self.shape, self.expected or self.shape, self.largest or self.shape)
        return (first, *self.more)


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
    inputs: tuple[PlanTensor, ...]
    outputs: tuple[PlanTensor, ...]
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
        return _manifest(record(read_json(path), ""))
    except BadJson as error:
        raise UsageError(str(path), f"is not a manifest ({error})", "build the plan again") from error


def require_same_plan(plan: Path, manifest: Manifest) -> None:
    """The plan is the one that its manifest describes.

    Raises:
        UsageError: the plan is missing, or its bytes are others.
    """
    if not plan.is_file():
        raise UsageError(str(plan), "does not exist", "check the path")
    if FileId.of(plan).sha256 != manifest.plan.sha256:
        raise _another(plan)


def check_bytes(content: bytes, manifest: Manifest, plan: Path) -> None:
    """As `require_same_plan`, of bytes that were read from `plan`.

    Raises:
        UsageError: they are others than the manifest describes.
    """
    if hashlib.sha256(content).hexdigest() != manifest.plan.sha256:
        raise _another(plan)


def _another(plan: Path) -> UsageError:
    return UsageError(str(plan), "is not the plan that its manifest describes", "build it again; do not run it")


def _manifest(fields: Record) -> Manifest:
    fields.require_format(FORMAT)
    manifest = Manifest(
        plan=fields.get("plan", file_of),
        onnx=fields.get("onnx", file_of),
        plugin=fields.get("plugin", optional(file_of)),
        embedded=fields.get("embedded", flag),
        host_code=fields.get("host_code", flag),
        normexport=fields.get("normexport", word),
        flavor=fields.get("flavor", word),
        flavor_version=fields.get("flavor_version", word),
        targets=fields.get("targets", many(word)),
        inputs=fields.get("inputs", many(_tensor)),
        outputs=fields.get("outputs", many(_tensor)),
        precision=fields.get("precision", by_name(count)),
        plugins=fields.get("plugins", many(_plugin)),
        bodies=fields.get("bodies", many(text)),
        layers=fields.get("layers", many(_layer)),
        options=fields.get("options", by_name(scalar)),
        warnings=fields.get("warnings", many(text)),
        seconds=fields.get("seconds", by_name(number)),
    )
    fields.no_more()
    if len({len(each.more) for each in manifest.inputs}) > 1:
        raise BadJson("its inputs have unequal numbers of profiles")
    names = [each.name for each in (*manifest.inputs, *manifest.outputs)]
    if len(set(names)) < len(names):
        raise BadJson("two of its inputs and outputs have one name")
    return manifest


def file_of(value: Any, where: str) -> FileId:
    """A file in a JSON document, as `FileId` writes itself."""
    fields = record(value, where)
    found = FileId(fields.get("file", file_name), fields.get("bytes", count), fields.get("sha256", digest))
    fields.no_more()
    return found


def _tensor(value: Any, where: str) -> PlanTensor:
    fields = record(value, where)
    shape = fields.get("shape", many(dimension))
    least, usual, most = (fields.get(name, optional(many(count))) for name in ("smallest", "expected", "largest"))
    more = fields.get("more", many(many(many(count)))) if fields.has("more") else ()  # earlier plans have one profile
    first = [sizes for sizes in (least, usual, most) if sizes is not None]
    for sizes in (first, *more) if first or more else ():
        fits = len(sizes) == 3 and all(len(each) == len(shape) for each in sizes)
        if not fits or not all(a <= b <= c for a, b, c in zip(*sizes, strict=True)):
            raise BadJson(f"{where} has a profile that does not fit its shape")
    others = tuple((low, middle, high) for low, middle, high in more)
    found = PlanTensor(fields.get("name", text), fields.get("dtype", word), shape, least, usual, most, others)
    fields.no_more()
    return found


def _layer(value: Any, where: str) -> NetworkLayer:
    fields = record(value, where)
    found = NetworkLayer(*(fields.get(name, text) for name in ("name", "type", "dtype", "onnx", "module")))
    fields.no_more()
    return found


def _plugin(value: Any, where: str) -> tuple[str, str, str]:
    found = many(text)(value, where)
    if len(found) != 3:
        raise BadJson(f"{where} has {len(found)} names, and node, operator and module are needed")
    return found[0], found[1], found[2]


def _digest(file: Any) -> Any:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest
