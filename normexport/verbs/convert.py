"""The verb `convert`: from a checkpoint or an ONNX file to a folded one, in the precision asked for, and proven."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import onnx_ir as ir

from normexport import capsule as capsules
from normexport import proof
from normexport.capsule.conversion import capsule_of
from normexport.checkpoint import Checkpoint
from normexport.engine import EngineConfig, Manifest, ShapeRange, build_engine
from normexport.engine.shapes_of_inputs import shapes_over
from normexport.errors import EngineError, UsageError
from normexport.graphs.inline import inline_functions
from normexport.io.atomic import check_writable, replacing_all, staging, write_text
from normexport.io.onnx_model import open_onnx
from normexport.io.overwriting import check_outputs
from normexport.io.weight_files import remove_unread, written_with
from normexport.logs import in_words, logger
from normexport.onnx_export import InputSpec
from normexport.precision import EightBit, Half, Int8, Judged, Precision, check_asked, is_as_trained, reduce_precision
from normexport.precision.config import TRAINED
from normexport.precision.file_precision import require_float32
from normexport.precision.int8.grids import WeightGrid
from normexport.precision.int8.pairs_given import has_integer_grids, take_weights
from normexport.precision.reduced import Finish
from normexport.progress import say
from normexport.provenance.record import Provenance, provenance_of
from normexport.reports import Conversion, Operators
from normexport.runtime import release_memory
from normexport.runtime.exact_file import ExactFile
from normexport.runtime.guarded import Tell
from normexport.runtime.loading import crash_on_loading
from normexport.runtime.openvino_runtime import save_openvino
from normexport.verbs.bundling import Made, check_bundle, write_conversion_bundle
from normexport.verbs.checked import checked, demanding
from normexport.verbs.clock import Clock, OnStage
from normexport.verbs.config import ConvertConfig
from normexport.verbs.float32_model import fold_for, prepared_for, read_network
from normexport.verbs.networks import Given, Network, Source, open_given
from normexport.verbs.origin import bill_of_materials, files_written, ids_of, with_origin
from normexport.verbs.outputs import BOM, conversion_inputs, conversion_outputs, write_model
from normexport.verbs.real_data import RealData, data_to_judge_on
from normexport.verbs.report import PAGE, REPORT, page_of
from normexport.verbs.subjects import Inputs, opener_of
from normexport.verdicts import Verdict

_LOG = logger(__name__)

OnSamples = Callable[[int, int | None], None]

_DEFAULT = ConvertConfig()


def convert(
    source: Source,
    output: str | Path,
    inputs: Inputs = (),
    config: ConvertConfig = _DEFAULT,
    on_stage: OnStage | None = None,
    on_samples: OnSamples | None = None,
) -> Conversion:
    """Checkpoint or ONNX model -> folded ONNX file, proven against what it came from in float64.

    Writes `model.onnx`, `model.layers.json`, `report.json` and its page `report.html`, with `engine` `model.plan` and
    its manifest, with `openvino` `model.xml` and `model.bin`, with `bom` `model.cdx.json`, into the folder `output`,
    and with `capsule` that file; together, and only when all stages are through. With `bundle` a folder below `output`
    to serve it from. A model that fails parity is written too, with its verdict in the report, without a plan,
    OpenVINO's files, a capsule and a bundle; one that is neither proven nor wrong gets them all.

    Args:
        source: a checkpoint, an ONNX model, the path of either (of an ONNX file, it ends in .onnx) where it needs no
            further options, or a function that loads one. An ONNX model needs no torch.
        output: the folder to write to.
        inputs: shapes of one sample, "3x28x28" or InputSpecs; exported programs and ONNX models know their own.
        config: folding, data, precision, runtime, engine, capsule.
        on_stage: called with the name of each stage as it begins.
        on_samples: called during calibration with the samples seen, and how many there will be (None: not known).

    Raises:
        EngineError: the engine could not be built; all else is written.
        NormExportError: of whatever other stage failed; nothing is written then.
    """
    output = Path(output)
    check_writable(output)
    config = checked(config)
    check_bundle(config, output)
    clock = Clock(on_stage)
    with clock.stage("load"):
        given = open_given(source, config.weights_under)
    with given.named():
        conversion = _convert(given, output, inputs, config, clock, on_samples or _silent)
    _LOG.info("%s: written to %s; %s", conversion.path, output, in_words(conversion.judgement))
    return conversion


def _convert(
    given: Given, output: Path, inputs: Inputs, config: ConvertConfig, clock: Clock, on_samples: OnSamples
) -> Conversion:
    beside = () if config.capsule is None else (Path(config.capsule),)
    inputs_read = conversion_inputs(given.files(), config.data, config.engine, config.precision)
    check_bundle(config, output, inputs_read)
    outputs = conversion_outputs(
        output, config.engine, config.precision, *beside, openvino=config.openvino, bom=config.bom
    )
    check_outputs(outputs, inputs_read)
    for folder in {path.parent for path, _ in outputs} - {output}:
        check_writable(folder)
    with clock.stage("export") if isinstance(given.subject, Checkpoint) else nullcontext():
        network, graph = read_network(given, inputs, config)
    graph, weights = _as_trained(network, graph, config)
    data = RealData.of(config)
    judged = data_to_judge_on(config, data, network.data, network.inputs) if config.precision is not None else None
    read = None if data is None else data.read(network.inputs)
    with clock.stage("fold"):
        folded = fold_for(graph, config)
        operators = Operators.of(graph, folded.model)
        made, raised = prepared_for(folded.model, config)
        if config.precision is not None:
            given.guarded(partial(_check_asked, made, config.precision, network, judged), _silent)
    origin = provenance_of([path for path, _ in given.files()], config, inputs)
    before = written_with(output / "model.onnx")
    with replacing_all(*beside) as capsule_files, staging(output, last="model.onnx") as folder:
        with clock.stage("write"):
            model = folder / "model.onnx"
            plain = made if config.precision is not None else _finish(config)(made)
            write_model(with_origin(plain, origin), network.layers, model, output)
            del plain
        norms, warnings = folded.norms, folded.warnings
        del graph, folded, made  # the file is what is judged, and the float32 copies in memory are not small
        release_memory()
        with clock.stage("parity"):
            report = given.guarded(partial(_judge, network, model, config), _silent)
        precision = None
        if config.precision is not None and not _has_failed(report, None):
            with clock.stage("precision"):
                reduce = partial(_reduce, network, model, config, judged, output, weights, origin)
                precision, parity = given.guarded(reduce, on_samples)
                report = report if parity is None else _with_doubts(parity, report.unproven)
        engine, failed = None, None
        sealed = capsule_files if not _has_failed(report, precision) else ()
        for file in sealed:
            with clock.stage("capsule"):
                given.guarded(partial(_seal, network, model, report, config, file), _silent)
        if config.openvino and not _has_failed(report, precision):
            with clock.stage("openvino"):
                given.guarded(partial(_write_openvino, network, model), _silent)
        if config.engine is not None and not _has_failed(report, precision):
            with clock.stage("engine"):
                engine, failed = _built(config.engine, network, config, folder, output)
        if config.bom:
            verdicts = {"parity": report.judgement, **({} if precision is None else {"precision": precision.judgement})}
            write_text(folder / BOM, bill_of_materials(network.path.stem, origin, folder, verdicts))
        conversion = Conversion(
            path=network.path,
            source=network.source,
            inputs=network.inputs,
            norms=network.norms,
            weight_norms=network.weight_norms,
            notes=(*network.notes, *raised, *([f"no engine: {failed.place}: {failed.cause}"] if failed else ())),
            outcomes=norms,
            warnings=warnings,
            operators=operators,
            parity=replace(report, batches=(), channels={}),
            files=(
                *(output / name for name in files_written(folder)),
                output / REPORT,
                output / PAGE,
                *(beside if sealed else ()),
            ),
            seconds=clock.seconds,
            engine=engine,
            precision=precision,
            data=read,
            provenance=replace(origin, outputs=ids_of(folder, sealed)),
        )
        if config.bundle is not None and failed is None and not _has_failed(report, precision):
            classes = () if read is None else read.classes
            batches = report.batches or proof.standard_batches(network.inputs, network.data)
            known = conversion.judgement.verdict.word, batches, engine, origin, classes, next(iter(sealed), None)
            guarded = partial(given.guarded, listen=_silent)
            seal = partial(_seal, network, model, report, config)
            with clock.stage("bundle"):
                bundled = write_conversion_bundle(
                    network, Made(folder, *known), config, output, guarded, lambda file: guarded(partial(seal, file))
                )
            conversion = replace(conversion, files=(*conversion.files, *bundled), seconds=clock.seconds)
        told = conversion.as_dict()
        write_text(folder / REPORT, json.dumps(told, indent=1, allow_nan=False) + "\n")
        with clock.stage("report"):
            write_text(folder / PAGE, page_of(told, open_onnx(model), folder))
    remove_unread(before)
    if failed is not None:
        raise failed
    return conversion


def _built(
    engine: EngineConfig, network: Network, config: ConvertConfig, folder: Path, output: Path
) -> tuple[Manifest | None, EngineError | None]:
    """The plan of the written file, or why there is none: the file is proven whatever becomes of its plan."""
    asked = demanding(_spanning(engine, network.inputs), config.precision)
    try:
        return build_engine(folder / "model.onnx", folder / "model.plan", asked, say), None
    except EngineError as error:
        return None, _beside_the_file(error, folder, output)


def _beside_the_file(error: EngineError, folder: Path, output: Path) -> EngineError:
    """The error of an engine whose ONNX file is written all the same; `folder` is where it was made."""
    place, cause, remedy = (part.replace(str(folder), str(output)) for part in (error.place, error.cause, error.remedy))
    remedy = remedy.replace("(--log FILE)", "(normexport build --log FILE)")
    return EngineError(place, cause, f"{remedy}; {output / 'model.onnx'} is written, and its report")


def _finish(config: ConvertConfig) -> Finish:
    """What makes the file of the model that was made."""
    return inline_functions if config.inline else _as_it_is


def _as_it_is(model: ir.Model) -> ir.Model:
    return model


def _as_trained(network: Network, graph: ir.Model, config: ConvertConfig) -> tuple[ir.Model, Mapping[str, WeightGrid]]:
    """The graph with its weights rounded as in training and their grids, where int8 is to have these.

    Raises:
        FoldError: a reduced precision is asked for that is not for a graph with quantisation.
        UsageError: a network of fake quantisation is to be a float32 file, of which runtimes make another in int8.
    """
    if is_as_trained(config.precision):
        return take_weights(graph)
    if config.precision is not None:
        require_float32(graph)
    elif network.source != "onnx" and has_integer_grids(graph):
        cause = "was trained with fake quantisation, which computes in int8"
        remedy = f"pass --precision int8 --calibration {TRAINED}; or export it, or leave it out with --unquantised"
        raise UsageError(str(network.path), cause, remedy)
    return graph, {}


def _judge(network: Network, model: Path, config: ConvertConfig, _: Tell) -> proof.ParityReport:
    """The written file against the network."""
    return proof.check_model(
        network.reference,
        open_onnx(model),
        network.layers,
        network.inputs,
        data=network.data,
        sizes=config.batches,
        unproven=network.unproven,
        # Fake quantisation as it is: the integers that a runtime makes of it round biases too. int8 is judged later.
        on=ExactFile if is_as_trained(config.precision) else opener_of(config.runtime),
    )


def _check_asked(model: ir.Model, precision: Half | EightBit, network: Network, judged: Judged | None, _: Tell) -> None:
    """What the precision would refuse after the proof of the float32 file, it refuses before."""
    check_asked(model, precision, network.inputs, judged)


def _reduce(
    network: Network,
    model: Path,
    config: ConvertConfig,
    judged: Judged | None,
    output: Path,
    weights: Mapping[str, WeightGrid],
    origin: Provenance,
    tell: Tell,
) -> tuple[Precision, proof.ParityReport | None]:
    """Reduce the written file in its place; what that did, and for half precision its parity."""
    precision = config.precision
    assert precision is not None
    if isinstance(precision, Int8) and config.engine is not None:
        precision = replace(precision, symmetric=True)
    reduced = reduce_precision(
        open_onnx(model),
        precision,
        network.inputs,
        judged=judged,
        source=network.reference,
        layers=network.layers,
        on_batch=tell,
        on=opener_of(config.runtime),
        finish=_finish(config),
        weights=weights,
        for_engine=config.engine is not None,
    )
    write_model(with_origin(reduced.model, origin), network.layers, model, output)
    crash = crash_on_loading(model)  # what was judged is its arithmetic; of the file itself this is the first use
    done = reduced.precision if crash is None else replace(reduced.precision, notes=(*reduced.precision.notes, crash))
    return done, reduced.parity


def _write_openvino(network: Network, model: Path, _: Tell) -> None:
    """Write OpenVINO's files beside the written one, seen to give the same bytes."""
    batches = proof.standard_batches(network.inputs, network.data)
    save_openvino(open_onnx(model), model.with_suffix(".xml"), min(batches, key=lambda batch: batch.size).feeds)


