"""The bundle of a conversion: `convert --bundle triton|kserve|folder`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import onnx_ir as ir

from normexport import plugins
from normexport.bundle.assemble import assemble
from normexport.bundle.batching import batching_of
from normexport.bundle.content import Batching, Content, ServedPort, name_after, require_name
from normexport.bundle.kinds import KINDS
from normexport.bundle.triton import require_triton_kit
from normexport.bundle.write import check_folder, write_bundle
from normexport.capsule.content import type_name
from normexport.engine import Manifest
from normexport.engine.flavor import TENSORRT, flavor
from normexport.engine.manifest import FileId
from normexport.errors import UsageError
from normexport.graphs.port_names import read_inputs
from normexport.io.atomic import Together, scratch
from normexport.io.onnx_model import open_onnx
from normexport.proof import Batch
from normexport.provenance.record import Provenance
from normexport.runtime.exact import exact_runtime
from normexport.runtime.guarded import Tell
from normexport.verbs.config import ConvertConfig
from normexport.verbs.networks import Network
from normexport.verbs.outputs import BOM

Seal = Callable[[Path], None]
Guard = Callable[[Callable[[Tell], Batching]], Batching]


@dataclass(frozen=True)
class Made:
    """What a conversion made, as far as a bundle needs it.

    Attributes:
        folder: where model.onnx, its data and model.plan lie.
        verdict: the word of its judgement.
        batches: the inputs of the proof.
        classes: names of the classes of the data, if it has any.
    """

    folder: Path
    verdict: str
    batches: Sequence[Batch]
    manifest: Manifest | None
    provenance: Provenance
    classes: tuple[str, ...]
    capsule: Path | None


def bundle_folder(output: Path, config: ConvertConfig) -> Path | None:
    """Where the bundle goes; None: there is to be none."""
    return None if config.bundle is None else output / config.bundle


def check_bundle(config: ConvertConfig, output: Path, inputs: Sequence[tuple[Path, str]] = ()) -> None:
    """Tell before any work what keeps a bundle from being made.

    Raises:
        UsageError: no such kind, a name that no server takes, a plan that Triton does not open, a folder that holds
            something else or one of the inputs.
        MissingComponent: what checks configurations of Triton is not installed.
    """
    folder = bundle_folder(output, config)
    if folder is None:
        if config.bundle_name is not None:
            raise UsageError("--bundle-name", "has no bundle to go to", f"add --bundle {'|'.join(KINDS)}")
        return
    if config.bundle_name is not None:
        require_name(config.bundle_name)
    if config.bundle != "folder":
        if config.engine is not None and flavor(config.engine.flavor) is not TENSORRT:
            cause = "means a server that opens plans of enterprise TensorRT alone"
            remedy = f"build with --flavor {TENSORRT.short}, or leave --engine out"
            raise UsageError(f"--bundle {config.bundle}", cause, remedy)
        require_triton_kit()
    check_folder(folder)
    real = folder.resolve()
    for path, words in inputs:
        if path.resolve().is_relative_to(real):
            raise UsageError(str(folder), f"would take the place of {words}, {path}", "choose another -o")


def write_conversion_bundle(
    network: Network, made: Made, config: ConvertConfig, output: Path, outputs: Together, guarded: Guard, seal: Seal
) -> tuple[Path, ...]:
    """Write the bundle into its folder below `output`; returns its files.

    Args:
        outputs: with which the bundle appears: the files of the conversion.
        guarded: runs what computes on a stranger's graph.
        seal: writes a capsule to a path; raises UsageError where none can be made.
    """
    folder = bundle_folder(output, config)
    if folder is None or config.bundle is None:
        return ()
    model = open_onnx(made.folder / "model.onnx")
    ports = tuple(map(_port, read_inputs(model))), tuple(map(_port, model.graph.outputs))
    served = made.manifest if config.bundle != "folder" else None
    batching = guarded(partial(_batching, network, made, ports, served))
    files, kept = _files(made, config, served)
    del model
    with scratch() as place:
        capsule, notes = made.capsule, kept
        if capsule is None:
            capsule, told = _sealed(place / "model.capsule.npz", seal)
            notes += told
        sample = made.batches[0]
        content = Content(
            config.bundle_name or name_after(network.path.stem),
            *ports,
            batching,
            sample.feeds,
            sample.size,
            _labels(ports[1], made.classes, config.labels_for),
            files,
            served,
            capsule,
            _record(made),
            made.verdict,
            notes,
            {BOM: made.folder / BOM} if config.bom else {},
        )
        return write_bundle(assemble(config.bundle, content), folder, outputs)


def _port(value: ir.Value) -> ServedPort:
    sizes = () if value.shape is None else value.shape.dims
    return ServedPort(
        str(value.name), type_name(value.dtype), tuple(size if isinstance(size, int) else None for size in sizes)
    )


def _batching(
    network: Network,
    made: Made,
    ports: tuple[tuple[ServedPort, ...], tuple[ServedPort, ...]],
    manifest: Manifest | None,
    _: Tell,
) -> Batching:
    names = [port.name for port in ports[1]]
    exact = exact_runtime(network.reference, network.inputs, names, network.layers)
    return batching_of(exact, made.batches, network.inputs, ports, manifest)


def _files(made: Made, config: ConvertConfig, served: Manifest | None) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The model's files by name, with the plugin library that its plan needs beside it; and notes."""
    data = [file.name for file in made.folder.glob("*.data")]
    plan = ["model.plan"] if made.manifest is not None else []
    names = ["model.onnx", *data, *plan, *(["model.plan.json"] if plan else [])] if served is None else plan
    files = {name: made.folder / name for name in names}
    manifest = served
    if manifest is None or manifest.plugin is None or manifest.embedded:
        return files, ()
    given = config.engine.plugin_library if config.engine is not None else None
    library = Path(given) if given is not None else plugins.find("tensorrt")
    if library is None or FileId.of(library).sha256 != manifest.plugin.sha256:
        cause = f"needs the plugin library {manifest.plugin.file}, which is not the one that is found now"
        raise UsageError("--bundle", cause, "convert again")
    return {**files, library.name: library}, (f"{library.name} holds operators of the plan, and is preloaded",)


def _sealed(path: Path, seal: Seal) -> tuple[Path | None, tuple[str, ...]]:
    try:
        seal(path)
    except UsageError as error:
        return None, (f"no capsule: {error.place} {error.cause}",)
    return path, ()


def _labels(
    outputs: Sequence[ServedPort], classes: tuple[str, ...], named: str | None
) -> Mapping[str, tuple[str, ...]]:
    """The classes belong to the output that was named, else to the only one that has a score for each."""
    fitting = [port.name for port in outputs if classes and port.shape[-1:] == (len(classes),)]
    chosen = [name for name in fitting if named in (None, name)]
    return {chosen[0]: classes} if len(chosen) == 1 else {}


def _record(made: Made) -> dict[str, object]:
    """Versions, hashes and options for `model.bundle.json`."""
    known = made.provenance
    source = [{"file": file.file, "bytes": file.bytes, "sha256": file.sha256} for file in known.source]
    onnx = FileId.of(made.folder / "model.onnx").sha256
    return {"versions": dict(known.versions), "source": source, "options": known.options, "onnx_sha256": onnx}
