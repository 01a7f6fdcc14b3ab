"""The stages of `convert`, each a function on frozen values, and these values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
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
from normexport.folding import FoldWarning, NormOutcome
from normexport.graphs.inline import inline_functions
from normexport.io.atomic import write_text
from normexport.io.onnx_model import open_onnx
from normexport.onnx_export import InputSpec
from normexport.precision import EightBit, Half, Int8, Judged, Precision, check_asked, is_as_trained, reduce_precision
from normexport.precision.config import TRAINED
from normexport.precision.file_precision import require_float32
from normexport.precision.int8.grids import WeightGrid
from normexport.precision.int8.pairs_given import has_integer_grids, take_weights
from normexport.precision.reduced import Finish
from normexport.progress import say
from normexport.proof.inputs.folders import FolderRead
from normexport.provenance.record import Provenance, provenance_of
from normexport.reports import Operators
from normexport.runtime import release_memory
from normexport.runtime.around import exact_file
from normexport.runtime.guarded import Tell
from normexport.runtime.loading import crash_on_loading
from normexport.runtime.openvino_runtime import save_openvino
from normexport.verbs.checked import demanding
from normexport.verbs.clock import Clock
from normexport.verbs.config import ConvertConfig
from normexport.verbs.float32_model import fold_for, prepared_for, read_network
from normexport.verbs.networks import Given, Network
from normexport.verbs.origin import bill_of_materials, with_origin
from normexport.verbs.outputs import BOM, write_model
from normexport.verbs.real_data import RealData, data_to_judge_on
from normexport.verbs.subjects import Inputs, opener_of
from normexport.verdicts import Verdict

OnSamples = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Asked:
    """What one conversion is asked for.

    Attributes:
        given: the checkpoint or ONNX model, opened.
        output: the folder to write to.
        inputs: shapes of one sample.
        clock: times each stage, and tells that it begins.
        on_samples: see `convert`.
    """

    given: Given
    output: Path
    inputs: Inputs
    config: ConvertConfig
    clock: Clock
    on_samples: OnSamples


@dataclass(frozen=True)
class Start:
    """What was read, beside the graph.

    Attributes:
        weights: the grids of weights that were rounded as in training.
        judged: the data that a reduced precision is judged on.
        data: what was done to the images of a folder.
        origin: what is written into the files about what they came from.
    """

    network: Network
    weights: Mapping[str, WeightGrid]
    judged: Judged | None
    data: FolderRead | None
    origin: Provenance


@dataclass(frozen=True)
class Folded:
    """What became of the graph; the model itself is in its file."""

    outcomes: tuple[NormOutcome, ...]
    warnings: tuple[FoldWarning, ...]
    operators: Operators
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Proven:
    """What the written file was found to be, in float32 or in the precision that it was reduced to."""

    parity: proof.ParityReport
    precision: Precision | None

    @property
    def has_failed(self) -> bool:
        """Whether the file is wrong; one that is inconclusive gets all that belongs to it, and says so."""
        judgements = [self.parity.judgement, *([] if self.precision is None else [self.precision.judgement])]
        return any(judgement.verdict is Verdict.FAILED for judgement in judgements)


@dataclass(frozen=True)
class Beside:
    """What was made of the proven file.

    Attributes:
        engine: the manifest of its plan.
        failed: why the plan that was asked for is not there.
        sealed: the capsule's file, where one was written.
    """

    engine: Manifest | None
    failed: EngineError | None
    sealed: tuple[Path, ...]


def read_source(asked: Asked) -> tuple[Start, ir.Model]:
    """The network, its graph, and the data that comes with it; a checkpoint is exported."""
    given, config = asked.given, asked.config
    with asked.clock.stage("export") if isinstance(given.subject, Checkpoint) else nullcontext():
        network, graph = read_network(given, asked.inputs, config)
    graph, weights = _as_trained(network, graph, config)
    data = RealData.of(config)
    judged = data_to_judge_on(config, data, network.data, network.inputs) if config.precision is not None else None
    read = None if data is None else data.read(network.inputs)
    said = given.subject.asked if isinstance(given.subject, Checkpoint) else {}
    origin = provenance_of([path for path, _ in given.files()], config, asked.inputs, said)
    return Start(network, weights, judged, read, origin), graph


def write_folded(asked: Asked, start: Start, graph: ir.Model, folder: Path) -> Folded:
    """Fold the graph, and write the float32 file of it.

    Raises:
        NormExportError: the precision that is asked for would refuse it.
    """
    config, network = asked.config, start.network
    with asked.clock.stage("fold"):
        folded = fold_for(graph, config)
        operators = Operators.of(graph, folded.model)
        made, notes = prepared_for(folded.model, config)
        if config.precision is not None:
            asked.given.guarded(partial(_check_asked, made, config.precision, network, start.judged), silent)
    with asked.clock.stage("write"):
        plain = made if config.precision is not None else _finish(config)(made)
        write_model(with_origin(plain, start.origin), network.layers, folder / "model.onnx", asked.output)
    return Folded(folded.norms, folded.warnings, operators, notes)


def prove_and_reduce(asked: Asked, start: Start, folder: Path) -> Proven:
    """Judge the written file, and reduce its precision in its place where that is asked for and the file is right."""
    release_memory()
    given, network, model = asked.given, start.network, folder / "model.onnx"
    with asked.clock.stage("parity"):
        report = given.guarded(partial(_judge, network, model, asked.config), silent)
    proven = Proven(report, None)
    if asked.config.precision is None or proven.has_failed:
        return proven
    with asked.clock.stage("precision"):
        reduced = given.guarded(partial(_reduce, asked, start, model), asked.on_samples)
        precision, parity = reduced
    return Proven(report if parity is None else _with_doubts(parity, report.unproven), precision)


def make_beside(asked: Asked, start: Start, proven: Proven, folder: Path, capsule_files: Sequence[Path]) -> Beside:
    """The capsule, OpenVINO's files, the plan and the bill of materials; of a file that failed, the last alone."""
    config, network, model = asked.config, start.network, folder / "model.onnx"
    sealed = () if proven.has_failed else tuple(capsule_files)
    for file in sealed:
        with asked.clock.stage("capsule"):
            asked.given.guarded(partial(seal, start, model, proven.parity, config, file), silent)
    if config.openvino and not proven.has_failed:
        with asked.clock.stage("openvino"):
            asked.given.guarded(partial(_write_openvino, network, model), silent)
    engine, failed = None, None
    if config.engine is not None and not proven.has_failed:
        with asked.clock.stage("engine"):
            engine, failed = _built(config.engine, network, config, folder, asked.output)
    if config.bom:
        judged = {"parity": proven.parity.judgement}
        if proven.precision is not None:
            judged["precision"] = proven.precision.judgement
        write_text(folder / BOM, bill_of_materials(network.path.stem, start.origin, folder, judged))
    return Beside(engine, failed, sealed)


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
        data=network.few,
        sizes=config.batches,
        unproven=network.unproven,
        # Fake quantisation as it is: the integers that a runtime makes of it round biases too. int8 is judged later.
        on=exact_file if is_as_trained(config.precision) else opener_of(config.runtime),
    )


