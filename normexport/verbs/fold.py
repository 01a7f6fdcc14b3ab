"""The verb `fold`: any ONNX file in, a folded one out. Needs no torch."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import onnx
import onnx_ir as ir

from normexport.folding import FoldConfig
from normexport.graphs.fixed_weights import fix_weights
from normexport.graphs.inline import inline_functions
from normexport.io.atomic import check_writable, replacing
from normexport.io.onnx_model import opened_model, save_onnx
from normexport.io.overwriting import check_outputs
from normexport.io.weight_files import data_of_model
from normexport.provenance.record import KEY as PROVENANCE
from normexport.recognition import fold_recognised
from normexport.reports import Folding, Operators

#: Folded constants are checked against float16 as well: most of these networks are deployed in it.
FOLDING = FoldConfig(precision="float16")


def fold(
    source: ir.Model | onnx.ModelProto | str | Path,
    output: str | Path | None = None,
    *,
    weights_under: str | Path | None = None,
    live_operators: bool = False,
    inline: bool = False,
    fixed_weights: bool = False,
) -> Folding:
    """Fold the norms of an ONNX model, whoever exported it.

    `output` writes the result; where nothing could be improved, that is the very bytes of the source file. It may be
    the source file itself.

    Args:
        live_operators: make one operator of each live norm that ordinary operators compute, for native kernels, int8
            and TensorRT; else they are listed, and stay.
        inline: put the bodies of functions in the place of their calls, for runtimes that know none.
        fixed_weights: make constants of weights that the file lists among its inputs, which a caller could override.
        weights_under: a folder in which external data may lie too, as `normexport.io.onnx_model.open_onnx` takes it.

    Raises:
        FoldError: a damaged file.
        UsageError: no such file, or an output that can't be written or that would take the place of what is read.
    """
    path = Path(source) if isinstance(source, (str, Path)) else None
    written = Path(output) if output is not None else None
    if written is not None:
        check_writable(written.parent)
    model = opened_model(source, weights_under)
    if written is not None:
        _check_output(written, path, model)
    fixed = fix_weights(model) if fixed_weights else model
    result = fold_recognised(fixed, FOLDING, live_operators=live_operators)
    if fixed is not model:
        result = replace(result, changed=True)
    if inline and result.model.functions:
        result = replace(result, model=inline_functions(result.model), changed=True)
    if result.changed:  # it says what `convert` made the file of, and this is another
        result.model.metadata_props.pop(PROVENANCE, None)
    files: tuple[Path, ...] = ()
    if written is not None:
        unchanged = path if not result.changed else None
        files = _write(result.model, written, unchanged)
    operators = Operators.of(model, result.model)
    return Folding(result.model, written, result.norms, result.warnings, result.changed, operators, files)


def _check_output(output: Path, source: Path | None, model: ir.Model) -> None:
    """Nothing that is read is replaced, but for the model itself where it is folded in place, with its own name."""
    outputs = [(output, "the folded model")]
    name = source.name if source is not None else "the model to fold"
    inputs = [(data, f"the data of {name}") for data in data_of_model(model)]
    if source is None or not _is_in_place(source, output):
        outputs.append((output.with_name(output.name + ".data"), f"the data of {output.name}"))
        inputs += [(source, "the model to fold")] if source is not None else []
    check_outputs(outputs, inputs)


def _is_in_place(source: Path, output: Path) -> bool:
    return os.path.realpath(source) == os.path.realpath(output)


def _write(model: ir.Model, output: Path, unchanged: Path | None) -> tuple[Path, ...]:
    """The files written. What folding did not change is copied as it is; but a model whose data lies in other files is
    saved anew, so that the copy does not lean on the original."""
    if unchanged is not None and _is_in_place(unchanged, output):
        return ()
    if unchanged is None or data_of_model(model):
        return save_onnx(model, output)
    with replacing(output) as temporary:
        shutil.copyfile(unchanged, temporary)
    return (output,)
