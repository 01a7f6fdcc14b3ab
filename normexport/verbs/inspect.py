"""The verb `inspect`: what a checkpoint, an ONNX file or a plan holds, and what would fold."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir

from normexport import onnx_export
from normexport.engine import Manifest, read_manifest, require_same_plan
from normexport.io.onnx_model import opened_model
from normexport.recognition import fold_recognised
from normexport.reports import Inspection
from normexport.verbs.fold import FOLDING
from normexport.verbs.onnx_file import describe_onnx
from normexport.verbs.subjects import Inputs, NetworkSource, is_onnx, opened_checkpoint, specs_of


def inspect_plan(path: str | Path) -> Manifest:
    """The manifest of a plan, once the plan is known to be the one it describes; the plan itself is not opened.

    Raises:
        UsageError: there is none, or the plan is another.
    """
    manifest = read_manifest(Path(path))
    require_same_plan(Path(path), manifest)
    return manifest


def inspect(source: NetworkSource, inputs: Inputs = (), *, weights_under: str | Path | None = None) -> Inspection:
    """What a checkpoint or ONNX file holds, and what `fold` would do with it; writes nothing.

    What would fold is known only where the graph is: for ONNX files and exported programs always, for modules
    once `inputs` are given. Of an ONNX model it says too what it reads and returns, its operators and sizes. One in
    memory is not changed; external data of an ONNX file may lie under `weights_under` too.
    """
    if isinstance(source, ir.Model | onnx.ModelProto) or (isinstance(source, str | Path) and is_onnx(source)):
        model = opened_model(source, weights_under)
        path = Path(source) if isinstance(source, str | Path) else Path(model.graph.name or "model")
        found = describe_onnx(model, path if isinstance(source, str | Path) else None)  # folding may change the model
        result = fold_recognised(model.clone() if model is source else model, FOLDING)
        return Inspection(path, "onnx", (), (), (), result.norms, result.warnings, file=found)
    checkpoint = opened_checkpoint(source)
    known = checkpoint.path, checkpoint.source, checkpoint.norms, checkpoint.weight_norms, checkpoint.notes
    if checkpoint.program is None and checkpoint.model is None:
        return Inspection(*known, None, outcomes_note="give --model and --input to see what would fold")
    if checkpoint.program is None and not inputs:
        return Inspection(*known, None, outcomes_note="give --input to see what would fold")
    result = fold_recognised(onnx_export.export(checkpoint, specs_of(inputs)).model, FOLDING)
    return Inspection(*known, result.norms, result.warnings)
