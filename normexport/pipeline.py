"""The verbs: each runs the stages in order, top to bottom, and returns a frozen result."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir
from torch import nn
from torch.export import ExportedProgram

from normexport import capsule as capsules
from normexport import onnx_export, parity
from normexport.capsule.conversion import capsule_of
from normexport.checkpoint import Checkpoint, load
from normexport.engine import EngineConfig, build_engine, check_engine
from normexport.errors import UsageError
from normexport.files import check_writable, replacing_all, staging, write_text
from normexport.folding import FOLDING, fold
from normexport.judging import check, evaluate
from normexport.onnx_export import Exported, InputSpec
from normexport.onnx_files import open_onnx
from normexport.outputs import conversion_inputs, conversion_outputs, model_outputs, write_model
from normexport.overwriting import check_outputs
from normexport.parity.lost_state import require_no_lost_state
from normexport.passes import FoldResult
from normexport.passes import fold as fold_model
from normexport.precision import Half, Int8, Judged, Lowered, lower
from normexport.precision.accuracy import labels_in
from normexport.report import Conversion, Inspection, Operators
from normexport.runtime import Array
from normexport.sides import Inputs, export_inputs, is_onnx, specs_of
from normexport.verdicts import Verdict
from normexport.weight_files import remove_unread, written_with

__all__ = ["ConvertConfig", "check", "convert", "evaluate", "export", "fold", "inspect", "load"]


OnStage = Callable[[str], None]
OnSamples = Callable[[int, int | None], None]


@dataclass(frozen=True)
class ConvertConfig:
    """How to convert.

    Attributes:
        fold: fold norms; False leaves them as operators with bodies.
        data: .npz file of real inputs, judged beside the random ones.
        batches: batch sizes at which parity is judged; None: 1, 2 and 7, or what the model takes.
        engine: build a TensorRT plan of the file too, unless parity has failed.
        precision: lower the folded model to half precision or int8; None: float32. For an engine, int8 is symmetric.
        capsule: the file to write a capsule to, for `normexport prove` elsewhere; unless something failed.
        capsule_bytes: most bytes of the arrays in it.
        labels_for: the output that the labels of `data` belong to; None: the only one that they fit.
    """

    fold: bool = True
    data: str | Path | None = None
    batches: tuple[int, ...] | None = None
    engine: EngineConfig | None = None
    precision: Half | Int8 | None = None
    capsule: str | Path | None = None
    capsule_bytes: int = capsules.MOST_BYTES
    labels_for: str | None = None


def export(
    source: Checkpoint | nn.Module | ExportedProgram | str | Path, inputs: Inputs = (), output: str | Path | None = None
) -> Exported:
    """Export to one ONNX model, norms as operators with bodies; `output` writes it with its layer map.

    Args:
        source: a checkpoint (or the path of one), a module in eval mode, or an exported program.
        inputs: shapes of one sample, "3x28x28" or InputSpecs; an exported program knows its own.

    Raises:
        CheckpointError, ExportError, UsageError: see `load` and `onnx_export.export`.
    """
    if isinstance(source, (str, Path)):
        source = load(source)
    if output is not None:
        check_outputs(model_outputs(Path(output)), conversion_inputs(source))
    exported = onnx_export.export(source, specs_of(inputs))
    if isinstance(source, Checkpoint):
        require_no_lost_state(source, exported.inputs)
    if output is None:
        return exported
    return replace(exported, files=write_model(exported.model, exported.layers, Path(output)))


def convert(
    source: Checkpoint | Callable[[], Checkpoint] | str | Path,
    output: str | Path,
    inputs: Inputs = (),
    config: ConvertConfig = ConvertConfig(),
    on_stage: OnStage | None = None,
    on_samples: OnSamples | None = None,
) -> Conversion:
    """Checkpoint -> folded ONNX file, proven against the checkpoint in float64.

    Writes `model.onnx`, `model.layers.json` and `report.json`, and with `engine` `model.plan` and its manifest, into
    the folder `output`, and with `capsule` that file; together, and only when all stages are through. A model that
    fails parity is written too, with its verdict in the report, without a plan and without a capsule; one that is
    neither proven nor wrong gets both.

    Args:
        source: a checkpoint, the path of one that needs no further options, or a function that loads one.
        inputs: shapes of one sample, "3x28x28" or InputSpecs; an exported program knows its own.
        on_stage: called with the name of each stage as it begins.
        on_samples: called during calibration with the samples seen, and how many there will be (None: not known).

    Raises:
        NormExportError: of whatever stage failed; nothing is written then.
    """
    output = Path(output)
    check_writable(output)
    if config.engine is not None:
        check_engine(config.engine)
    clock = _Clock(on_stage or (lambda stage: None))
    if isinstance(source, nn.Module):
        raise UsageError(type(source).__name__, "is a module, not a checkpoint", "save it with torch.save first")
    with clock.stage("load"):
        if callable(source):
            source = source()
        checkpoint = source if isinstance(source, Checkpoint) else load(source)
    beside = () if config.capsule is None else (Path(config.capsule),)
    outputs = conversion_outputs(output, config.engine, config.precision, *beside)
    check_outputs(outputs, conversion_inputs(checkpoint, config.data, config.engine, config.precision))
    for folder in {path.parent for path, _ in outputs} - {output}:
        check_writable(folder)
    with clock.stage("export"):
        exported = onnx_export.export(checkpoint, export_inputs(checkpoint, inputs, config.data))
    data = parity.load_arrays(config.data, exported.inputs) if config.data is not None else None
    require_no_lost_state(checkpoint, exported.inputs, data)
    judged = _judged(config, data) if config.precision is not None else None
    with clock.stage("fold"):
        folded = fold_model(exported.model, FOLDING) if config.fold else FoldResult(exported.model, (), (), False)
        operators = Operators.of(exported.model, folded.model)
    before = written_with(output / "model.onnx")
    with replacing_all(*beside) as capsule_files, staging(output, last="model.onnx") as folder:
        with clock.stage("write"):
            model = folder / "model.onnx"
            write_model(folded.model, exported.layers, model, output)
        layers, specs, norms, warnings = exported.layers, exported.inputs, folded.norms, folded.warnings
        unproven = (*checkpoint.unproven, *exported.unproven)
        del exported, folded  # the file is what is judged, and the float32 copies in memory are not small
        with clock.stage("parity"):
            reference = checkpoint.program if checkpoint.program is not None else checkpoint.model
            assert reference is not None  # export refuses a checkpoint without a model
            report = parity.check_model(
                reference, open_onnx(model), layers, specs, data=data, sizes=config.batches, unproven=unproven
            )
            unproven = report.unproven
        lowered = None
        if config.precision is not None and not _failed(report, None):
            with clock.stage("precision"):
                lowered = _lower(open_onnx(model), config, specs, judged, reference, layers, on_samples)
                write_model(lowered.model, layers, model, output)
                report = report if lowered.parity is None else _with_doubts(lowered.parity, unproven)
        engine = None
        sealed = capsule_files if not _failed(report, lowered) else ()
        for file in sealed:
            with clock.stage("capsule"):
                known = specs, layers, config.precision, data, config.capsule_bytes
                capsules.write(capsule_of(reference, checkpoint.path, model, report, *known), file)
        if config.engine is not None and not _failed(report, lowered):
            with clock.stage("engine"):
                engine = build_engine(model, folder / "model.plan", _demanding(config.engine, config.precision))
        conversion = Conversion(
            path=checkpoint.path,
            source=checkpoint.source,
            inputs=specs,
            norms=checkpoint.norms,
            weight_norms=checkpoint.weight_norms,
            notes=checkpoint.notes,
            outcomes=norms,
            warnings=warnings,
            operators=operators,
            parity=replace(report, batches=(), channels={}),
            files=(*(output / name for name in _written(folder)), output / "report.json", *(beside if sealed else ())),
            seconds=clock.seconds,
            engine=engine,
            precision=None if lowered is None else lowered.precision,
        )
        write_text(folder / "report.json", json.dumps(conversion.as_dict(), indent=1, allow_nan=False) + "\n")
    remove_unread(before)
    return conversion


def inspect(
    source: Checkpoint | str | Path, inputs: Inputs = (), *, weights_under: str | Path | None = None
) -> Inspection:
    """What a checkpoint or ONNX file holds, and what `fold` would do with it; writes nothing.

    What would fold is known only where the graph is: for ONNX files and exported programs always, for modules
    once `inputs` are given. External data of an ONNX file may lie under `weights_under` too.
    """
    if isinstance(source, (str, Path)) and is_onnx(source):
        result = fold_model(open_onnx(source, weights_under), FOLDING)
        return Inspection(Path(source), "onnx", (), (), (), result.norms, result.warnings)
    checkpoint = source if isinstance(source, Checkpoint) else load(source)
    known = checkpoint.path, checkpoint.source, checkpoint.norms, checkpoint.weight_norms, checkpoint.notes
    if checkpoint.program is None and checkpoint.model is None:
        return Inspection(*known, None, outcomes_note="give --model and --input to see what would fold")
    if checkpoint.program is None and not inputs:
        return Inspection(*known, None, outcomes_note="give --input to see what would fold")
    result = fold_model(onnx_export.export(checkpoint, specs_of(inputs)).model, FOLDING)
    return Inspection(*known, result.norms, result.warnings)


def _demanding(engine: EngineConfig, precision: Half | Int8 | None) -> EngineConfig:
    """An engine of a lowered model must compute in what the model was lowered to."""
    if precision is None or engine.precision is not None:
        return engine
    return replace(engine, precision=precision.dtype if isinstance(precision, Half) else "int8")


def _with_doubts(report: parity.ParityReport, unproven: Sequence[str]) -> parity.ParityReport:
    """What was not proven of the float32 model is not proven of the one that was made of it."""
    return replace(report, unproven=tuple(dict.fromkeys((*unproven, *report.unproven))))


def _failed(report: parity.ParityReport, lowered: Lowered | None) -> bool:
    """Whether what was made so far is wrong; what is inconclusive is made to its end, and says so."""
    judgements = [report.judgement, *([] if lowered is None else [lowered.precision.judgement])]
    return any(judgement.verdict is Verdict.FAILED for judgement in judgements)


class _Clock:
    """Announces stages and keeps their wall times."""

    def __init__(self, announce: OnStage) -> None:
        self._announce = announce
        self.seconds: tuple[tuple[str, float], ...] = ()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self._announce(name)
        start = time.perf_counter()
        yield
        self.seconds += ((name, round(time.perf_counter() - start, 3)),)


def _judged(config: ConvertConfig, data: dict[str, Array] | None) -> Judged | None:
    """The data that a lowered precision is judged on, with its labels."""
    judged = None if data is None or config.data is None else Judged(data, labels_in(config.data), config.labels_for)
    if config.labels_for is not None and (judged is None or judged.labels is None):
        raise UsageError(f"--labels-for {config.labels_for}", "there are no labels", "give --data with an array labels")
    return judged


def _lower(
    model: ir.Model,
    config: ConvertConfig,
    specs: tuple[InputSpec, ...],
    judged: Judged | None,
    source: nn.Module | ExportedProgram,
    layers: Sequence[onnx_export.Layer],
    on_samples: OnSamples | None,
) -> Lowered:
    assert config.precision is not None
    precision = config.precision
    if isinstance(precision, Int8) and config.engine is not None:
        precision = replace(precision, symmetric=True)
    return lower(model, precision, specs, judged=judged, source=source, layers=layers, on_batch=on_samples)


def _written(folder: Path) -> list[str]:
    """File names, the model first."""
    return sorted((file.name for file in folder.iterdir()), key=lambda name: (name != "model.onnx", name))
