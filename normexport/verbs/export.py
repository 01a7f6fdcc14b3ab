"""The verb `export`: one ONNX file of a checkpoint, every norm still an operator."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import nn
from torch.export import ExportedProgram

from normexport import onnx_export
from normexport.checkpoint import Checkpoint, load
from normexport.graphs.export_config import ExportConfig
from normexport.graphs.inline import inline_functions
from normexport.graphs.opsets import in_opset
from normexport.io.overwriting import check_outputs
from normexport.onnx_export import Exported
from normexport.proof.doubts.lost_state import require_no_lost_state
from normexport.verbs.outputs import conversion_inputs, model_outputs, write_model
from normexport.verbs.subjects import Inputs, specs_of

_DEFAULT = ExportConfig()


def export(
    source: Checkpoint | nn.Module | ExportedProgram | str | Path,
    inputs: Inputs = (),
    output: str | Path | None = None,
    config: ExportConfig = _DEFAULT,
    *,
    inline: bool = False,
) -> Exported:
    """Export to one ONNX model, norms as operators with bodies; `output` writes it with its layer map.

    Args:
        source: a checkpoint (or the path of one), a module in eval mode, or an exported program.
        inputs: shapes of one sample, "3x28x28" or InputSpecs; an exported program knows its own.
        config: what the file shall be: a fixed batch, its operator set, names.
        inline: put the bodies of operators in their place, for runtimes that know no functions.

    Raises:
        CheckpointError, ExportError, UsageError: see `load` and `onnx_export.export`.
        FoldError: the operator set that is asked for lacks an operator.
    """
    if isinstance(source, (str, Path)):
        source = load(source)
    if output is not None:
        read = source.files if isinstance(source, Checkpoint) else ()
        check_outputs(model_outputs(Path(output)), conversion_inputs(read))
    exported = onnx_export.export(source, specs_of(inputs), config)
    if inline:
        exported = replace(exported, model=inline_functions(exported.model))
    if isinstance(source, Checkpoint):
        require_no_lost_state(source, exported.inputs)
    if config.opset is not None:
        exported = replace(exported, model=in_opset(exported.model, config.opset))
    if output is None:
        return exported
    return replace(exported, files=write_model(exported.model, exported.layers, Path(output)))
