"""What a bundle is made of: the model's ports, how it may be batched, its samples, and the files that go into it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from normexport.engine import Manifest
from normexport.errors import UsageError
from normexport.runtime import Array
from normexport.text import printable

#: The oldest ONNX Runtime that the tests have run files with.
LEAST_ONNXRUNTIME = "1.21"

#: The largest batch that a server is told to make where the file leaves it open.
MOST = 32

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,98}[A-Za-z0-9])?")


@dataclass(frozen=True)
class ServedPort:
    """An input or output as the file has it.

    Attributes:
        dtype: "float32", as `normexport.dtypes` names it.
        shape: whole; None: a free size.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Batching:
    """Whether a server may put the requests of several clients into one batch.

    Attributes:
        most: the largest batch; 0: it may not.
        usual: the batch that an engine is fastest at; 0: none.
        reason: why it may not, in words.
    """

    most: int = 0
    usual: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Content:
    """A model to be served.

    Attributes:
        name: of the model on the server; `require_name` holds of it.
        inputs, outputs: in the file's order.
        batching: whether requests may share a batch.
        sample: inputs of the proof, as the file reads them, by which a server warms up.
        sample_size: how many rows of the batch they have.
        labels: the names of classes by output.
        files: what is served, by name: "model.onnx", its data, "model.plan", the plugin library.
        manifest: of the plan that is served; None: the ONNX file is.
        capsule: the file by which the server is judged; None: there is none, and `notes` say why.
        record: versions, hashes and options, JSON-able.
        verdict: the word of the conversion's judgement.
        notes: what to know, in words.
        beside: more files of the bundle, by name: the bill of materials.
    """

    name: str
    inputs: tuple[ServedPort, ...]
    outputs: tuple[ServedPort, ...]
    batching: Batching
    sample: Mapping[str, Array]
    sample_size: int
    labels: Mapping[str, tuple[str, ...]]
    files: Mapping[str, Path]
    manifest: Manifest | None
    capsule: Path | None
    record: Mapping[str, Any]
    verdict: str
    notes: tuple[str, ...] = ()
    beside: Mapping[str, Path] = field(default_factory=dict)

    @property
    def runtime(self) -> tuple[str, str]:
        """What the file was built for or proven on, and its version."""
        if self.manifest is not None:
            return "tensorrt", self.manifest.flavor_version
        return "onnxruntime", str(self.record["versions"].get("onnxruntime", ""))


def require_name(name: str) -> str:
    """A model's name that is a folder's name on every system and a word in every protocol.

    Raises:
        UsageError: it is something else.
    """
    if _NAME.fullmatch(name) is None or ".." in name:
        cause = "is not a name for a served model"
        raise UsageError(f"--bundle-name {printable(name, 80)}", cause, "use letters, digits and _ . - between them")
    return name


def name_after(stem: str) -> str:
    """A name like the file's: what no server takes becomes "_"."""
    words = re.sub(r"[^A-Za-z0-9_-]+", "_", stem).strip("_-")[:100].strip("_-")
    return words or "model"


def kserve_name(name: str) -> str:
    """The same for Kubernetes: at most 53 of small letters, digits and "-", a letter first."""
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:53].strip("-")
    return words if words[:1].isalpha() else f"m-{words}"[:53].strip("-")