def _seal(
    network: Network, model: Path, report: proof.ParityReport, config: ConvertConfig, file: Path, _: Tell
) -> None:
    """Write the capsule by which the written file is judged elsewhere."""
    known = network.inputs, network.layers, config.precision, network.data, config.capsule_bytes
    made = capsule_of(network.reference, network.path, model, report, *known)
    data = RealData.of(config)
    read = None if data is None else data.read(network.inputs)
    told = () if read is None else (f"data {read.path}: {read.words}",)
    capsules.write(replace(made, notes=(*made.notes, *told)), file)


def _silent(*words: object) -> None:
    """Nobody listens."""


def _spanning(engine: EngineConfig, inputs: Sequence[InputSpec]) -> EngineConfig:
    """An engine's profile has the sizes given and goes over the ranges of open ones, where no shapes are asked for."""
    if engine.ranges != (ShapeRange(),):
        return engine
    return replace(engine, shapes=shapes_over(inputs))


def _with_doubts(report: proof.ParityReport, unproven: Sequence[str]) -> proof.ParityReport:
    """What was not proven of the float32 model is not proven of the one that was made of it."""
    return replace(report, unproven=tuple(dict.fromkeys((*unproven, *report.unproven))))


def _has_failed(report: proof.ParityReport, precision: Precision | None) -> bool:
    """Whether what was made so far is wrong; what is inconclusive is made to its end, and says so."""
    judgements = [report.judgement, *([] if precision is None else [precision.judgement])]
    return any(judgement.verdict is Verdict.FAILED for judgement in judgements)
