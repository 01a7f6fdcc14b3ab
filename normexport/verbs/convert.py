"""The verb `convert`: from a checkpoint or an ONNX file to a folded one, in the precision asked for, and proven."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from normexport import proof
from normexport.errors import EngineError
from normexport.io.atomic import Together, check_writable, together
from normexport.io.overwriting import check_outputs
from normexport.io.weight_files import remove_unread, written_with
from normexport.logs import in_words, logger
from normexport.reports import Conversion
from normexport.verbs.bundling import Made, check_bundle, write_conversion_bundle
from normexport.verbs.checked import checked
from normexport.verbs.clock import Clock, OnStage
from normexport.verbs.config import ConvertConfig
from normexport.verbs.convert_stages import (
    Asked,
    Beside,
    Folded,
    OnSamples,
    Proven,
    Start,
    make_beside,
    prove_and_reduce,
    read_source,
    seal,
    silent,
    write_folded,
)
from normexport.verbs.networks import Network, Source, open_given
from normexport.verbs.origin import files_written, ids_of
from normexport.verbs.outputs import conversion_inputs, conversion_outputs
from normexport.verbs.report import PAGE, REPORT, remove_page, write_conversion_report
from normexport.verbs.subjects import Inputs

_LOG = logger(__name__)

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
        conversion = _convert(Asked(given, output, inputs, config, clock, on_samples or silent))
    _LOG.info("%s: written to %s; %s", conversion.path, output, in_words(conversion.judgement))
    return conversion


def _convert(asked: Asked) -> Conversion:
    """All stages in their order; what they write appears together at the end."""
    output, clock = asked.output, asked.clock
    beside = _check_places(asked)
    start, graph = read_source(asked)
    before = written_with(output / "model.onnx")
    with together() as outputs:
        folder, capsule_files = outputs.folder(output, last="model.onnx"), outputs.files(*beside)
        folded = write_folded(asked, start, graph, folder)
        del graph  # the file is what is judged, and the float32 copies in memory are not small
        proven = prove_and_reduce(asked, start, folder)
        made = make_beside(asked, start, proven, folder, capsule_files)
        conversion = _result(asked, start, folded, proven, made, folder, beside)
        if asked.config.bundle is not None and made.failed is None and not proven.has_failed:
            with clock.stage("bundle"):
                bundled = _bundle(asked, start, proven, made, conversion, folder, outputs)
            conversion = replace(conversion, files=(*conversion.files, *bundled), seconds=clock.seconds)
        conversion = write_conversion_report(conversion, folder, clock)
    remove_unread(before)
    if conversion.no_page:
        remove_page(output / PAGE)
    if made.failed is not None:
        raise made.failed
    return conversion


def _check_places(asked: Asked) -> tuple[Path, ...]:
    """The files that go elsewhere than into the folder; nothing that is read is written over, before any work."""
    output, config = asked.output, asked.config
    beside = () if config.capsule is None else (Path(config.capsule),)
    inputs_read = conversion_inputs(asked.given.files(), config.data, config.engine, config.precision)
    check_bundle(config, output, inputs_read)
    outputs = conversion_outputs(
        output, config.engine, config.precision, *beside, openvino=config.openvino, bom=config.bom
    )
    check_outputs(outputs, inputs_read)
    for folder in {path.parent for path, _ in outputs} - {output}:
        check_writable(folder)
    return beside


def _result(
    asked: Asked, start: Start, folded: Folded, proven: Proven, made: Beside, folder: Path, beside: Sequence[Path]
) -> Conversion:
    """What was found and made, as it is reported."""
    output, network, failed = asked.output, start.network, made.failed
    written = (*files_written(folder), REPORT, PAGE)
    return Conversion(
        path=network.path,
        source=network.source,
        inputs=network.inputs,
        norms=network.norms,
        weight_norms=network.weight_norms,
        notes=(*network.notes, *_left_out(network), *folded.notes, *_no_engine(failed)),
        outcomes=folded.outcomes,
        warnings=folded.warnings,
        operators=folded.operators,
        parity=replace(proven.parity, batches=(), channels={}),
        files=(*(output / name for name in written), *(beside if made.sealed else ())),
        seconds=asked.clock.seconds,
        engine=made.engine,
        precision=proven.precision,
        data=start.data,
        provenance=replace(start.origin, outputs=ids_of(folder, made.sealed)),
    )


def _left_out(network: Network) -> list[str]:
    """The samples that could not be read."""
    return [] if network.data is None else [f"left out: {line}" for line in network.data.skipped]


def _no_engine(failed: EngineError | None) -> list[str]:
    return [] if failed is None else [f"no engine: {failed.place}: {failed.cause}"]


def _bundle(
    asked: Asked, start: Start, proven: Proven, made: Beside, conversion: Conversion, folder: Path, outputs: Together
) -> tuple[Path, ...]:
    """Write the folder to serve the model from, which appears with the `outputs`; its files."""
    network, classes = start.network, () if start.data is None else start.data.classes
    batches = proven.parity.batches or proof.standard_batches(network.inputs, network.few)
    word = conversion.judgement.verdict.word
    content = Made(folder, word, batches, made.engine, start.origin, classes, next(iter(made.sealed), None))
    guarded = partial(asked.given.guarded, listen=silent)
    sealing = partial(seal, start, folder / "model.onnx", proven.parity, asked.config)
    return tuple(
        write_conversion_bundle(
            network, content, asked.config, asked.output, outputs, guarded, lambda file: guarded(partial(sealing, file))
        )
    )
