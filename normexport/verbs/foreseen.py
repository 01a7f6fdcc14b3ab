"""What a conversion of a checkpoint would refuse after its export, refused before: patterns, names, samples, labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from normexport import onnx_export
from normexport.checkpoint import Checkpoint
from normexport.graphs.port_names import require_as_many
from normexport.onnx_export import InputSpec
from normexport.precision import EightBit
from normexport.precision.foreseen import require_labels_fit, require_modules
from normexport.precision.samples import batches_of
from normexport.verbs.config import ConvertConfig
from normexport.verbs.real_data import Opened, RealData, data_to_judge_on

if TYPE_CHECKING:
    from normexport.onnx_export.foreseen import Foreseen


def refuse_foreseen(
    checkpoint: Checkpoint, config: ConvertConfig, specs: Sequence[InputSpec], opened: Opened | None
) -> None:
    """Refuse what is asked of a checkpoint and can't be, by its modules, its inputs and what it returns.

    Args:
        specs: what its file will read.
        opened: real inputs for it, where there are any.

    Raises:
        UsageError: a pattern of modules matches none; names for more or fewer outputs than there are; samples that are
            not what it reads; labels that fit no output.
    """
    precision = config.precision
    if precision is not None:
        require_modules(precision.keep, onnx_export.modules_foreseen(checkpoint))
    if isinstance(precision, EightBit) and isinstance(precision.calibration, str | Path):
        next(batches_of(precision.calibration, specs, precision.batch, precision.preprocess)(), None)
    judged = None if precision is None else data_to_judge_on(config, RealData.of(config), opened, specs)
    labelled = None if judged is None else judged.labelled
    if labelled is None and not config.export.output_names:
        return
    returned = onnx_export.outputs_foreseen(checkpoint, specs)
    if returned is None:
        return
    returned = _named(returned, config.export.output_names, str(checkpoint.path))
    if judged is not None and labelled is not None:
        require_labels_fit(judged, labelled, returned, specs)


def _named(returned: Foreseen, names: Sequence[str], place: str) -> Foreseen:
    """With the names that are asked for."""
    require_as_many("--output-names", names, [output.name for output in returned.outputs], place, "returns")
    if not names:
        return returned
    renamed = (replace(output, name=name) for output, name in zip(returned.outputs, names, strict=True))
    return replace(returned, outputs=tuple(renamed))
