"""The verb `fold`: any ONNX file in, a folded one out. Needs no torch."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx
import onnx_ir as ir

from normexport.files import check_writable, replacing
from normexport.onnx_files import open_onnx, save_onnx
from normexport.passes import FoldConfig
from normexport.passes import fold as fold_model
from normexport.report import Folding, Operators

#: Folded constants are checked against float16 as well: most of these networks are deployed in it.
FOLDING = FoldConfig(precision="float16")


def fold(source: ir.Model | onnx.ModelProto | str | Path, output: str | Path | None = None) -> Folding:
    """Fold the norms of an ONNX model, whoever exported it.

    `output` writes the result; where nothing could be improved, that is the very bytes of the source file.

    Raises:
        FoldError: a damaged file.
        UsageError: no such file, or an output that can't be written.
    """
    path = Path(source) if isinstance(source, (str, Path)) else None
    if output is not None:
        check_writable(Path(output).parent)
    model = _opened(source)
    result = fold_model(model, FOLDING)
    written = Path(output) if output is not None else None
    if written is not None and (result.changed or path is None):
        save_onnx(result.model, written)
    elif written is not None and path is not None and not _same_file(path, written):
        _copy(path, written, model)
    return Folding(
        result.model, written, result.norms, result.warnings, result.changed, Operators.of(model, result.model)
    )


def _opened(source: ir.Model | onnx.ModelProto | str | Path) -> ir.Model:
    if isinstance(source, onnx.ModelProto):
        return ir.from_proto(source)
    return source if isinstance(source, ir.Model) else open_onnx(source)


def _same_file(one: Path, other: Path) -> bool:
    return other.exists() and one.samefile(other)


def _copy(source: Path, target: Path, model: ir.Model) -> None:
    """The file as it is; with external data it is saved anew, so that the copy does not lean on the original."""
    values = model.graph.initializers.values()
    if any(isinstance(value.const_value, ir.ExternalTensor) for value in values):
        save_onnx(model, target)
        return
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)
