"""The verb `convert`: from a checkpoint to a folded ONNX file, in the precision asked for, and proven."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir
from torch import nn
from torch.export import ExportedProgram

from normexport import capsule as capsules
from normexport import onnx_export, proof
from normexport.capsule.conversion import capsule_of
from normexport.checkpoint import Checkpoint, load
from normexport.engine import EngineConfig, build_engine, check_engine
from normexport.errors import UsageError
from normexport.folding import FoldResult
from normexport.folding import fold as fold_model
from normexport.io.atomic import check_writable, replacing_all, staging, write_text
from normexport.io.onnx_model import open_onnx
from normexport.io.overwriting import check_outputs
from normexport.io.weight_files import remove_unread, written_with
from normexport.logs import in_words, logger
from normexport.onnx_export import InputSpec
from normexport.precision import Half, Int8, Judged, Reduced, reduce_precision
from normexport.precision.accuracy import labels_in
from normexport.proof.doubts.lost_state import require_no_lost_state
from normexport.reports import Conversion, Operators
from normexport.runtime import Array
from normexport.verbs.config import ConvertConfig
from normexport.verbs.fold import FOLDING
from normexport.verbs.outputs import conversion_inputs, conversion_outputs, write_model
from normexport.verbs.subjects import Inputs, export_inputs
from normexport.verdicts import Verdict

_LOG = logger(__name__)

OnStage = Callable[[str], None]
OnSamples = Callable[[int, int | None], None]

_DEFAULT = ConvertConfig()


def convert(
    source: Checkpoint | Callable[[], Checkpoint] | str | Path,
    output: str | Path,
    inputs: Inputs = (),
    config: ConvertConfig = _DEFAULT,
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
        output: the folder to write to.
        inputs: shapes of one sample, "3x28x28" or InputSpecs; an exported program knows its own.
        config: folding, data, precision, engine, capsule.
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
    data = proof.load_arrays(config.data, exported.inputs) if config.data is not None else None
    require_no_lost_state(checkpoint, exported.inputs, data)
    judged = _data_to_judge_on(config, data) if config.precision is not None else None
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
            report = proof.check_model(
                reference, open_onnx(model), layers, specs, data=data, sizes=config.batches, unproven=unproven
            )
            unproven = report.unproven
        reduced = None
        if config.precision is not None and not _has_failed(report, None):
            with clock.stage("precision"):
                reduced = _reduce_precision(open_onnx(model), config, specs, judged, reference, layers, on_samples)
                write_model(reduced.model, layers, model, output)
                report = report if reduced.parity is None else _with_doubts(reduced.parity, unproven)
        engine = None
        sealed = capsule_files if not _has_failed(report, reduced) else ()
        for file in sealed:
            with clock.stage("capsule"):
                known = specs, layers, config.precision, data, config.capsule_bytes
                capsules.write(capsule_of(reference, checkpoint.path, model, report, *known), file)
        if config.engine is not None and not _has_failed(report, reduced):
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
            files=(
                *(output / name for name in _files_written(folder)),
                output / "report.json",
                *(beside if sealed else ()),
            ),
            seconds=clock.seconds,
            engine=engine,
            precision=None if reduced is None else reduced.precision,
        )
        write_text(folder / "report.json", json.dumps(conversion.as_dict(), indent=1, allow_nan=False) + "\n")
    remove_unread(before)
    _LOG.info("%s: written to %s; %s", conversion.path, output, in_words(conversion.judgement))
    return conversion


def _demanding(engine: EngineConfig, precision: Half | Int8 | None) -> EngineConfig:
    """An engine of a reduced model must compute in what the model was reduced to."""
    if precision is None or engine.precision is not None:
        return engine
    return replace(engine, precision=precision.dtype if isinstance(precision, Half) else "int8")


def _with_doubts(report: proof.ParityReport, unproven: Sequence[str]) -> proof.ParityReport:
    """What was not proven of the float32 model is not proven of the one that was made of it."""
    return replace(report, unproven=tuple(dict.fromkeys((*unproven, *report.unproven))))


def _has_failed(report: proof.ParityReport, reduced: Reduced | None) -> bool:
    """Whether what was made so far is wrong; what is inconclusive is made to its end, and says so."""
    judgements = [report.judgement, *([] if reduced is None else [reduced.precision.judgement])]
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
        seconds = time.perf_counter() - start
        self.seconds += ((name, round(seconds, 3)),)
        _LOG.debug("%s took %.3f s", name, seconds)


def _data_to_judge_on(config: ConvertConfig, data: dict[str, Array] | None) -> Judged | None:
    """The data that a reduced precision is judged on, with its labels."""
    judged = None if data is None or config.data is None else Judged(data, labels_in(config.data), config.labels_for)
    if config.labels_for is not None and (judged is None or judged.labels is None):
        raise UsageError(f"--labels-for {config.labels_for}", "there are no labels", "give --data with an array labels")
    return judged


def _reduce_precision(
    model: ir.Model,
    config: ConvertConfig,
    specs: tuple[InputSpec, ...],
    judged: Judged | None,
    source: nn.Module | ExportedProgram,
    layers: Sequence[onnx_export.Layer],
    on_samples: OnSamples | None,
) -> Reduced:
    assert config.precision is not None
    precision = config.precision
    if isinstance(precision, Int8) and config.engine is not None:
        precision = replace(precision, symmetric=True)
    return reduce_precision(model, precision, specs, judged=judged, source=source, layers=layers, on_batch=on_samples)


def _files_written(folder: Path) -> list[str]:
    """File names, the model first."""
    return sorted((file.name for file in folder.iterdir()), key=lambda name: (name != "model.onnx", name))