def _check_asked(model: ir.Model, precision: Half | EightBit, network: Network, judged: Judged | None, _: Tell) -> None:
    """What the precision would refuse after the proof of the float32 file, it refuses before."""
    check_asked(model, precision, network.inputs, judged)


def _reduce(asked: Asked, start: Start, model: Path, tell: Tell) -> tuple[Precision, proof.ParityReport | None]:
    """Reduce the written file in its place; what that did, and for half precision its parity."""
    config, network = asked.config, start.network
    precision = config.precision
    assert precision is not None
    if isinstance(precision, Int8) and config.engine is not None:
        precision = replace(precision, symmetric=True)
    reduced = reduce_precision(
        open_onnx(model),
        precision,
        network.inputs,
        judged=start.judged,
        source=network.reference,
        layers=network.layers,
        on_batch=tell,
        on=opener_of(config.runtime),
        finish=_finish(config),
        weights=start.weights,
        for_engine=config.engine is not None,
    )
    write_model(with_origin(reduced.model, start.origin), network.layers, model, asked.output)
    crash = crash_on_loading(model)  # what was judged is its arithmetic; of the file itself this is the first use
    done = reduced.precision if crash is None else replace(reduced.precision, notes=(*reduced.precision.notes, crash))
    return done, reduced.parity


def _write_openvino(network: Network, model: Path, _: Tell) -> None:
    """Write OpenVINO's files beside the written one, seen to give the same bytes."""
    batches = proof.standard_batches(network.inputs, network.few)
    save_openvino(open_onnx(model), model.with_suffix(".xml"), min(batches, key=lambda batch: batch.size).feeds)


def seal(start: Start, model: Path, report: proof.ParityReport, config: ConvertConfig, file: Path, _: Tell) -> None:
    """Write the capsule by which the written file is judged elsewhere."""
    network = start.network
    known = network.inputs, network.layers, config.precision, network.few, config.capsule_bytes
    made = capsule_of(network.reference, network.path, model, report, *known)
    read = start.data
    told = () if read is None else (f"data {read.path}: {read.words}",)
    capsules.write(replace(made, notes=(*made.notes, *told)), file)


def silent(*words: object) -> None:
    """Nobody listens."""


def _spanning(engine: EngineConfig, inputs: Sequence[InputSpec]) -> EngineConfig:
    """An engine's profile has the sizes given and goes over the ranges of open ones, where no shapes are asked for."""
    if engine.ranges != (ShapeRange(),):
        return engine
    return replace(engine, shapes=shapes_over(inputs))


def _with_doubts(report: proof.ParityReport, unproven: Sequence[str]) -> proof.ParityReport:
    """What was not proven of the float32 model is not proven of the one that was made of it."""
    return replace(report, unproven=tuple(dict.fromkeys((*unproven, *report.unproven))))
