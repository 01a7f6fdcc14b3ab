"""What a conversion was made from and by what, as values: the same conversion gives the same record.

    {"normexport": "0.2.0", "versions": {"onnx": "1.23.2"}, "source": [{"bytes": 812, "sha256": "..."}],
     "options": {"fold": true, "precision": {"dtype": "int8", "calibration": {"sha256": "..."}}}}

No time, path, user or machine is in it. A file or folder among the options stands there as the hash of its content.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from normexport._version import __version__
from normexport.engine.manifest import FileId
from normexport.io.data_sources import is_pattern, source_at

#: The key of an ONNX file's metadata that holds the record.
KEY = "normexport.provenance"

#: Packages whose version can change what is computed, where they are installed.
PACKAGES = (
    *("numpy", "onnx", "onnx-ir", "onnxruntime", "onnxruntime-gpu", "onnxscript", "openvino", "torch"),
    *("tensorrt", "tensorrt-rtx"),
)

#: Options that say where something is written, looked for or computed, and nothing about what is made.
_PLACES = frozenset(
    {"bundle", "bundle_name", "capsule", "ep_context", "log", "on", "timeout", "timing_cache", "weights_under"}
)
#: Options that are told in the report alone.
_REPORTING = frozenset({"cache", "table"})
#: Options that name a file or folder that is read.
_READ = frozenset({"cache", "calibration", "data", "plugin_library"})


@dataclass(frozen=True)
class Provenance:
    """What made a file: versions, the hashes of what went in and came out, and the options.

    Attributes:
        versions: of normexport and of the packages that can change the result, by name.
        source: the files that were converted; empty for a network in memory.
        options: the config, JSON-able; files and folders by the hash of their content.
        outputs: the files that were written, but for the report that holds this.
    """

    versions: Mapping[str, str] = field(default_factory=dict)
    source: tuple[FileId, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    outputs: tuple[FileId, ...] = ()

    def metadata(self) -> str:
        """The text for an ONNX file: without names of files and without hashes of what it is itself a part of."""
        source = [{"bytes": file.bytes, "sha256": file.sha256} for file in self.source]
        options = _shaping(self.options)
        known = {"versions": dict(self.versions), "source": source, "options": options}
        return json.dumps(known, sort_keys=True, separators=(",", ":"))


def provenance_of(
    source: Sequence[Path], config: Any, inputs: Sequence[Any] = (), load: Mapping[str, Any] | None = None
) -> Provenance:
    """The provenance of what is about to be made.

    Args:
        source: the files that are converted, in order; those that are not there are left out.
        config: a dataclass of options.
        inputs: shapes that were asked for, as texts or dataclasses.
        load: how they were read, as far as somebody said: the code of the network, the dialect of its norms.
    """
    files = tuple(FileId.of(path) for path in source if path.is_file())
    options = {**plain_options(config), "inputs": _plain(list(inputs)), "load": _plain(load or {})}
    return Provenance(installed_versions(), files, options)


def installed_versions() -> dict[str, str]:
    """Of normexport and of each of `PACKAGES` that is installed."""
    known = {"normexport": __version__}
    for name in PACKAGES:
        try:
            known[name] = version(name)
        except PackageNotFoundError:
            continue
    return known


def plain_options(config: Any) -> dict[str, Any]:
    """The fields of a dataclass as JSON has them, sorted by name; what only says a place is left out."""
    found = {}
    for each in sorted(dataclasses.fields(config), key=lambda one: one.name):
        if each.name not in _PLACES and not each.name.startswith("_"):
            value = getattr(config, each.name)
            found[each.name] = _content(value) if each.name in _READ else _plain(value)
    kind = type(config).__name__
    return {"": kind, **found} if kind in ("Half", "Int8", "Fp8") else found


def _shaping(value: Any) -> Any:
    """Options without those that leave the file as it is: a cache holds what calibrating gives, a table is a report."""
    if isinstance(value, Mapping):
        return {name: _shaping(item) for name, item in value.items() if name not in _REPORTING}
    return value


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain_options(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in sorted(value.items(), key=lambda pair: str(pair[0]))}
    if isinstance(value, (frozenset, set)):
        return sorted(map(str, value))
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value - value != 0.0:  # JSON has no infinity
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if callable(value):
        return f"{getattr(value, '__module__', '')}:{getattr(value, '__qualname__', type(value).__name__)}"
    return _content(value)


def _content(value: Any) -> Any:
    """What is read, by its content: a file, a folder with all that is below it; else what kind of thing it is."""
    if value is None:
        return None
    if isinstance(value, (str, Path)):
        path = Path(value)
        if path.is_file():
            return {"sha256": FileId.of(path).sha256}
        if path.is_dir():
            return {"folder_sha256": _folder_hash(path)}
        if is_pattern(value):
            return {"files_sha256": [FileId.of(file).sha256 for file in source_at(value).files]}
        return None  # a cache that is written, not read
    return {"in memory": type(value).__name__}


def _folder_hash(folder: Path) -> str:
    """SHA-256 over the name and the SHA-256 of every file below a folder, in the order of their names."""
    whole = hashlib.sha256()
    for path in sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.as_posix()):
        whole.update(f"{path.relative_to(folder).as_posix()}\0{FileId.of(path).sha256}\n".encode("utf-8", "replace"))
    return whole.hexdigest()
