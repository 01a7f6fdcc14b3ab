"""What stands beside a result: versions installed, files of its folder, and what is known of a module."""

from __future__ import annotations

import hashlib
import platform
from collections import defaultdict
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from normexport._version import __version__
from normexport.io.opening import opened
from normexport.reports.page.answers import snr_words, used_words
from normexport.reports.page.network import Facts
from normexport.reports.page.rendering import FileRow
from normexport.reports.page.values import Document
from normexport.verdicts import Verdict

#: What results depend on, by their names in package indices.
PACKAGES = (
    "torch",
    "onnx",
    "onnx_ir",
    "onnxscript",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt-rtx",
    "tensorrt",
)
_BLOCK = 1 << 20


def versions() -> tuple[tuple[str, str], ...]:
    """(name, version) of normexport, Python and what is installed of `PACKAGES`; nothing is imported."""
    found = [("normexport", __version__), ("Python", platform.python_version())]
    for name in PACKAGES:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return tuple(found)


def files_in(folder: Path, names: Sequence[str]) -> tuple[FileRow, ...]:
    """Size and SHA-256 of those regular files of a folder that have these names; names of other folders are none."""
    known = set(names)
    return tuple(
        _file(path)
        for path in sorted(folder.iterdir(), key=lambda path: path.name)
        if path.name in known and path.is_file() and not path.is_symlink()
    )


def _file(path: Path) -> FileRow:
    digest, size = hashlib.sha256(), 0
    with opened(path) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return path.name, size, digest.hexdigest()


def out_of_budget(document: Document) -> frozenset[str]:
    """The module paths whose error is out of its budget, or whose SNR is too low."""
    if document.parity is None:
        return frozenset()
    failed = Verdict.FAILED
    rows = [row.path for row in document.parity.layers if row.verdict is failed]
    return frozenset([*rows, *(each.name for each in document.parity.boundaries if each.verdict is failed)])


def outputs_out_of_budget(document: Document) -> frozenset[str]:
    """The outputs whose error is out of its budget, or whose SNR is too low."""
    if document.parity is None:
        return frozenset()
    rows = [row.tensor for row in document.parity.rows if row.verdict is Verdict.FAILED]
    return frozenset([*rows, *(each.name for each in document.parity.outputs if each.verdict is Verdict.FAILED)])


def known_of(document: Document) -> Facts:
    """What a result says of the module or norm at a path: its error and budget, its SNR, what int8 does to it."""
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    if document.parity is not None:
        for row in document.parity.layers:
            numbers = (
                "" if row.error is None else f" (error {row.error:.1e}, budget {row.budget:.1e}, by {row.measure})"
            )
            found[row.path].append(("parity", f"{used_words(row)}{numbers}"))
        for each in document.parity.boundaries:
            found[each.name].append(("SNR", snr_words(each)))
        for path, reason in document.parity.unchecked:
            found[path].append(("not compared", reason))
    if document.precision is not None:
        for path, alone, without in document.precision.sensitivity:
            words = [
                f"{value:.1f} dB {what}"
                for value, what in ((alone, "alone"), (without, "all but it"))
                if value is not None
            ]
            found[path].append(("in int8", ", ".join(words)))
        for path, reason in (*document.precision.kept, *document.precision.widened):
            found[path].append(("not in lower precision", reason))
    for path, message in document.warnings:
        found[path].append(("warning", message))
    return lambda path: found.get(path, ())
